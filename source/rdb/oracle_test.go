package rdb

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hdt3213/rdb/core"
	"github.com/hdt3213/rdb/model"

	"twinlog/schema"
)

// exact compares items: scores bit by bit, nil and empty alike.
var exact = gocmp.Options{
	gocmp.AllowUnexported(item{}),
	gocmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
	cmpopts.EquateEmpty(),
}

// diff says how two items differ. Most do not, and cmp.Diff is slow on long
// values.
func diff(want, got item) string {
	if bytes.Equal(describe(want), describe(got)) {
		return ""
	}
	if d := gocmp.Diff(want, got, exact); d != "" {
		return d
	}
	return "describe sees a difference that cmp.Diff does not"
}

// describe is equal for items that are equal by exact.
func describe(it item) []byte {
	v := &it.Value
	var b []byte
	add := func(s []byte) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	count := func(n int) { b = binary.AppendUvarint(b, uint64(n)) }
	b = fmt.Appendf(b, "%d %d %q %q %q %d %v %v %d;", it.Kind, it.DB, it.Name, it.Text, it.Key, it.parts, it.Type, it.ExpireAt, v.Kind)
	add(v.Data)
	count(len(v.Elements))
	for _, e := range v.Elements {
		add(e)
	}
	count(len(v.Hash))
	for _, h := range v.Hash {
		add(h.Field)
		add(h.Value)
		b = fmt.Append(b, h.ExpireAt)
	}
	count(len(v.ZSet))
	for _, m := range v.ZSet {
		add(m.Member)
		b = binary.AppendUvarint(b, math.Float64bits(m.Score))
	}
	count(len(v.Stream))
	for _, e := range v.Stream {
		b = fmt.Append(b, e.ID)
		count(len(e.Fields))
		for _, f := range e.Fields {
			add(f)
		}
	}
	if v.Meta != nil {
		b = fmt.Appendf(b, "%+v", *v.Meta)
	}
	return b
}

func sortValue(v *schema.Value) {
	if v.Kind == schema.KindSet {
		slices.SortFunc(v.Elements, bytes.Compare)
	}
	slices.SortFunc(v.Hash, func(a, b schema.HashEntry) int { return bytes.Compare(a.Field, b.Field) })
	slices.SortFunc(v.ZSet, func(a, b schema.ZSetMember) int { return bytes.Compare(a.Member, b.Member) })
}

// oracle reads data with hdt3213/rdb.
func oracle(data []byte) ([]item, error) {
	var items []item
	err := core.NewDecoder(bytes.NewReader(data)).Parse(func(o model.RedisObject) bool {
		it := item{Kind: Value, DB: int32(o.GetDBIndex()), Key: o.GetKey(), Type: o.GetType()}
		if at := o.GetExpiration(); at != nil {
			it.ExpireAt = schema.OptInt64{Set: true, Int64: at.UnixMilli()}
		}
		v := &it.Value
		switch o := o.(type) {
		case *model.StringObject:
			v.Kind, v.Data = schema.KindString, o.Value
		case *model.ListObject:
			v.Kind, v.Elements = schema.KindList, o.Values
		case *model.SetObject:
			v.Kind, v.Elements = schema.KindSet, o.Members
		case *model.HashObject:
			v.Kind = schema.KindHash
			for f, val := range o.Hash {
				entry := schema.HashEntry{Field: []byte(f), Value: val}
				if at := o.FieldExpirations[f]; at > 0 {
					entry.ExpireAt = schema.OptInt64{Set: true, Int64: at}
				}
				v.Hash = append(v.Hash, entry)
			}
		case *model.ZSetObject:
			v.Kind = schema.KindZSet
			for _, e := range o.Entries {
				v.ZSet = append(v.ZSet, schema.ZSetMember{Member: []byte(e.Member), Score: e.Score})
			}
		case *model.StreamObject:
			v.Kind = schema.KindStream
			oracleStream(v, o)
		default:
			return true // aux fields, sizes, functions
		}
		items = append(items, it)
		return true
	})
	return items, err
}

func oracleID(id *model.StreamId) schema.StreamID {
	if id == nil {
		return schema.StreamID{}
	}
	return schema.StreamID{Ms: id.Ms, Seq: id.Sequence}
}

