package source

import (
	"twinlog/schema"
	"twinlog/source/rdb"
)

// readRestored puts the value that a RESTORE brings in place of its payload,
// so that a target of any version can make it and any consumer reads it. The
// payload stays where only a server can read it (a module's value), where it
// is no payload of a known version, and where the value is more than one part:
// the target judges it then.
func readRestored(e *schema.Event) {
	const payload = 2
	if e.Command != "RESTORE" || len(e.Args) <= payload {
		return
	}
	var value schema.Value
	var typ string
	whole := false
	err := rdb.ReadDump(e.Args[payload], e.DB, e.Key, rdb.Options{}, func(part *rdb.Entry) error {
		if whole = part.Index == 0 && part.Last; whole {
			value, typ = part.Value.Clone(), part.Type
		}
		return nil
	})
	if err != nil || !whole || value.Kind == schema.KindDump {
		return
	}
	e.Type, e.Value = typ, value
	e.Args = append([][]byte(nil), e.Args...)
	e.Args[payload] = []byte{}
}
