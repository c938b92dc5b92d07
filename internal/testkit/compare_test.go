package testkit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// run sends commands, one a line, words between spaces.
func run(t *testing.T, client *goredis.Client, commands string) {
	t.Helper()
	conn := client.Conn()
	defer conn.Close()
	for line := range strings.Lines(commands) {
		var args []any
		for _, w := range strings.Fields(line) {
			args = append(args, w)
		}
		if len(args) == 0 {
			continue
		}
		if err := conn.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	if err := conn.Select(t.Context(), 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// everything is a data set with a value of each kind.
const everything = `
SET string value
SET expiring value PXAT 4000000000000
RPUSH list a b c
SADD set a b c
SADD ints 1 2 3
HSET hash f 1 g 2
ZADD zset 1.5 a -0 b +inf c
XADD stream 1-1 f 1 f 2
XADD stream 2-1 g 1
XADD stream 3-1 g 2
XDEL stream 3-1
XGROUP CREATE stream group 0
XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >
XCLAIM stream group consumer 0 1-1 TIME 1700000000000 RETRYCOUNT 3 JUSTID
PFADD hll a b c
SELECT 3
SET other value
`

func plant(t *testing.T, client *goredis.Client) {
	t.Helper()
	if err := client.Do(t.Context(), "FLUSHALL").Err(); err != nil {
		t.Fatal(err)
	}
	code := "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
	if err := client.Do(t.Context(), "FUNCTION", "LOAD", "REPLACE", code).Err(); err != nil {
		t.Fatal(err)
	}
	run(t, client, everything)
}

func TestCompareFindsEveryKindOfDifference(t *testing.T) {
	a, b := StartRedis(t), StartRedis(t)
	plant(t, a.Client())
	for _, tt := range []struct{ name, change, want string }{
		{"a missing key", "DEL string", `db 0, key "string": type: a has string, b has none`},
		{"a key too many", "SET new 1", `db 0, key "new": type: a has none, b has string`},
		{"another string", "APPEND string x", `value: a has "value", b has "valuex"`},
		{"another type", "DEL list\nSADD list a b c", "type: a has list, b has set"},
		{"another element", "LSET list 1 x", `part 1 (of 3 and 3): a has "b", b has "x"`},
		{"another order", "LSET list 0 b\nLSET list 1 a", `part 0 (of 3 and 3): a has "a", b has "b"`},
		{"a shorter list", "RPOP list", `part 2 (of 3 and 2): a has "c", b has nothing`},
		{"a member too many", "SADD set z", `part 3 (of 3 and 4): a has nothing, b has "z"`},
		{"another field value", "HSET hash g 3", `b has "\"g\" = \"3\""`},
		{"another score", "ZADD zset 1.5000000000000002 a", "1.5000000000000002"},
		{"a stream entry", "XADD stream 9-1 f 1", `b has "entry 9-1`},
		{"a stream's last id", "XSETID stream 9-9", "last id 9-9"},
		{"a stream's counter", "XSETID stream 3-1 ENTRIESADDED 9 MAXDELETEDID 3-1", "entries added 9"},
		{"a group too many", "XGROUP CREATE stream g2 0", "group g2"},
		{"a group's place", "XGROUP SETID stream group 2-1", "last delivered 2-1"},
		{"a consumer too many", "XGROUP CREATECONSUMER stream group idle", "consumer idle with 0 pending"},
		{"an acknowledged entry", "XACK stream group 1-1", "consumer with 0 pending"},
		{"another delivery count", "XCLAIM stream group consumer 0 1-1 TIME 1700000000000 RETRYCOUNT 4 JUSTID", "1700000000000 4"},
		{"another delivery time", "XCLAIM stream group consumer 0 1-1 TIME 1700000000001 RETRYCOUNT 3 JUSTID", "1700000000001 3"},
		{"an expiry too late", "PEXPIREAT expiring 4000000001001", "expiry: a has 4000000000000 (2096-10-02T07:06:40.000Z), b has 4000000001001"},
		{"an expiry too early", "PEXPIREAT expiring 3999999998999", "expiry"},
		{"an expiry lost", "PERSIST expiring", "b has none"},
		{"an expiry from nowhere", "PEXPIREAT string 4000000000000", "a has none"},
		{"a HyperLogLog", "PFADD hll d", `key "hll": value`},
		{"another database", "SELECT 3\nSET other changed", `db 3, key "other"`},
		{"a database too many", "SELECT 5\nSET k v", `db 5, key "k"`},
		{"a missing function", "FUNCTION FLUSH", `function library "lib": code`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plant(t, b.Client())
			run(t, b.Client(), tt.change)
			differences, err := Compare(t.Context(), a.Client(), b.Client(), CompareOptions{Grace: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if len(differences) == 0 || !strings.Contains(fmt.Sprint(differences), tt.want) {
				t.Errorf("differences = %v, want %s", differences, tt.want)
			}
			backwards, err := Compare(t.Context(), b.Client(), a.Client(), CompareOptions{Grace: time.Second})
			if err != nil || len(backwards) != len(differences) {
				t.Errorf("the other way round: %v, %v", backwards, err)
			}
		})
	}
}

func TestComparePassesWhatMayDiffer(t *testing.T) {
	a, b := StartRedis(t), StartRedis(t, "--list-max-listpack-size", "1", "--set-max-intset-entries", "0", "--hash-max-listpack-entries", "0")
	plant(t, a.Client())
	for _, tt := range []struct{ name, change string }{
		{"nothing at all", ""},
		{"an expiry within the grace", "PEXPIREAT expiring 4000000001000"},
		{"a reserved key", "SET __twinlog:l:a-to-b:0 1"},
		{"the order of a set", "SREM set a\nSADD set a"},
		{"the order of a hash", "HDEL hash f\nHSET hash f 1"},
		{"the cache of a HyperLogLog", "PFCOUNT hll"},
		{"an idle consumer, left out", "XGROUP CREATECONSUMER stream group idle"},
		{"what was read by a group before 7.2", "XGROUP SETID stream group 1-1 ENTRIESREAD 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plant(t, b.Client())
			run(t, b.Client(), tt.change)
			differences, err := Compare(t.Context(), a.Client(), b.Client(), CompareOptions{Grace: time.Second, IgnoreIdleConsumers: true})
			if err != nil || len(differences) > 0 {
				t.Errorf("differences = %v, %v", differences, err)
			}
		})
	}
	differences, err := Compare(t.Context(), a.Client(), a.Client(), CompareOptions{WithReserved: true})
	if err != nil || len(differences) > 0 {
		t.Errorf("with itself: %v, %v", differences, err)
	}
}

func TestCompareEndsAfterEnough(t *testing.T) {
	a, b := StartRedis(t), StartRedis(t)
	for i := range 500 {
		run(t, a.Client(), fmt.Sprintf("SET k%d v", i))
	}
	differences, err := Compare(context.Background(), a.Client(), b.Client(), CompareOptions{Most: 3})
	if err != nil || len(differences) != 3 {
		t.Errorf("%d differences, %v", len(differences), err)
	}
}