func oracleStream(v *schema.Value, o *model.StreamObject) {
	for _, node := range o.Entries {
		for _, m := range node.Msgs {
			if m.Deleted {
				continue
			}
			e := schema.StreamEntry{ID: oracleID(m.Id)}
			for f, val := range m.Fields {
				e.Fields = append(e.Fields, []byte(f), []byte(val))
			}
			v.Stream = append(v.Stream, e)
		}
	}
	v.Meta = &schema.StreamMeta{LastID: oracleID(o.LastId), MaxDeletedID: oracleID(o.MaxDeletedId), EntriesAdded: int64(o.AddedEntriesCount)}
	if o.Version == 1 {
		v.Meta.EntriesAdded = -1
	}
	for _, g := range o.Groups {
		sg := schema.StreamGroup{Name: []byte(g.Name), LastID: oracleID(g.LastId), EntriesRead: int64(g.EntriesRead)}
		if o.Version == 1 {
			sg.EntriesRead = -1
		}
		times := map[schema.StreamID]*model.StreamNAck{}
		for _, n := range g.Pending {
			times[oracleID(n.Id)] = n
		}
		for _, c := range g.Consumers {
			sc := schema.StreamConsumer{Name: []byte(c.Name), SeenMs: int64(c.SeenTime), ActiveMs: -1}
			if o.Version >= 3 {
				sc.ActiveMs = int64(c.ActiveTime)
			}
			for _, id := range c.Pending {
				n := times[oracleID(id)]
				sc.Pending = append(sc.Pending, schema.PendingEntry{ID: oracleID(id), DeliveredMs: int64(n.DeliveryTime), Deliveries: int64(n.DeliveryCount)})
			}
			sg.Consumers = append(sg.Consumers, sc)
		}
		v.Meta.Groups = append(v.Meta.Groups, sg)
	}
}

// asOracle brings what the reader found down to what the oracle can say: its
// expiries overflow in the year 2262, and its stream entries have each field
// once and in no order. It also loses negative expiries and most of a listpack
// that has no count, and verifies nothing: that is tested without it.
func asOracle(it item) item {
	it = sorted(it)
	if it.ExpireAt.Set {
		it.ExpireAt.Int64 = time.Unix(0, it.ExpireAt.Int64*int64(time.Millisecond)).UnixMilli()
	}
	for i := range it.Value.Stream {
		// A map: names once, in no order.
		fields := map[string][]byte{}
		f := it.Value.Stream[i].Fields
		for k := 0; k < len(f); k += 2 {
			fields[string(f[k])] = f[k+1]
		}
		names := make([]string, 0, len(fields))
		for name := range fields {
			names = append(names, name)
		}
		slices.Sort(names)
		it.Value.Stream[i].Fields = nil
		for _, name := range names {
			it.Value.Stream[i].Fields = append(it.Value.Stream[i].Fields, []byte(name), fields[name])
		}
	}
	return it
}

func compareWithOracle(t *testing.T, data []byte) {
	t.Helper()
	want, err := oracle(data)
	if err != nil {
		t.Fatalf("the oracle: %v", err)
	}
	all, err := collect(data, Options{ChunkBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var got []item
	for _, it := range all {
		if it.Kind == Value {
			got = append(got, asOracle(it))
		}
	}
	for i := range want {
		want[i] = asOracle(want[i])
	}
	byKey := func(a, b item) int { return cmp.Or(cmp.Compare(a.DB, b.DB), strings.Compare(a.Key, b.Key)) }
	slices.SortFunc(want, byKey)
	slices.SortFunc(got, byKey)
	if len(want) != len(got) {
		t.Fatalf("%d keys, the oracle has %d", len(got), len(want))
	}
	for i := range want {
		if d := diff(want[i], got[i]); d != "" {
			t.Errorf("key %q (-oracle +reader):\n%s", got[i].Key, d)
		}
	}
}

// The oracle's own test files come from servers of 2.4 to 7.2. Those older
// than RDB 5 get a header that we read and no checksum.
func TestReaderAgreesWithTheOracleOnItsOwnFiles(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/hdt3213/rdb").Output()
	if err != nil {
		t.Fatalf("finding the oracle's files: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "cases", "*.rdb"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of the oracle: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if string(data[:9]) < "REDIS0005" {
				data = append([]byte("REDIS0009"), data[9:bytes.LastIndexByte(data, opEOF)+1]...)
				data = append(data, make([]byte, 8)...)
			}
			compareWithOracle(t, data)
		})
	}
}
