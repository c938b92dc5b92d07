package source

import (
	"errors"

	"twinlog/schema"
	"twinlog/source/rdb"
)

// errLarge ends the reading of a payload whose value is more than one event.
var errLarge = errors.New("the value is more than one event")

// readRestored puts the value that a RESTORE brings in place of its payload,
// so that a target of any version can make it and any consumer reads it. Of a
// value that is more than one event only the type is told: it follows as the
// value that the key holds. The payload stays where only a server can read it
// (a module's value), and where it is no payload of a known version: the target
// judges it then.
func (c *Config) readRestored(e *schema.Event) {
	const payload = 2
	if e.Command != "RESTORE" || len(e.Args) <= payload {
		return
	}
	room := c.partRoom(e.Key)
	for i, a := range e.Args {
		if i != payload {
			room -= cost(a)
		}
	}
	var value schema.Value
	var typ string
	options := rdb.Options{ChunkBytes: c.chunkBytes(), MaxElementBytes: c.MaxTransactionBytes}
	err := rdb.ReadDump(e.Args[payload], e.DB, e.Key, options, func(part *rdb.Entry) error {
		typ = part.Type
		if part.Value.Kind != schema.KindDump && (!part.Last || valueBytes(&part.Value) > room) {
			return errLarge
		}
		value = part.Value.Clone()
		return nil
	})
	switch {
	case errors.Is(err, errLarge):
		e.Type = typ
	case err == nil && value.Kind != schema.KindDump:
		e.Type, e.Value = typ, value
		e.Args = append([][]byte(nil), e.Args...)
		e.Args[payload] = []byte{}
	}
}
