package source

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"twinlog/schema"
	"twinlog/source/rdb"
)

// randomValue makes a value whose elements may each be longer than a part.
func randomValue(r *rand.Rand, kind schema.Kind) schema.Value {
	v := schema.Value{Kind: kind}
	data := func() []byte {
		b := make([]byte, r.IntN(1+[]int{3, 40, 900, 5000}[r.IntN(4)]))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	n := r.IntN(60)
	switch kind {
	case schema.KindString, schema.KindDump:
		v.Data = data()
	case schema.KindList, schema.KindSet:
		for range n {
			v.Elements = append(v.Elements, data())
		}
	case schema.KindHash:
		for i := range n {
			v.Hash = append(v.Hash, schema.HashEntry{Field: []byte(fmt.Sprint("f", i)), Value: data(), ExpireAt: schema.OptInt64{Set: r.IntN(2) == 0, Int64: r.Int64()}})
			if !v.Hash[i].ExpireAt.Set {
				v.Hash[i].ExpireAt.Int64 = 0
			}
		}
	case schema.KindZSet:
		for range n {
			v.ZSet = append(v.ZSet, schema.ZSetMember{Member: data(), Score: r.Float64()})
		}
	case schema.KindStream:
		for i := range n {
			e := schema.StreamEntry{ID: schema.StreamID{Ms: r.Uint64(), Seq: uint64(i)}}
			for range 2 * (1 + r.IntN(5)) {
				e.Fields = append(e.Fields, data())
			}
			v.Stream = append(v.Stream, e)
		}
		v.Meta = &schema.StreamMeta{LastID: schema.StreamID{Ms: 9}, EntriesAdded: int64(n)}
	case schema.KindNone:
	}
	return v
}

// joined is what a sink makes of the parts of a value.
type joined struct{ schema.Value }

func (j *joined) add(t *testing.T, v *schema.Value, goesOn bool) {
	t.Helper()
	j.Kind = v.Kind
	if v.Kind == schema.KindString { // always goes on
		goesOn = false
	}
	c := v.Clone()
	if !goesOn {
		j.Append(&c)
		return
	}
	switch v.Kind {
	case schema.KindList, schema.KindSet:
		e := &j.Elements[len(j.Elements)-1]
		*e = append(*e, c.Elements[0]...)
		c.Elements = c.Elements[1:]
	case schema.KindHash:
		e := &j.Hash[len(j.Hash)-1].Value
		*e = append(*e, c.Hash[0].Value...)
		c.Hash = c.Hash[1:]
	case schema.KindZSet:
		e := &j.ZSet[len(j.ZSet)-1].Member
		*e = append(*e, c.ZSet[0].Member...)
		c.ZSet = c.ZSet[1:]
	case schema.KindStream:
		entry := &j.Stream[len(j.Stream)-1]
		if entry.ID != c.Stream[0].ID {
			t.Errorf("entry %v goes on as %v", entry.ID, c.Stream[0].ID)
		}
		f := &entry.Fields[len(entry.Fields)-1]
		*f = append(*f, c.Stream[0].Fields[0]...)
		entry.Fields = append(entry.Fields, c.Stream[0].Fields[1:]...)
		c.Stream = c.Stream[1:]
	default:
		t.Fatalf("kind %d goes on", v.Kind)
	}
	j.Append(&c)
}

func TestPartsOfAValueFitAndAreTheValue(t *testing.T) {
	cfg := &Config{MaxEventBytes: 1024}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		kind := schema.Kind(1 + r.IntN(6))
		key := bytes.Repeat([]byte("k"), r.IntN(100))
		var whole, got joined
		value, index := parts{}, int32(0)
		for entries := 1 + r.IntN(3); entries > 0; entries-- {
			v := randomValue(r, kind)
			if entries > 1 {
				v.Meta = nil
			}
			whole.add(t, &v, false)
			e := &rdb.Entry{Kind: rdb.Value, Key: key, Type: "x", Value: v, Last: entries == 1}
			event := schema.Event{Op: schema.OpValue, Key: key, ExpireAt: schema.OptInt64{Set: true, Int64: 4102444800000}, Seq: 1 << 60, Seen: 1 << 60, TsMs: 1 << 41}
			last := false
			err := value.each(cfg, &event, e, func() error {
				p := event.Part
				if last || p.Index != index || p.Set != (index > 0 || !p.Last) || p.Arg < -1 || p.Arg > 0 {
					t.Errorf("seed %d, part %d: %+v", seed, index, p)
				}
				if size := len(schema.AppendEvent(nil, &event)); size > cfg.MaxEventBytes {
					t.Errorf("seed %d, part %d has %d bytes", seed, index, size)
				}
				last, index = p.Last, index+1
				got.add(t, &event.Value, p.Arg == 0)
				return nil
			})
			if err != nil || last != e.Last {
				t.Fatalf("seed %d: ends with last = %v, error %v", seed, last, err)
			}
		}
		encoded := func(v schema.Value) []byte {
			return schema.AppendEvent(nil, &schema.Event{Op: schema.OpValue, Value: v})
		}
		if !bytes.Equal(encoded(whole.Value), encoded(got.Value)) {
			t.Fatalf("seed %d: the parts of a value of kind %d are another one", seed, kind)
		}
	}
}

func TestSmallElementsFillTheirParts(t *testing.T) {
	cfg := &Config{MaxEventBytes: 64 << 10}
	v := schema.Value{Kind: schema.KindHash}
	for i := range 100_000 {
		v.Hash = append(v.Hash, schema.HashEntry{Field: []byte(fmt.Sprint("field:", i)), Value: []byte("v")})
	}
	value, n, bytes := parts{}, 0, 0
	event := schema.Event{Op: schema.OpValue}
	err := value.each(cfg, &event, &rdb.Entry{Value: v, Last: true}, func() error {
		n, bytes = n+1, bytes+len(schema.AppendEvent(nil, &event))
		return nil
	})
	if err != nil || n > bytes/(60<<10)+1 {
		t.Errorf("%d parts for %d bytes, error %v", n, bytes, err)
	}
}
