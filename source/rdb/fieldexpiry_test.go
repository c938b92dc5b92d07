package rdb

import (
	"testing"

	"twinlog/schema"
)

// expiringHash is one form of a hash with expiries of fields.
type expiringHash struct {
	name    string
	magic   string
	version uint16
	file    file
}

const (
	soon = 4102444800123   // 2100
	late = 1<<48 - 1       // the latest of a Redis
	next = soon + 86400000 // a day later
)

// expiringHashes are the fields of expiringFields in each form.
func expiringHashes() []expiringHash {
	packed := packListpack("a", "1", soon, 7, "two", next, "c", 3, 0, "d", "", late)
	return []expiringHash{
		{"hash of a release candidate", "REDIS0012", 12, file{}.key(22, "k").length(4).length(soon).strings("a", "1").length(next).strings("7", "two").
			length(0).strings("c", "3").length(late).strings("d", "")},
		{"packed hash of a release candidate", "REDIS0012", 12, file{}.key(23, "k").strings(packed)},
		{"hash", "REDIS0012", 12, file{}.key(24, "k").le64(soon).length(4).length(1).strings("a", "1").length(next-soon+1).strings("7", "two").
			length(0).strings("c", "3").length(late-soon+1).strings("d", "")},
		{"packed hash", "REDIS0013", 13, file{}.key(25, "k").le64(soon).strings(packed)},
		{"hash of Valkey", "VALKEY080", 80, file{}.key(22, "k").length(4).strings("a", "1").le64(soon).strings("7", "two").le64(next).
			strings("c", "3").le64(-1).strings("d", "").le64(late)},
	}
}

func expiringFields() schema.Value {
	v := hashOf("a", "1", "7", "two", "c", "3", "d", "")
	for i, at := range []int64{soon, next, 0, late} {
		if at != 0 {
			v.Hash[i].ExpireAt = schema.OptInt64{Set: true, Int64: at}
		}
	}
	return v
}

func TestReaderReadsExpiriesOfFieldsInEveryForm(t *testing.T) {
	for _, c := range expiringHashes() {
		t.Run(c.name, func(t *testing.T) {
			data := append(newFile(c.magic), c.file...).key(4, "next").length(1).strings("f", "v").end()
			for _, chunk := range []int{0, 1, 20} {
				got := values(t, data, Options{ChunkBytes: chunk})
				if d := diff(item{Value: expiringFields()}, item{Value: got["k"].Value}); d != "" {
					t.Errorf("chunk %d (-want +got):\n%s", chunk, d)
				}
				if chunk == 1 && got["k"].parts != 4 {
					t.Errorf("%d parts", got["k"].parts)
				}
				if d := diff(item{Value: hashOf("f", "v")}, item{Value: got["next"].Value}); d != "" {
					t.Errorf("the next key (-want +got):\n%s", d)
				}
			}
			got, joined, err := readDump(dumpedBy(c.version, c.file[0], c.file[len("\x00\x01k"):]), "k", Options{ChunkBytes: 1})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []schema.Value{got.Value, joined} {
				if d := diff(item{Value: expiringFields()}, item{Value: v}); d != "" {
					t.Errorf("DUMP (-want +got):\n%s", d)
				}
			}
		})
	}
}

// A relative expiry counts from the hash's own earliest, also when that is 0.
func TestReaderKeepsTheFirstMillisecondOfRelativeExpiries(t *testing.T) {
	data := newFile("REDIS0012").key(24, "k").le64(0).length(1).length(1).strings("a", "1").end()
	want := hashOf("a", "1")
	want.Hash[0].ExpireAt.Set = true
	if d := diff(item{Value: want}, item{Value: values(t, data, Options{})["k"].Value}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
