package stream

import (
	"twinlog/internal/command"
	"twinlog/schema"
)

const (
	// eventOverhead is what an event costs besides its keys and arguments,
	// and argOverhead what the length of one costs.
	eventOverhead = 320
	argOverhead   = 5
	leastRoom     = 64 // for arguments, in one event

	// mostCutArgs is how many arguments a command may have one of which is cut:
	// the sink's script hands them to a Lua function (7,999 at most).
	mostCutArgs = 7000
)

// Cut appends e as fragments: events of at most limit bytes that have the same
// keys and command, and each some of its arguments in order (Part.Arg is the
// first one's index). An argument is cut only if it is too long for an event
// of its own; then the next fragment begins with the same index. What is made
// of many keys comes as several commands (fold.go). What cannot be cut is
// appended as it is.
func Cut(dst []schema.Event, e *schema.Event, limit int) []schema.Event {
	if size(e) <= limit {
		return append(dst, *e)
	}
	if dst, ok := fold(dst, e, limit); ok {
		return dst
	}
	room := limit - eventOverhead - len(e.Command) - len(e.Key) - bytesOf(e.OtherKeys)
	if room < leastRoom || !divisible(e, room) {
		return append(dst, *e)
	}
	arg, at := 0, 0 // what comes next: the argument and its byte
	for index := int32(0); arg < len(e.Args); index++ {
		fragment := *e
		fragment.Args = nil
		fragment.Part = schema.OptPart{Set: true, Part: schema.Part{Index: index, Arg: int32(arg)}}
		for left := room; arg < len(e.Args); arg, at = arg+1, 0 {
			rest := e.Args[arg][at:]
			if len(rest)+argOverhead > left {
				if len(fragment.Args) > 0 {
					break
				}
				n := left - argOverhead
				fragment.Args, at = append(fragment.Args, rest[:n:n]), at+n
				break
			}
			fragment.Args, left = append(fragment.Args, rest), left-len(rest)-argOverhead
		}
		fragment.Part.Last = arg == len(e.Args)
		dst = append(dst, fragment)
	}
	return dst
}

// fits tells whether e fits into events of at most limit bytes, as it is or
// cut; also if a value would not, since its key is too long.
func fits(e *schema.Event, limit int) bool {
	if size(e) <= limit || eventOverhead+len(e.Key)+bytesOf(e.OtherKeys) > limit {
		return true
	}
	events := Cut(nil, e, limit)
	return len(events) > 1 || size(&events[0]) <= limit
}

// size is the most that e may have as a record's value.
func size(e *schema.Event) int {
	return eventOverhead + len(e.Command) + len(e.Key) + bytesOf(e.OtherKeys) + bytesOf(e.Args)
}

func bytesOf(words [][]byte) int {
	n := argOverhead * len(words)
	for _, w := range words {
		n += len(w)
	}
	return n
}

// divisible tells whether e may come in fragments: whoever reads one must know
// all keys that the command touches from the event's own fields.
func divisible(e *schema.Event, room int) bool {
	switch e.Op {
	case schema.OpMessage, schema.OpFunction:
		return true
	case schema.OpWrite:
	case schema.OpValue, schema.OpDelete, schema.OpTruncate, schema.OpControl:
		return false
	}
	for _, key := range append(e.OtherKeys[:len(e.OtherKeys):len(e.OtherKeys)], e.Key) {
		if len(key) > room/2 { // it is an argument too
			return false
		}
	}
	var touch command.Touch
	if touch.Of(e) != nil {
		return false
	}
	for i := range touch.Keys {
		if !touch.Keys[i].Written || touch.Keys[i].DB != e.DB {
			return false
		}
	}
	if len(e.Args) <= mostCutArgs || command.OnlyRemoves(e.Command) {
		return true
	}
	for _, a := range e.Args {
		if len(a)+argOverhead > room {
			return false
		}
	}
	return true
}
