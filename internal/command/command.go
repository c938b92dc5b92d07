// Package command knows every Redis and Valkey command: which keys it writes
// and reads, what kind of command it is, and what its effect is once it has
// come through a replication stream.
//
// The knowledge is a table (table_*.go), one row a command, checked by test
// against a server's own COMMAND answer. A source turns replicated commands
// into events with AppendChanges; a sink asks ExpiryArg and Lookup.
package command

import (
	"errors"
	"slices"
	"strings"
)

// Class is the kind of a command.
type Class byte

// The classes.
const (
	Write      Class = iota + 1 // changes keys
	Delete                      // removes whole keys and does nothing else
	Truncate                    // FLUSHDB, FLUSHALL, SWAPDB
	Message                     // PUBLISH, SPUBLISH
	Function                    // FUNCTION
	ReadOnly                    // changes nothing; never in a stream, but for PFCOUNT
	Connection                  // steers one connection: SELECT, MULTI, PING, REPLCONF, SUBSCRIBE, …
	Script                      // EVAL, FCALL, SCRIPT: the stream holds what they did
	Admin                       // the server itself: CONFIG, CLUSTER, SAVE, …
	Migration                   // moves slots between the nodes of one site: RESTORE-ASKING, TRIMSLOTS, CLUSTER SYNCSLOTS
)

// Command is what is known of one command.
type Command struct {
	Name  string // upper case; of a subcommand "XGROUP CREATE"
	Class Class

	arity   int
	keys    keys
	effect  effect
	touches touches             // nil: overwrites
	verb    string              // Name without the subcommand
	subs    map[string]*Command // by upper-case subcommand, those with a row of their own
}

// row is one row of the table.
type row struct {
	name   string
	class  Class
	arity  int // arguments with the name; negative: at least so many
	keys   keys
	effect effect
}

// maxName is the length of the longest name, "GEORADIUSBYMEMBER_RO", and some.
const maxName = 24

var byName = index(stringTable, keyTable, listTable, setTable, hashTable, sortedSetTable, streamTable, siteTable, readTable, serverTable)

// index is called once, when the program starts; the table never changes after.
func index(tables ...[]row) map[string]*Command {
	m := make(map[string]*Command, 400)
	for _, r := range slices.Concat(tables...) {
		verb, sub, isSub := strings.Cut(r.name, " ")
		c := &Command{Name: r.name, Class: r.class, arity: r.arity, keys: r.keys, effect: r.effect, touches: touchesOf[r.name], verb: verb}
		if !isSub {
			m[verb] = c
			continue
		}
		parent := m[verb] // stands above its subcommands
		if parent.subs == nil {
			parent.subs = make(map[string]*Command)
		}
		parent.subs[sub] = c
	}
	return m
}

// Lookup returns the command called name, in any case of letters; nil if it
// is not known. It does not allocate.
func Lookup(name []byte) *Command {
	var buf [maxName]byte
	return byName[string(upper(&buf, name))]
}

// sub returns the row that applies to args: a subcommand's own, if it has one.
func (c *Command) sub(args [][]byte) *Command {
	if c.subs == nil || len(args) == 0 {
		return c
	}
	var buf [maxName]byte
	if s := c.subs[string(upper(&buf, args[0]))]; s != nil {
		return s
	}
	return c
}

var errArgs = errors.New("wrong number of arguments")

// checkArity checks the number of arguments, args being without the name.
func (c *Command) checkArity(args [][]byte) error {
	n := len(args) + 1
	if n == c.arity || c.arity < 0 && n >= -c.arity {
		return nil
	}
	return errArgs
}

// upper puts name into buf in upper case; nothing if it is too long for a name.
func upper(buf *[maxName]byte, name []byte) []byte {
	if len(name) > len(buf) {
		return nil
	}
	for i, b := range name {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		buf[i] = b
	}
	return buf[:len(name)]
}

// is tells whether b is word, which is upper case, in any case of letters.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// isAny tells whether b is one of words.
func isAny(b []byte, words ...string) bool {
	for _, w := range words {
		if is(b, w) {
			return true
		}
	}
	return false
}
