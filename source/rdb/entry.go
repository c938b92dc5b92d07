package rdb

import "twinlog/schema"

// EntryKind says what an Entry holds.
type EntryKind byte

// The kinds of entries.
const (
	Aux      EntryKind = iota + 1 // Name and Text: a fact about the server, such as repl-stream-db
	Function                      // Text: the source of a function library
	Value                         // a key's value, or a part of it
)

// Entry is what Reader.Next hands out. It and every slice in it belong to
// the Reader and are valid until the next call.
type Entry struct {
	Kind EntryKind

	Name []byte // of Aux
	Text []byte // of Aux and Function

	// The rest is for Value.

	DB   int32
	Key  []byte
	Type string // as TYPE answers: string, list, set, zset, hash, stream, or a module type's name

	// Value holds this part: the parts' Data, Elements, Hash, ZSet, Stream
	// and pending entries, one after the other, are the whole value. A
	// stream's Meta comes after its last entries and repeats in each further
	// part, where a group or consumer met again goes on. A module's value is
	// KindDump and never cut.
	//
	// A collection without elements, which old servers could write, is
	// handed out as it is; a server that loads one drops the key.
	Value schema.Value

	// ExpireAt is handed out as written, past ones too: whether a key has
	// expired is not for a reader to say.
	ExpireAt schema.OptInt64

	Index int32 // of this part: 0, 1, 2, …
	Last  bool  // no part follows
}
