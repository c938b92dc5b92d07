package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"twinlog/schema"
)

func newTestSpool(t *testing.T, maxBytes int64) *spool {
	t.Helper()
	s := newSpool(filepath.Join(t.TempDir(), "spool", "l"), "a-0", "source-a", maxBytes)
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if left := filesOf(t, s); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	return s
}

func filesOf(t *testing.T, s *spool) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// randomBatch makes a batch of records with keys and values, empty ones and
// none too.
func randomBatch(random *rand.Rand, most int) *batch {
	b := &batch{}
	text := func() []byte {
		p := make([]byte, random.IntN(most))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		return p
	}
	for range 1 + random.IntN(50) {
		hasKey := random.IntN(4) > 0
		if hasKey {
			b.keys = append(b.keys, text()...)
		}
		b.values = append(b.values, text()...)
		ops := []schema.Op{schema.OpValue, schema.OpWrite, schema.OpDelete, schema.OpControl}
		b.records = append(b.records, record{keyEnd: len(b.keys), valueEnd: len(b.values), hasKey: hasKey, op: ops[random.IntN(len(ops))]})
	}
	b.weigh()
	return b
}

func TestSpoolGivesBackWhatItTookInAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	s := newTestSpool(t, 8<<20)
	kept := map[spot]*batch{}
	var into batch // used again and again, as spare batches are
	for seq := range int64(1000) {
		b := randomBatch(random, 1000)
		at, err := s.write(b, seq)
		switch {
		case errors.Is(err, errSpoolFull) && len(kept) > 0:
		case err != nil:
			t.Fatal(err)
		default:
			kept[at] = b
		}
		for at, want := range kept {
			if random.IntN(100) > 0 {
				continue
			}
			if err := s.read(at, &into); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want.keys, into.keys) || !bytes.Equal(want.values, into.values) || !slices.Equal(want.records, into.records) {
				t.Fatalf("batch %d came back otherwise", at.seq)
			}
			s.free(at)
			delete(kept, at)
		}
		onDisk := int64(0)
		for _, name := range filesOf(t, s) {
			info, err := os.Stat(filepath.Join(s.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			onDisk += info.Size()
		}
		if onDisk != s.bytes() || onDisk > s.max {
			t.Fatalf("%d bytes on disk, %d are counted, at most %d are allowed", onDisk, s.bytes(), s.max)
		}
	}
	for at := range kept {
		s.free(at)
	}
	if s.bytes() != 0 || len(filesOf(t, s)) != 0 {
		t.Errorf("%d bytes in %q are left when nothing is wanted", s.bytes(), filesOf(t, s))
	}
}

func TestSpoolThatIsFullTakesNothingAndSaysSo(t *testing.T) {
	s := newTestSpool(t, 100)
	b := &batch{values: make([]byte, 80), records: []record{{valueEnd: 80, op: schema.OpWrite}}}
	at, err := s.write(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.write(b, 2); !errors.Is(err, errSpoolFull) {
		t.Errorf("error %v", err)
	}
	s.free(at)
	if _, err := s.write(b, 2); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// Whatever happens to a file: a batch comes back whole, or not at all.
func TestSpoolFilesThatWereDamaged(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, f *os.File, at spot)
		want   string
	}{
		{"a bit is flipped", func(t *testing.T, f *os.File, at spot) {
			t.Helper()
			place := at.from + random.Int64N(at.size())
			one := make([]byte, 1)
			if _, err := f.ReadAt(one, place); err != nil {
				t.Fatal(err)
			}
			one[0] ^= 1 << random.IntN(8)
			if _, err := f.WriteAt(one, place); err != nil {
				t.Fatal(err)
			}
		}, "checksum"},
		{"it is cut", func(t *testing.T, f *os.File, at spot) {
			t.Helper()
			if err := f.Truncate(at.from + random.Int64N(at.size())); err != nil {
				t.Fatal(err)
			}
		}, "unexpected EOF"},
		{"another batch stands there", func(t *testing.T, f *os.File, at spot) {
			t.Helper()
			frame := make([]byte, at.size())
			if _, err := f.ReadAt(frame, at.from-at.size()); err != nil { // the one before is as long
				t.Fatal(err)
			}
			if _, err := f.WriteAt(frame, at.from); err != nil {
				t.Fatal(err)
			}
		}, "it ends with seq 1 instead of 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 50 {
				s := newTestSpool(t, 1<<20)
				b := randomBatch(random, 100)
				if _, err := s.write(b, 1); err != nil {
					t.Fatal(err)
				}
				at, err := s.write(b, 2)
				if err != nil {
					t.Fatal(err)
				}
				tt.damage(t, at.segment.file, at)
				err = s.read(at, &batch{})
				var damaged *SpoolError
				if !errors.As(err, &damaged) {
					t.Fatalf("error %v", err)
				}
				for _, want := range []string{tt.want, at.segment.file.Name(), fmt.Sprintf("at byte %d", at.from), "resume source-a"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is not in: %v", want, err)
					}
				}
				if !final(err) {
					t.Error("a new ring would not help")
				}
			}
		})
	}
}

