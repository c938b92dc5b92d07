package source

import (
	"twinlog/schema"
	"twinlog/source/rdb"
)

const (
	valueOverhead = 320 // what an event of a value costs besides its key
	leastPart     = 256 // bytes of a value, in one event
	goesOnCost    = 60  // what an element costs that goes on in another piece, besides its bytes

	// What elements cost in an event besides their bytes, at most.
	scoreCost  = 8
	expiryCost = 10
	entryCost  = 50
	lengthCost = 5
)

// cost is what b costs in an event.
func cost(b []byte) int {
	n := len(b) + 1
	for length := len(b) >> 6; length > 0; length >>= 7 {
		n++
	}
	return n
}

func fieldCost(f *schema.HashEntry) int {
	n := cost(f.Field) + cost(f.Value) + 1
	if f.ExpireAt.Set {
		n += expiryCost
	}
	return n
}

// partRoom is how many bytes of a value one event of key takes.
func (c *Config) partRoom(key []byte) int {
	return max(c.MaxEventBytes-valueOverhead-len(key), leastPart)
}

// chunkBytes is where values are cut while they are read. What comes above it
// with the last element fits, unless that is a large one.
func (c *Config) chunkBytes() int { return max(c.MaxEventBytes-valueOverhead, leastPart) * 3 / 4 }

// parts makes the events of one value, whose entries come one after the other:
// one, or as many as max_event_bytes asks for.
type parts struct{ next int32 }

// each makes the events of what e holds. The event that visit gets is whole
// until it returns.
func (p *parts) each(c *Config, event *schema.Event, e *rdb.Entry, visit func() error) error {
	event.Type, event.Value = e.Type, schema.Value{}
	return cutValue(&e.Value, c.partRoom(e.Key), func(v schema.Value, goesOn, last bool) error {
		event.Value = v
		event.Part = schema.OptPart{Part: schema.Part{Index: p.next, Last: e.Last && last, Arg: -1}}
		event.Part.Set = p.next > 0 || !event.Part.Last
		if goesOn {
			event.Part.Arg = 0
		}
		p.next++
		return visit()
	})
}

// cutValue hands out v in pieces of at most room bytes. An element that is
// longer is cut too: then the next piece goes on with it.
func cutValue(v *schema.Value, room int, visit func(v schema.Value, goesOn, last bool) error) error {
	if valueBytes(v) <= room || v.Kind == schema.KindDump || v.Kind == schema.KindNone {
		return visit(*v, false, true)
	}
	c := cutter{room: room, left: room, visit: visit, piece: schema.Value{Kind: v.Kind}}
	var err error
	switch v.Kind {
	case schema.KindString:
		err = c.bytes(v.Data, func(b []byte, _ bool) { c.piece.Data = b })
	case schema.KindList, schema.KindSet:
		for i := 0; i < len(v.Elements) && err == nil; i++ {
			err = c.element(0, v.Elements[i], func(b []byte, _ bool) { c.piece.Elements = append(c.piece.Elements, b) })
		}
	case schema.KindHash:
		for i := 0; i < len(v.Hash) && err == nil; i++ {
			err = c.field(&v.Hash[i])
		}
	case schema.KindZSet:
		for i := 0; i < len(v.ZSet) && err == nil; i++ {
			score := v.ZSet[i].Score
			err = c.element(scoreCost, v.ZSet[i].Member, func(b []byte, _ bool) {
				c.piece.ZSet = append(c.piece.ZSet, schema.ZSetMember{Member: b, Score: score})
			})
		}
	case schema.KindStream:
		for i := 0; i < len(v.Stream) && err == nil; i++ {
			err = c.entry(&v.Stream[i])
		}
		if err == nil && v.Meta != nil && c.left < room { // what groups it has was bounded by the reader
			err = c.flush()
		}
		c.piece.Meta = v.Meta
	case schema.KindDump, schema.KindNone:
	}
	if err != nil {
		return err
	}
	return visit(c.piece, c.goesOn, true)
}

