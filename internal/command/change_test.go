package command

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

func TestAppendChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, line string
		want       []string
	}{
		{"a plain write is itself", "SET k v", []string{"u key=k: SET k v"}},
		{"a script's spelling becomes upper case", "rpush l a", []string{"u key=l: RPUSH l a"}},

		{"MSET is a SET per pair", "MSET a 1 b 2", []string{"u key=a: SET a 1", "u key=b: SET b 2"}},
		{"MSETNX is a SET per pair", "MSETNX a 1 b 2", []string{"u key=a: SET a 1", "u key=b: SET b 2"}},
		{"MSETEX hands its expiry to each pair", "MSETEX 2 a 1 b 2 PXAT 99", []string{"u key=a: SET a 1 PXAT 99", "u key=b: SET b 2 PXAT 99"}},
		{"MSETEX keeps TTLs", "MSETEX 2 a 1 b 2 NX keepttl", []string{"u key=a: SET a 1 KEEPTTL", "u key=b: SET b 2 KEEPTTL"}},
		{"MSETEX without expiry", "MSETEX 1 a 1 XX", []string{"u key=a: SET a 1"}},
		{"MSETEX in seconds", "MSETEX 1 a 1 EXAT 7", []string{"u key=a: SET a 1 PXAT 7000"}},
		{"DEL is a deletion per key", "del a b", []string{"d key=a: DEL a", "d key=b: DEL b"}},
		{"UNLINK stays UNLINK", "UNLINK a b", []string{"d key=a: UNLINK a", "d key=b: UNLINK b"}},
		{"GETDEL deletes", "GETDEL k", []string{"d key=k: DEL k"}},
		{"DELIFEQ deletes", "DELIFEQ k v", []string{"d key=k: DEL k"}},
		{"DELEX deletes", "DELEX k IFEQ v", []string{"d key=k: DEL k"}},

		{"SET NX held", "SET k v NX", []string{"u key=k: SET k v"}},
		{"SET XX GET held", "set k v xx get", []string{"u key=k: SET k v"}},
		{"SET IFEQ held", "SET k v IFEQ NX", []string{"u key=k: SET k v"}},
		{"SET IFDNE held", "SET k v IFDNE 1234 KEEPTTL", []string{"u key=k: SET k v KEEPTTL"}},
		{"SET KEEPTTL is no condition", "SET k v KEEPTTL", []string{"u key=k: SET k v KEEPTTL"}},
		{"SET PXAT stays", "SET k v PXAT 99", []string{"u key=k: SET k v PXAT 99"}},
		{"SET in lower case", "set k v xx pxat 99", []string{"u key=k: SET k v PXAT 99"}},
		{"SET in seconds", "SET k v EXAT 99", []string{"u key=k: SET k v PXAT 99000"}},
		{"SETNX held", "SETNX k v", []string{"u key=k: SET k v"}},
		{"GETSET is SET", "GETSET k v", []string{"u key=k: SET k v"}},
		{"GETEX at a time", "GETEX k PXAT 99", []string{"u key=k: PEXPIREAT k 99"}},
		{"GETEX in seconds", "GETEX k EXAT 99", []string{"u key=k: PEXPIREAT k 99000"}},
		{"GETEX for good", "GETEX k PERSIST", []string{"u key=k: PERSIST k"}},

		{"PEXPIREAT GT held", "PEXPIREAT k 99 GT", []string{"u key=k: PEXPIREAT k 99"}},
		{"EXPIREAT in seconds", "EXPIREAT k 99 NX", []string{"u key=k: PEXPIREAT k 99000"}},
		{"RENAMENX held", "RENAMENX a b", []string{"u key=a,b: RENAME a b"}},
		{"MOVE makes room", "MOVE k 3", []string{"d db=3 key=k: DEL k", "u key=k: MOVE k 3"}},
		{"COPY makes room", "COPY a b DB 2", []string{"u key=b: COPY a b DB 2 REPLACE"}},
		{"COPY REPLACE as it is", "COPY a b replace", []string{"u key=b: COPY a b replace"}},
		{"COPY of a key called REPLACE", "COPY replace b", []string{"u key=b: COPY replace b REPLACE"}},
		{"RESTORE makes room", "RESTORE k 0 p IDLETIME 5", []string{"u key=k: RESTORE k 0 p IDLETIME 5 REPLACE"}},
		{"RESTORE at a time", "RESTORE k 99 p REPLACE ABSTTL", []string{"u key=k: RESTORE k 99 p REPLACE ABSTTL"}},
		{"SORT STORE writes its destination", "SORT l BY w_* GET # STORE d", []string{"u key=d: SORT l BY w_* GET # STORE d"}},

		{"LPUSHX held", "LPUSHX l a b", []string{"u key=l: LPUSH l a b"}},
		{"RPUSHX held", "RPUSHX l a", []string{"u key=l: RPUSH l a"}},
		{"LMOVE in lower case", "LMOVE l m left RIGHT", []string{"u key=l,m: LMOVE l m LEFT RIGHT"}},
		{"BLMOVE did not wait", "BLMOVE l m left right 0", []string{"u key=l,m: LMOVE l m LEFT RIGHT"}},
		{"BRPOPLPUSH did not wait", "BRPOPLPUSH l m 0", []string{"u key=l,m: RPOPLPUSH l m"}},
		{"SMOVE writes both", "SMOVE s t a", []string{"u key=s,t: SMOVE s t a"}},
		{"SUNIONSTORE writes one", "SUNIONSTORE d s t", []string{"u key=d: SUNIONSTORE d s t"}},
		{"BITOP writes its destination", "BITOP AND d a b", []string{"u key=d: BITOP AND d a b"}},

		{"HSETNX held", "HSETNX h f v", []string{"u key=h: HSET h f v"}},
		{"HSETEX FNX held", "HSETEX h FNX PXAT 99 FIELDS 1 a 1", []string{"u key=h: HSETEX h PXAT 99 FIELDS 1 a 1"}},
		{"HSETEX of the key's existence held", "HSETEX h NX FXX KEEPTTL FIELDS 1 a 1", []string{"u key=h: HSETEX h KEEPTTL FIELDS 1 a 1"}},
		{"HSETEX in seconds", "HSETEX h EXAT 9 FIELDS 1 a 1", []string{"u key=h: HSETEX h PXAT 9000 FIELDS 1 a 1"}},
		{"HSETEX of a field called FIELDS", "HSETEX h FIELDS 1 FIELDS 1", []string{"u key=h: HSETEX h FIELDS 1 FIELDS 1"}},
		{"HPEXPIREAT NX of one field held", "HPEXPIREAT h 99 NX FIELDS 1 a", []string{"u key=h: HPEXPIREAT h 99 FIELDS 1 a"}},
		{"HPEXPIREAT NX of two may have held for one", "HPEXPIREAT h 99 NX FIELDS 2 a b", []string{"u key=h: HPEXPIREAT h 99 NX FIELDS 2 a b"}},
		{"HEXPIREAT in seconds", "HEXPIREAT h 9 GT FIELDS 1 a", []string{"u key=h: HPEXPIREAT h 9000 FIELDS 1 a"}},
		{"HGETDEL is HDEL", "HGETDEL h FIELDS 2 a b", []string{"u key=h: HDEL h a b"}},

		{"ZADD GT of one member held", "ZADD z GT CH 5 a", []string{"u key=z: ZADD z 5 a"}},
		{"ZADD NX of two may have held for one", "zadd z nx ch 1 a 2 b", []string{"u key=z: ZADD z nx 1 a 2 b"}},
		{"ZADD XX LT of two", "ZADD z XX LT 1 a 2 b", []string{"u key=z: ZADD z XX LT 1 a 2 b"}},
		{"ZADD CH of two", "ZADD z CH 1 a 2 b", []string{"u key=z: ZADD z 1 a 2 b"}},
		{"ZADD INCR is ZINCRBY", "ZADD z XX INCR 1.1 a", []string{"u key=z: ZINCRBY z 1.1 a"}},
		{"ZADD of members called like options", "ZADD z 1 NX 2 GT", []string{"u key=z: ZADD z 1 NX 2 GT"}},
		{"ZUNIONSTORE writes its destination", "ZUNIONSTORE d 2 z y", []string{"u key=d: ZUNIONSTORE d 2 z y"}},
		{"GEORADIUS STORE writes its destination", "GEORADIUS g 15 37 200 km STORE d", []string{"u key=d: GEORADIUS g 15 37 200 km STORE d"}},

		{"XADD as it is", "XADD x MAXLEN = 3 5-0 f v", []string{"u key=x: XADD x MAXLEN = 3 5-0 f v"}},
		{"XADD without LIMIT", "XADD x MINID = 1-1 LIMIT 10 5-0 f v", []string{"u key=x: XADD x MINID = 1-1 5-0 f v"}},
		{"XADD without NOMKSTREAM", "XADD x nomkstream DELREF MAXLEN 1 5-0 f v", []string{"u key=x: XADD x DELREF MAXLEN 1 5-0 f v"}},
		{"XADD without IDMP", "XADD x IDMP prod id1 5-0 f v", []string{"u key=x: XADD x 5-0 f v"}},
		{"XADD without IDMPAUTO", "XADD x IDMPAUTO prod 5-0 f v", []string{"u key=x: XADD x 5-0 f v"}},
		{"a duplicate that IDMP caught is no change", "XADD x IDMP prod id1 * f v", nil},
		{"what IDMP knows is no change", "XIDMPRECORD x prod id1 5-0", nil},
		{"XADD of fields called like options", "XADD x 5-0 LIMIT IDMP", []string{"u key=x: XADD x 5-0 LIMIT IDMP"}},
		{"XTRIM without LIMIT", "XTRIM x MAXLEN = 1 LIMIT 10 DELREF", []string{"u key=x: XTRIM x MAXLEN = 1 DELREF"}},
		{"XTRIM as it is", "XTRIM x MAXLEN 1", []string{"u key=x: XTRIM x MAXLEN 1"}},
		{"XGROUP's key is its second argument", "XGROUP SETID x g 1-1", []string{"u key=x: XGROUP SETID x g 1-1"}},
		{"XCLAIM as it is", "XCLAIM x g c 0 1-1 TIME 9 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1", []string{"u key=x: XCLAIM x g c 0 1-1 TIME 9 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1"}},

		{"PUBLISH is a message", "PUBLISH ch m", []string{"m db=-1: PUBLISH ch m"}},
		{"what Sentinels tell each other stays at their site", "PUBLISH __sentinel__:hello 127.0.0.1,26379,id,0,mymaster,127.0.0.1,6379,0", nil},
		{"SPUBLISH is a message", "SPUBLISH ch m", []string{"m db=-1: SPUBLISH ch m"}},
		{"FLUSHDB is of its database", "FLUSHDB ASYNC", []string{"t: FLUSHDB"}},
		{"FLUSHALL is of none", "FLUSHALL SYNC", []string{"t db=-1: FLUSHALL"}},
		{"SWAPDB names two", "SWAPDB 0 1", []string{"t db=-1: SWAPDB 0 1"}},
		{"FUNCTION LOAD makes room", "function load code", []string{"f db=-1: FUNCTION LOAD REPLACE code"}},
		{"FUNCTION LOAD REPLACE", "FUNCTION LOAD replace code", []string{"f db=-1: FUNCTION LOAD REPLACE code"}},
		{"FUNCTION RESTORE makes room", "FUNCTION RESTORE p", []string{"f db=-1: FUNCTION RESTORE p REPLACE"}},
		{"FUNCTION RESTORE FLUSH", "FUNCTION RESTORE p FLUSH", []string{"f db=-1: FUNCTION RESTORE p FLUSH"}},
		{"FUNCTION DELETE", "FUNCTION DELETE lib", []string{"f db=-1: FUNCTION DELETE lib"}},
		{"FUNCTION FLUSH", "FUNCTION FLUSH ASYNC", []string{"f db=-1: FUNCTION FLUSH"}},

		{"PFCOUNT stores a cache", "PFCOUNT h", nil},
		{"RESTORE-ASKING moves a slot", "RESTORE-ASKING k 0 p", nil},
		{"TRIMSLOTS moves a slot", "TRIMSLOTS RANGES 1 100 100", nil},
		{"CLUSTER SYNCSLOTS moves a slot", "CLUSTER SYNCSLOTS CONF a b", nil},
		{"SCRIPT fills a cache", "SCRIPT LOAD s", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			events, err := AppendChanges(nil, 0, bytesOf(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, linesOf(events)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

func TestAppendChangesRefuses(t *testing.T) {
	t.Parallel()
	before := []schema.Event{{Op: schema.OpControl}}
	for _, tt := range []struct{ name, line, want string }{
		{"no name", "", "without a name"},
		{"no key", "SET", "SET: wrong number of arguments"},
		{"too many arguments", "INCR a b", "INCR: wrong number of arguments"},
		{"half a pair", "MSET a 1 b", "MSET: wrong number of arguments"},
		{"more keys than arguments", "MSETEX 3 a 1 b 2", `"3" is not the number of keys`},
		{"a huge number of keys", "MSETEX 9223372036854775807 a 1", "is not the number of keys"},
		{"a negative number of keys", "ZUNIONSTORE d -1 a", "is not the number of keys"},
		{"an unknown option", "SET k v FRESH", `SET: option "FRESH" is not known`},
		{"an option without its value", "SET k v PXAT", `option "PXAT"`},
		{"a relative expiry in SET", "SET k v EX 10", "upgrade the server"},
		{"a relative expiry in EXPIRE", "EXPIRE k 10", "upgrade the server"},
		{"a relative expiry in SETEX", "SETEX k 10 v", "upgrade the server"},
		{"a relative expiry in GETEX", "GETEX k PX 10", "upgrade the server"},
		{"a relative expiry in RESTORE", "RESTORE k 10 p", "upgrade the server"},
		{"a relative expiry in HPEXPIRE", "HPEXPIRE h 10 FIELDS 1 a", "upgrade the server"},
		{"a time that does not fit", "EXPIREAT k 9223372036854775807", "not a time in seconds"},
		{"a random effect", "SPOP s", "replicate what this command did"},
		{"a script", "EVAL s 0", "replicate what this command did"},
		{"an id to be chosen", "XADD x * f v", `the id "*"`},
		{"XADD without fields", "XADD x IDMP a b 5-0 f", "wrong number of arguments"},
		{"XADD cut in an option", "XADD x NOMKSTREAM KEEPREF MAXLEN", "wrong number of arguments"},
		{"XTRIM cut in LIMIT", "XTRIM x MAXLEN 1 LIMIT", "wrong number of arguments"},
		{"ZADD without members", "ZADD z NX CH XX", "wrong number of arguments"},
		{"ZADD INCR of two", "ZADD z INCR 1 a 2 b", "wrong number of arguments"},
		{"HPEXPIREAT of the wrong count", "HPEXPIREAT h 9 FIELDS 2 a", `"2" is not the number of fields`},
		{"HSETEX without FIELDS", "HSETEX h KEEPTTL a b c", "FIELDS is missing"},
		{"LMOVE of no end", "LMOVE a b UP DOWN", "neither LEFT nor RIGHT"},
		{"MOVE to the same database", "MOVE k 0", `"0" is not another database`},
		{"a read", "GET k", "does not belong in a replication stream"},
		{"SORT without STORE", "SORT l", "does not belong in a replication stream"},
		{"the server's own", "CONFIG SET a b", "does not belong in a replication stream"},
		{"plumbing", "SELECT 1", "steers the connection"},
		{"a module's command", "FT.ADD i", "keep the module's data"},
		{"an unknown subcommand", "XGROUP FOO a", `"XGROUP FOO" is not known`},
		{"a slot flushed", "CLUSTER FLUSHSLOT 1", `"CLUSTER FLUSHSLOT" is not known`},
		{"an endless name", strings.Repeat("x", 10_000), "is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			events, err := AppendChanges(before, 0, bytesOf(tt.line))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if len(events) != 1 {
				t.Errorf("got %d events, want the one from before", len(events))
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestUnknownCommandIsItsOwnError(t *testing.T) {
	t.Parallel()
	_, err := AppendChanges(nil, 0, bytesOf("JSON.SET k $ 1"))
	var unknown *UnknownError
	if !errors.As(err, &unknown) || unknown.Name != "JSON.SET" {
		t.Errorf("got %v, want an UnknownError of JSON.SET", err)
	}
}

func TestEventsDoNotReachBeyondTheirArguments(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"SET k v", "MSET a 1 b 2", "DEL a b", "RENAME a b", "SMOVE s t a", "PEXPIREAT k 9 NX", "COPY a b", "SETNX k v"} {
		argv := append(bytesOf(line), []byte("next command"))
		events, err := AppendChanges(nil, 0, argv[:len(argv)-1])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			_ = append(e.Args, []byte("stray"))
			_ = append(e.OtherKeys, []byte("stray"))
		}
		if got := string(argv[len(argv)-1]); got != "next command" {
			t.Errorf("%s: what followed is now %q", line, got)
		}
		if diff := cmp.Diff(bytesOf(line), argv[:len(argv)-1]); diff != "" {
			t.Errorf("%s: the command changed:\n%s", line, diff)
		}
	}
}

func TestNeedsRefresh(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{"SORT l STORE d": true, "SET SORT v": false, "SUNIONSTORE d s": false} {
		events, err := AppendChanges(nil, 0, bytesOf(line))
		if err != nil {
			t.Fatal(err)
		}
		if got := NeedsRefresh(&events[0]); got != want {
			t.Errorf("%s: got %v", line, got)
		}
	}
}

func TestExpiryArg(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want string // the expiry; empty: none
	}{
		{"SET k v PXAT 99", "99"},
		{"SET k v", ""},
		{"SET k v KEEPTTL", ""},
		{"SET PXAT PXAT", ""},
		{"PEXPIREAT k 99", "99"},
		{"HPEXPIREAT h 99 FIELDS 1 a", "99"},
		{"HSETEX h PXAT 99 FIELDS 1 a 1", "99"},
		{"HSETEX h KEEPTTL FIELDS 1 a 1", ""},
		{"RESTORE k 99 p REPLACE ABSTTL", "99"},
		{"RESTORE k 0 p REPLACE ABSTTL", ""},
		{"RESTORE k 0 p REPLACE", ""},
		{"INCR k", ""},
		{"SET", ""},
		{"PEXPIREAT k", ""},
		{"HSETEX h", ""},
		{"RESTORE k", ""},
	} {
		argv := bytesOf(tt.line)
		got := ""
		if i, ok := ExpiryArg(string(argv[0]), argv[1:]); ok {
			got = string(argv[1+i])
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestKeyReadAndWrittenCountsAsWritten(t *testing.T) {
	t.Parallel()
	var k Keys
	for range 2 { // reuse
		k.Reset()
		for _, line := range []string{"SUNIONSTORE d d t", "COPY a b DB 2", "COPY a a DB 1", "LMOVE l m LEFT LEFT"} {
			argv := bytesOf(line)
			if err := Lookup(argv[0]).AppendKeys(&k, argv[1:]); err != nil {
				t.Fatal(err)
			}
		}
		want := Keys{Written: bytesOf("d b a l m"), Read: bytesOf("t a")}
		if diff := cmp.Diff(want, k); diff != "" {
			t.Errorf("keys differ (-want +got):\n%s", diff)
		}
	}
}

// The pieces of a command have its changes.
func TestPiecesOfACommandHaveItsChanges(t *testing.T) {
	for _, line := range []string{
		"MSET a 1 b 2 c 3 d 4 e 5", "MSETNX a 1 b 2 c 3", "DEL a b c d e", "UNLINK a b c", "MSET a 1", "DEL a",
		"SUNIONSTORE a b c d e", "MSETEX 3 a 1 b 2 c 3 PXAT 99", "RPUSH a 1 2 3 4 5",
	} {
		var argv [][]byte
		for _, w := range strings.Fields(line) {
			argv = append(argv, []byte(w))
		}
		want, err := AppendChanges(nil, 3, argv)
		if err != nil {
			t.Fatal(err)
		}
		var got []schema.Event
		for piece := range Pieces(argv, 2) {
			if got, err = AppendChanges(got, 3, piece); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
	if _, err := AppendChanges(nil, 0, slices.Collect(Pieces([][]byte{[]byte("MSET"), {}, {}, {}}, 1))[0]); err == nil {
		t.Error("an odd MSET is taken")
	}
}
