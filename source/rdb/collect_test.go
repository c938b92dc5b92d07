package rdb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"twinlog/schema"
)

// item is an entry put together from its parts, with memory of its own.
type item struct {
	Kind       EntryKind
	Name, Text string
	DB         int32
	Key        string
	Type       string
	Value      schema.Value
	ExpireAt   schema.OptInt64
	parts      int
}

// collect reads a whole RDB.
func collect(data []byte, o Options) ([]item, error) {
	r := NewReader(bufio.NewReaderSize(bytes.NewReader(data), 512), o)
	var items []item
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			if r.BytesRead() != int64(len(data)) {
				return items, fmt.Errorf("%d bytes read of %d", r.BytesRead(), len(data))
			}
			return items, nil
		}
		if err != nil {
			return items, err
		}
		if items, err = add(items, e); err != nil {
			return items, err
		}
	}
}

// add adds e, or appends it to the item that it is a part of.
func add(items []item, e *Entry) ([]item, error) {
	if e.Kind != Value {
		return append(items, item{Kind: e.Kind, Name: string(e.Name), Text: string(e.Text)}), nil
	}
	open := len(items) > 0 && items[len(items)-1].parts < 0
	if open != (e.Index > 0) {
		return items, fmt.Errorf("part %d of %q in the wrong place", e.Index, e.Key)
	}
	if !open {
		items = append(items, item{
			Kind: Value, DB: e.DB, Key: string(e.Key), Type: e.Type,
			Value: schema.Value{Kind: e.Value.Kind}, ExpireAt: e.ExpireAt,
		})
	}
	it := &items[len(items)-1]
	if it.DB != e.DB || it.Key != string(e.Key) || it.Type != e.Type || it.ExpireAt != e.ExpireAt || -it.parts != int(e.Index) {
		return items, errors.New("a part differs from the one before in more than its value")
	}
	it.parts = -int(e.Index) - 1
	if e.Last {
		it.parts = -it.parts
	}
	appendValue(&it.Value, &e.Value)
	return items, nil
}

func appendValue(to, v *schema.Value) {
	to.Data = append(to.Data, v.Data...)
	for _, e := range v.Elements {
		to.Elements = append(to.Elements, clone(e))
	}
	for _, h := range v.Hash {
		to.Hash = append(to.Hash, schema.HashEntry{Field: clone(h.Field), Value: clone(h.Value), ExpireAt: h.ExpireAt})
	}
	for _, m := range v.ZSet {
		to.ZSet = append(to.ZSet, schema.ZSetMember{Member: clone(m.Member), Score: m.Score})
	}
	for _, e := range v.Stream {
		to.Stream = append(to.Stream, schema.StreamEntry{ID: e.ID, Fields: cloneAll(e.Fields)})
	}
	if v.Meta != nil {
		appendMeta(to, v.Meta)
	}
}

func appendMeta(to *schema.Value, m *schema.StreamMeta) {
	if to.Meta == nil {
		to.Meta = &schema.StreamMeta{LastID: m.LastID, MaxDeletedID: m.MaxDeletedID, EntriesAdded: m.EntriesAdded}
	}
	for _, g := range m.Groups {
		groups := to.Meta.Groups
		if n := len(groups); n == 0 || !bytes.Equal(groups[n-1].Name, g.Name) {
			groups = append(groups, schema.StreamGroup{Name: clone(g.Name), LastID: g.LastID, EntriesRead: g.EntriesRead})
		}
		tg := &groups[len(groups)-1]
		for _, c := range g.Consumers {
			if n := len(tg.Consumers); n == 0 || !bytes.Equal(tg.Consumers[n-1].Name, c.Name) {
				tg.Consumers = append(tg.Consumers, schema.StreamConsumer{Name: clone(c.Name), SeenMs: c.SeenMs, ActiveMs: c.ActiveMs})
			}
			tc := &tg.Consumers[len(tg.Consumers)-1]
			tc.Pending = append(tc.Pending, c.Pending...)
		}
		to.Meta.Groups = groups
	}
}

func clone(b []byte) []byte { return append([]byte{}, b...) }

func cloneAll(bs [][]byte) [][]byte {
	var out [][]byte
	for _, b := range bs {
		out = append(out, clone(b))
	}
	return out
}

// values returns the items that are values, by key.
func values(t *testing.T, data []byte, o Options) map[string]item {
	t.Helper()
	items, err := collect(data, o)
	if err != nil {
		t.Fatalf("reading the RDB: %v", err)
	}
	byKey := map[string]item{}
	for _, it := range items {
		if it.Kind == Value {
			if it.parts <= 0 {
				t.Fatalf("key %q has no last part", it.Key)
			}
			byKey[it.Key] = it
		}
	}
	return byKey
}
