package schema

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// encoded is the bytes of an event with this value.
func encoded(v *Value) []byte { return AppendEvent(nil, &Event{Op: OpValue, Value: *v}) }

// memory is every byte slice of a value.
func memory(v *Value) [][]byte {
	all := append([][]byte{v.Data}, v.Elements...)
	for _, h := range v.Hash {
		all = append(all, h.Field, h.Value)
	}
	for _, m := range v.ZSet {
		all = append(all, m.Member)
	}
	for _, e := range v.Stream {
		all = append(all, e.Fields...)
	}
	if v.Meta != nil {
		for _, g := range v.Meta.Groups {
			all = append(all, g.Name)
			for _, c := range g.Consumers {
				all = append(all, c.Name)
			}
		}
	}
	return all
}

// scribble writes over everything that v reaches.
func scribble(v *Value) {
	for _, b := range memory(v) {
		for i := range b {
			b[i] ^= 0xff
		}
	}
	other := []byte("other")
	for i := range v.Elements {
		v.Elements[i] = other
	}
	for i := range v.Hash {
		v.Hash[i] = HashEntry{Field: other, Value: other, ExpireAt: OptInt64{Set: true, Int64: 77}}
	}
	for i := range v.ZSet {
		v.ZSet[i] = ZSetMember{Member: other, Score: 77}
	}
	for i := range v.Stream {
		for j := range v.Stream[i].Fields {
			v.Stream[i].Fields[j] = other
		}
		v.Stream[i] = StreamEntry{ID: StreamID{Ms: 77}}
	}
	if v.Meta == nil {
		return
	}
	for i := range v.Meta.Groups {
		g := &v.Meta.Groups[i]
		for j := range g.Consumers {
			for k := range g.Consumers[j].Pending {
				g.Consumers[j].Pending[k] = PendingEntry{Deliveries: 77}
			}
			g.Consumers[j] = StreamConsumer{Name: other}
		}
		*g = StreamGroup{Name: other}
	}
	v.Meta.LastID, v.Meta.EntriesAdded = StreamID{Ms: 77}, 77
}

func TestACloneSharesNoMemory(t *testing.T) {
	r, kinds := newRandom(4), map[Kind]int{}
	for range 5000 {
		v := r.value()
		kinds[v.Kind]++
		want := encoded(&v)
		c := v.Clone()
		if got := encoded(&c); !bytes.Equal(want, got) {
			t.Fatalf("the clone differs:\n%s", cmp.Diff(v, c))
		}
		scribble(&v)
		if got := encoded(&c); !bytes.Equal(want, got) {
			t.Fatalf("the clone of a value of kind %d changes with it", v.Kind)
		}
		v = c.Clone()
		c.Append(&v) // room behind a slice is memory too
		if got := encoded(&v); !bytes.Equal(want, got) {
			t.Fatalf("a value of kind %d changes with what is appended to its clone", v.Kind)
		}
	}
	if len(kinds) != int(KindDump)+1 {
		t.Errorf("only kinds %v", kinds)
	}
}

// cut cuts a value into parts at random places, as a reader of an RDB does:
// pending entries behind all else, in groups and consumers that are named
// again where they go on.
func (r random) cut(v *Value) []Value {
	var parts []Value
	part := func() *Value {
		if n := len(parts); n > 0 && r.IntN(3) > 0 {
			return &parts[n-1]
		}
		parts = append(parts, Value{Kind: v.Kind})
		return &parts[len(parts)-1]
	}
	part()
	for _, b := range v.Data {
		p := part()
		p.Data = append(p.Data, b)
	}
	for _, e := range v.Elements {
		p := part()
		p.Elements = append(p.Elements, e)
	}
	for _, h := range v.Hash {
		p := part()
		p.Hash = append(p.Hash, h)
	}
	for _, m := range v.ZSet {
		p := part()
		p.ZSet = append(p.ZSet, m)
	}
	for _, e := range v.Stream {
		p := part()
		p.Stream = append(p.Stream, e)
	}
	if v.Meta == nil {
		return parts
	}
	// at brings the part up to a group and a consumer, which it may have not.
	at := func(g *StreamGroup, c *StreamConsumer) *StreamConsumer {
		p := part()
		if p.Meta == nil {
			p.Meta = &StreamMeta{LastID: v.Meta.LastID, MaxDeletedID: v.Meta.MaxDeletedID, EntriesAdded: v.Meta.EntriesAdded}
		}
		if g == nil {
			return nil
		}
		groups := p.Meta.Groups
		if n := len(groups); n == 0 || !bytes.Equal(groups[n-1].Name, g.Name) {
			groups = append(groups, StreamGroup{Name: g.Name, LastID: g.LastID, EntriesRead: g.EntriesRead})
		}
		p.Meta.Groups = groups
		if c == nil {
			return nil
		}
		pg := &groups[len(groups)-1]
		if n := len(pg.Consumers); n == 0 || !bytes.Equal(pg.Consumers[n-1].Name, c.Name) {
			pg.Consumers = append(pg.Consumers, StreamConsumer{Name: c.Name, SeenMs: c.SeenMs, ActiveMs: c.ActiveMs})
		}
		return &pg.Consumers[len(pg.Consumers)-1]
	}
	at(nil, nil)
	for i := range v.Meta.Groups {
		g := &v.Meta.Groups[i]
		at(g, nil)
		for j := range g.Consumers {
			c := &g.Consumers[j]
			at(g, c)
			for _, pending := range c.Pending {
				pc := at(g, c)
				pc.Pending = append(pc.Pending, pending)
			}
		}
	}
	return parts
}