// cutter fills one piece after the other.
type cutter struct {
	room, left int
	piece      schema.Value
	goesOn     bool // the piece begins with the rest of an element
	visit      func(v schema.Value, goesOn, last bool) error
}

// flush hands out the piece and begins the next one.
func (c *cutter) flush() error {
	err := c.visit(c.piece, c.goesOn, false)
	p := &c.piece
	c.piece = schema.Value{Kind: p.Kind, Elements: p.Elements[:0], Hash: p.Hash[:0], ZSet: p.ZSet[:0], Stream: p.Stream[:0]}
	c.left, c.goesOn = c.room, false
	return err
}

// fits begins another piece if n bytes do not fit into this one.
func (c *cutter) fits(n int) error {
	if n > c.left && c.left < c.room {
		return c.flush()
	}
	return nil
}

// element adds one element, with what it costs besides its bytes.
func (c *cutter) element(more int, b []byte, add func(b []byte, goesOn bool)) error {
	if err := c.fits(more + cost(b)); err != nil {
		return err
	}
	c.left -= more
	return c.bytes(b, add)
}

// bytes adds b, in as many pieces as it takes.
func (c *cutter) bytes(b []byte, add func(b []byte, goesOn bool)) error {
	goesOn := false
	for cost(b) > c.left {
		n := max(c.left-lengthCost, 1)
		add(b[:n:n], goesOn)
		if err := c.flush(); err != nil {
			return err
		}
		b, goesOn = b[n:], true
		c.goesOn = true
		c.left -= goesOnCost
	}
	add(b, goesOn)
	c.left -= cost(b)
	return nil
}

func (c *cutter) field(f *schema.HashEntry) error {
	if err := c.fits(fieldCost(f)); err != nil {
		return err
	}
	c.left -= fieldCost(f) - cost(f.Value)
	return c.bytes(f.Value, func(b []byte, goesOn bool) {
		e := schema.HashEntry{Field: f.Field, Value: b, ExpireAt: f.ExpireAt}
		if goesOn {
			e.Field = nil
		}
		c.piece.Hash = append(c.piece.Hash, e)
	})
}

func (c *cutter) entry(e *schema.StreamEntry) error {
	if err := c.fits(entryBytes(e)); err != nil {
		return err
	}
	c.left -= entryCost
	c.piece.Stream = append(c.piece.Stream, schema.StreamEntry{ID: e.ID})
	for _, f := range e.Fields {
		if c.left <= lengthCost { // the next piece begins with a field that goes on, by nothing more
			last := &c.piece.Stream[len(c.piece.Stream)-1]
			n := len(last.Fields)
			if err := c.flush(); err != nil {
				return err
			}
			c.goesOn = n > 0
			c.piece.Stream = append(c.piece.Stream, schema.StreamEntry{ID: e.ID})
			if n > 0 {
				c.piece.Stream[0].Fields = [][]byte{nil}
			}
			c.left -= goesOnCost
		}
		err := c.bytes(f, func(b []byte, goesOn bool) {
			if goesOn {
				c.piece.Stream = append(c.piece.Stream, schema.StreamEntry{ID: e.ID})
			}
			last := &c.piece.Stream[len(c.piece.Stream)-1]
			last.Fields = append(last.Fields, b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func entryBytes(e *schema.StreamEntry) int {
	n := entryCost
	for _, f := range e.Fields {
		n += cost(f)
	}
	return n
}

// valueBytes is the most that v costs in an event, without a stream's groups:
// the reader has bounded these.
func valueBytes(v *schema.Value) int {
	n := cost(v.Data)
	for _, e := range v.Elements {
		n += cost(e)
	}
	for i := range v.Hash {
		n += fieldCost(&v.Hash[i])
	}
	for i := range v.ZSet {
		n += cost(v.ZSet[i].Member) + scoreCost
	}
	for i := range v.Stream {
		n += entryBytes(&v.Stream[i])
	}
	return n
}