// fullDisk makes what the spool writes next meet a disk without room.
func fullDisk(t *testing.T, s *spool) {
	t.Helper()
	link := filepath.Join(t.TempDir(), "full")
	if err := os.Symlink("/dev/full", link); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(link, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &segment{file: f}
	s.all, s.filling = append(s.all, g), g
}

func TestSpoolOnAFullDiskTakesNothing(t *testing.T) {
	s := newTestSpool(t, 1<<20)
	b := randomBatch(rand.New(rand.NewPCG(7, 8)), 100)
	fullDisk(t, s)
	_, err := s.write(b, 1)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room there, or lower spool.max_bytes") || !strings.Contains(err.Error(), "/full") {
		t.Errorf("error %v", err)
	}
	if s.bytes() != 0 {
		t.Errorf("%d bytes are counted", s.bytes())
	}
	if _, err := s.write(b, 1); err != nil {
		t.Errorf("the disk has room again: %v", err)
	}
}

func TestSpoolBeginsWithoutWhatAKilledProcessLeft(t *testing.T) {
	s := newTestSpool(t, 1<<20)
	others := []string{"spool-b-0-17", "spool-a-0-1-17", "spool-a-0-x", "ledger-a-17"}
	for _, name := range append([]string{"spool-a-0-17", "spool-a-0-4711"}, others...) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(others, filesOf(t, s), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Error(diff)
	}
	for _, name := range others {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpoolThatCannotBeWrittenSaysSoAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := newSpool(filepath.Join(file, "l"), "a-0", "source-a", 1<<20).begin()
	for _, err := range []error{refused, &SpoolError{Err: &fs.PathError{Op: "mkdir", Path: file, Err: syscall.EACCES}}} {
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "name another directory in spool.dir") {
			t.Errorf("error %v", err)
		}
	}
	if err := New(Config{SpoolDir: filepath.Join(file, "l"), Site: "a", Lane: "0", Decoder: func() *schema.Decoder { return nil }}).Run(t.Context()); !errors.As(err, new(*SpoolError)) {
		t.Errorf("a source without its spool: error %v", err)
	}
}

// The table of a frame is behind its checksum; it is checked all the same.
func FuzzSpoolTable(f *testing.F) {
	f.Add([]byte{1, 2, 'u', 1}, 1, 1, 2)
	f.Add([]byte{0, 0, 'x', 0, 3, 3, 'r', 1}, 2, 3, 3)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 'x', 0}, 1, 1, 1)
	f.Fuzz(func(t *testing.T, table []byte, records, keys, values int) {
		if min(records, keys, values) < 0 || max(records, keys, values) > 1<<16 {
			return
		}
		b := &batch{keys: make([]byte, keys), values: make([]byte, values)}
		if !b.index(table, records) {
			return
		}
		key, value := 0, 0
		for _, r := range b.records {
			if r.keyEnd < key || r.valueEnd < value {
				t.Fatalf("records %+v", b.records)
			}
			key, value = r.keyEnd, r.valueEnd
		}
		if len(b.records) != records || key != keys || value != values {
			t.Errorf("%d records up to %d and %d, want %d, %d and %d", len(b.records), key, value, records, keys, values)
		}
	})
}
