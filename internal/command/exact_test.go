package command

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// exactCases are changes that held at an origin prepared by setup. The last
// command is what stands in its stream.
var exactCases = [][]string{
	{"SET k v NX"},
	{"SET k old PX 1000000", "SET k v XX"},
	{"SET k old PXAT 9900000000000", "SET k v XX KEEPTTL"},
	{"SET k old", "SET k v GET PXAT 9900000000000"},
	{"SET k old", "SET k v EXAT 9900000000"},
	{"SETNX k v"},
	{"SET k old PXAT 9900000000000", "GETSET k v"},
	{"SET k v", "GETDEL k"},
	{"SET k v", "GETEX k EXAT 9900000000"},
	{"SET k v PXAT 9900000000000", "GETEX k PERSIST"},
	{"SET a 0 PXAT 9900000000000", "MSET a 1 b 2 a 3"},
	{"MSETNX a 1 b 2"},
	{"MSET a 1 b 2 c 3", "DEL a b missing"},
	{"MSET a 1 b 2 c 3", "UNLINK a b"},
	{"SET k v", "PEXPIREAT k 9900000000000 NX"},
	{"SET k v PXAT 9800000000000", "PEXPIREAT k 9900000000000 XX GT"},
	{"SET k v PXAT 9900000000000", "PEXPIREAT k 9800000000000 LT"},
	{"SET k v", "EXPIREAT k 9900000000 NX"},
	{"SET k v PXAT 9900000000000", "MOVE k 3"},
	{"SET a v PXAT 9900000000000", "COPY a b"},
	{"SET a v", "COPY a b DB 2"},
	{"MSET a 1 b 2", "COPY a b REPLACE"},
	{"SET a v PXAT 9900000000000", "RENAMENX a b"},
	{`RESTORE k 0 "\x00\x05hello\x0a\x00cr\xdfve4 \x0a"`},
	{`RESTORE k 9900000000000 "\x00\x05hello\x0a\x00cr\xdfve4 \x0a" ABSTTL IDLETIME 100`},
	{"RPUSH l a b", "LPUSHX l c d"},
	{"RPUSH l a b", "RPUSHX l c d"},
	{"RPUSH l a b", "LMOVE l m left right"},
	{"RPUSH l a b", "BLMOVE l m RIGHT left 0"},
	{"RPUSH l a b", "BRPOPLPUSH l m 0"},
	{"HSETNX h a 1"},
	{"HSET h b 1", "HSETNX h a 1"},
	{"ZADD z 1 a", "ZADD z XX GT CH 5 a"},
	{"ZADD z 9 a", "ZADD z LT 5 a"},
	{"ZADD z 1 b", "ZADD z NX CH 5 a"},
	{"ZADD z 5 a", "ZADD z NX CH 1 a 2 b"},
	{"ZADD z 5 a 1 b", "ZADD z GT 3 a 3 b 3 c"},
	{"ZADD z 5 a 1 b", "ZADD z XX CH 3 a 3 c"},
	{"ZADD z 5 a", "ZADD z CH 3 a 3 c"},
	{"ZADD z 0.1 a", "ZADD z XX GT INCR 1.1 a"},
	{"ZADD z NX INCR 1.1 a"},
	{"XADD x 1-1 f v", "XADD x NOMKSTREAM MAXLEN = 1 5-0 f v"},
	{"XADD x 1-1 f v", "XADD x NOMKSTREAM 5-0 f v"},
	{"XADD x 1-1 f v", "XADD x 2-1 f v", "XTRIM x MINID 2-1"},
	{"XADD x 1-1 f v", "XGROUP CREATE x g 0"},
	{"GEOADD g 13.36 38.11 Palermo 15.08 37.50 Catania", "GEORADIUS g 15 37 200 km STORE d"},
	{"SADD s 1 2", "SADD t 2 3", "SUNIONSTORE s s t"},
	{"MSET a 1 b 2", "FLUSHDB ASYNC"},
	{"MSET a 1 b 2", "FLUSHALL SYNC"},
	{"MSET a 1 b 2", "SWAPDB 0 1"},
	{`FUNCTION LOAD "#!lua name=l1\nredis.register_function('f1', function() return 1 end)"`},
	{`FUNCTION LOAD "#!lua name=l1\nredis.register_function('f1', function() return 1 end)"`, "FUNCTION FLUSH SYNC"},
	{"PFADD h a b c", "PFCOUNT h"},
}

// An origin runs what is in its stream, a copy that was equal before runs the
// events: both are equal after.
func TestEffectFormIsExact(t *testing.T) {
	t.Parallel()
	origin, replica := startRedis(t), startRedis(t)
	for _, lines := range exactCases {
		for _, c := range []*redis.Conn{origin, replica} {
			do(t, c, "FLUSHALL")
			do(t, c, "FUNCTION FLUSH")
			for _, line := range lines[:len(lines)-1] {
				do(t, c, line)
			}
		}
		line := lines[len(lines)-1]
		before := state(t, origin)
		do(t, origin, line)
		events, err := AppendChanges(nil, 0, bytesOf(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		for _, e := range events {
			do(t, replica, fmt.Sprintf("SELECT %d", max(e.DB, 0)))
			if _, err := doArgs(t, replica, append([][]byte{[]byte(e.Command)}, e.Args...)); err != nil {
				t.Errorf("%s: %s: %v", line, lineOf(&e), err)
			}
		}
		do(t, replica, "SELECT 0")
		after := state(t, origin)
		if len(events) > 0 && cmp.Equal(before, after) {
			t.Errorf("%s changed nothing: no case", line)
		}
		if diff := cmp.Diff(after, state(t, replica)); len(events) > 0 && diff != "" {
			t.Errorf("%s: states differ (-origin +copy):\n%s", line, diff)
		}
	}
}

// state is all that a Redis holds: values and expiries by database and key.
func state(t *testing.T, c *redis.Conn) map[string]string {
	t.Helper()
	held := map[string]string{"functions": fmt.Sprintf("%q", do(t, c, "FUNCTION DUMP"))}
	for db := range 4 {
		do(t, c, fmt.Sprintf("SELECT %d", db))
		for _, k := range do(t, c, "KEYS *").([]any) {
			held[fmt.Sprintf("%d %s", db, k)] = fmt.Sprintf("%q %d", do(t, c, "DUMP "+k.(string)), do(t, c, "PEXPIRETIME "+k.(string)))
		}
	}
	do(t, c, "SELECT 0")
	return held
}