// name gives every group and consumer of v a name of its own, as a server
// does.
func name(v *Value) {
	if v.Meta == nil {
		return
	}
	for i := range v.Meta.Groups {
		g := &v.Meta.Groups[i]
		g.Name = append([]byte{byte(i)}, g.Name...)
		for j := range g.Consumers {
			g.Consumers[j].Name = append([]byte{byte(j)}, g.Consumers[j].Name...)
		}
	}
}

func TestPartsAreAppended(t *testing.T) {
	r, most := newRandom(5), 0
	for range 3000 {
		v := r.value()
		name(&v)
		want := encoded(&v)
		parts := r.cut(&v)
		most = max(most, len(parts))
		whole := parts[0].Clone()
		for i := range parts[1:] {
			part := parts[1+i].Clone()
			whole.Append(&part)
		}
		if got := encoded(&whole); !bytes.Equal(want, got) {
			t.Fatalf("%d parts of a value of kind %d (-want +got):\n%s", len(parts), v.Kind, cmp.Diff(v, whole))
		}
		for i := range parts { // the parts may be used again
			scribble(&parts[i])
		}
		if got := encoded(&whole); !bytes.Equal(want, got) {
			t.Fatalf("a value of kind %d changes with what it was put together from", v.Kind)
		}
	}
	if most < 10 {
		t.Errorf("%d parts at most", most)
	}
}

// The same consumer may be in two groups, and two groups may end alike.
func TestAPartThatBeginsAnotherGroupDoesNotGoOn(t *testing.T) {
	meta := func(group string, consumers ...string) *StreamMeta {
		g := StreamGroup{Name: []byte(group)}
		for _, c := range consumers {
			g.Consumers = append(g.Consumers, StreamConsumer{Name: []byte(c), Pending: []PendingEntry{{Deliveries: 1}}})
		}
		return &StreamMeta{Groups: []StreamGroup{g}}
	}
	for _, tt := range []struct {
		name  string
		parts []*StreamMeta
		want  []string
	}{
		{"another group", []*StreamMeta{meta("g", "c"), meta("h", "c")}, []string{"g c 1", "h c 1"}},
		{"the same consumer", []*StreamMeta{meta("g", "c"), meta("g", "c")}, []string{"g c 2"}},
		{"another consumer", []*StreamMeta{meta("g", "c"), meta("g", "d")}, []string{"g c 1", "g d 1"}},
		{"the same and another", []*StreamMeta{meta("g", "b", "c"), meta("g", "c", "d"), meta("h", "d")}, []string{"g b 1", "g c 2", "g d 1", "h d 1"}},
		{"a group that had no consumer yet", []*StreamMeta{meta("g"), meta("g", "c")}, []string{"g c 1"}},
		{"entries before the groups", []*StreamMeta{nil, meta("g", "c")}, []string{"g c 1"}},
		{"entries alone behind nothing", []*StreamMeta{nil, nil}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole := Value{Kind: KindStream, Meta: tt.parts[0]}
			for _, m := range tt.parts[1:] {
				whole.Append(&Value{Kind: KindStream, Meta: m})
			}
			var got []string
			if whole.Meta != nil {
				for _, g := range whole.Meta.Groups {
					for _, c := range g.Consumers {
						got = append(got, string(g.Name)+" "+string(c.Name)+" "+string(rune('0'+len(c.Pending))))
					}
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
