package app_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// duelists are the commands that meet each other on one key, by the type that
// they are for. %k is that key, %o another one of the duel, of the same type
// at first.
var duelists = []struct{ kind, commands string }{
	{"string", `SET %k 7 ; SET %k x PX 3600000 ; SETNX %k 8 ; GETSET %k 9 ; GETDEL %k ; GETEX %k PX 7200000 ; MSET %k 1 %o 2 ; APPEND %k 3 ;
		SETRANGE %k 1 y ; SETBIT %k 2 1 ; BITFIELD %k INCRBY u8 0 3 ; BITOP XOR %k %k %o ; INCR %k ; DECRBY %k 4 ; INCRBYFLOAT %k 0.5 ;
		PFADD %k e ; PFMERGE %k %o`},
	{"string", `DEL %k ; UNLINK %k %o ; PEXPIRE %k 3600000 ; PEXPIRE %k -1 ; PERSIST %k ; RENAME %k %o ; RENAME %o %k ; COPY %k %o REPLACE ;
		COPY %o %k REPLACE ; MOVE %k 1 ; RESTORE %k 0 "\x00\x05hello\n\x00cr\xdfve4 \n" REPLACE`},
	{"list", `LPUSH %k a ; RPUSH %k x a ; LPUSHX %k b ; LPOP %k ; RPOP %k 2 ; LREM %k 0 x ; LSET %k 0 c ; LINSERT %k AFTER x d ; LTRIM %k 1 -1 ;
		LTRIM %k 0 -2 ; LMOVE %k %o LEFT RIGHT ; LMOVE %o %k LEFT RIGHT ; LMOVE %k %k LEFT RIGHT ; SORT %k ALPHA STORE %o`},
	{"hash", `HSET %k f 7 ; HSET %k g 8 h 9 ; HSETNX %k n 1 ; HINCRBY %k f 2 ; HINCRBYFLOAT %k f 0.5 ; HDEL %k f ; HDEL %k f g`},
	{"set", `SADD %k a ; SADD %k x b ; SREM %k x ; SREM %k x y z ; SPOP %k ; SMOVE %k %o x ; SMOVE %o %k w ; SUNIONSTORE %k %k %o ;
		SDIFFSTORE %k %k %o ; SINTERSTORE %o %k %o`},
	{"zset", `ZADD %k 7 x ; ZADD %k 8 a 9 b ; ZADD %k GT 9 x ; ZADD %k NX 5 x 6 c ; ZINCRBY %k 2 x ; ZREM %k x ; ZPOPMIN %k ; ZPOPMAX %k 2 ;
		ZREMRANGEBYRANK %k 0 0 ; ZREMRANGEBYSCORE %k 2 3 ; ZUNIONSTORE %k 2 %k %o ; ZINTERSTORE %o 2 %k %o ; ZRANGESTORE %k %o 0 0`},
}

// befores make a key of a type, and its neighbour.
var befores = map[string]string{
	"none":   "",
	"string": "SET %k 5 ; SET %o 6",
	"list":   "RPUSH %k x y z ; RPUSH %o x w",
	"hash":   "HSET %k f 1 g 2 ; HSET %o f 3",
	"set":    "SADD %k x y z ; SADD %o x w",
	"zset":   "ZADD %k 1 x 2 y 3 z ; ZADD %o 4 x 5 w",
}

// duel is two commands on one key, one at each site.
type duel struct {
	before, a, b string
	trial
}

// String tells the duel as a reader can repeat it.
func (d *duel) String() string {
	return fmt.Sprintf("before: %q, at a: %s, at b: %s", d.before, d.a, d.b)
}

// allDuels pairs every command with every other and itself, on no key and on
// a key of the type of each.
func allDuels() (all []*duel) {
	type duelist struct{ kind, command string }
	var list []duelist
	for _, d := range duelists {
		for c := range strings.SplitSeq(d.commands, ";") {
			list = append(list, duelist{d.kind, strings.TrimSpace(c)})
		}
	}
	for _, a := range list {
		for _, b := range list {
			for _, kind := range kindsOf(a.kind, b.kind) {
				prefix := fmt.Sprintf("duel:%d:", len(all))
				all = append(all, &duel{before: befores[kind], a: a.command, b: b.command, trial: trial{prefix: prefix}})
			}
		}
	}
	return all
}

func kindsOf(a, b string) []string {
	if a == b {
		return []string{"none", a}
	}
	return []string{"none", a, b}
}

// TestDuels runs two commands on one key, one at each site, before either site
// has seen the other's.
func TestDuels(t *testing.T) {
	l, _ := newLivingLink(t, living{linkOptions: linkOptions{argsA: wideBacklog(), argsB: wideBacklog()}})
	l.run()
	t.Run("end as the rules say", func(*testing.T) { judgeDuels(l) })
	t.Run("of all pairs end equal", func(t *testing.T) { pairDuels(t, l) })
}

// verdicts say what both sites hold in the end. Site a is home.
var verdicts = []struct{ before, a, b, read, want string }{
	{"", "SET %k 1", "SET %k 2", "GET %k", "2"},
	{"SET %k 5", "SET %k 10", "INCR %k", "GET %k", "11"},
	{"SET %k 5", "INCR %k", "SET %k 10", "GET %k", "10"},
	{"SET %k 5", "INCR %k", "INCR %k", "GET %k", "7"},
	{"SET %k 5", "SET %k 1", "DEL %k", "GET %k", "1"},
	{"SET %k 5", "DEL %k", "SET %k 2", "GET %k", "2"},
	{"SET %k 5", "INCR %k", "DEL %k", "GET %k", "6"},
	{"SET %k 5", "DEL %k", "INCR %k", "GET %k", "1"},
	{"SET %k v", "APPEND %k a", "APPEND %k b", "GET %k", "vab"},
	{"HSET %k f 0", "HSET %k g 1", "DEL %k", "HMGET %k f g", "[0,1]"},
	{"HSET %k f 0", "DEL %k", "HSET %k g 1", "HGETALL %k", "[g,1]"},
	{"", "HSET %k f 1", "HSET %k f 2", "HGETALL %k", "[f,2]"},
	{"", "HSET %k f 1", "HSET %k g 2", "HMGET %k f g", "[1,2]"},
	{"HSET %k f 0", "HSET %k f 1", "HDEL %k f", "HGETALL %k", "[f,1]"},
	{"SADD %k x y", "SADD %k z", "SREM %k x", "SMISMEMBER %k x y z", "[0,1,1]"},
	{"SADD %k x y", "SADD %k z", "SREM %k x z", "SMISMEMBER %k x y z", "[0,1,1]"},
	{"", "RPUSH %k a", "RPUSH %k b", "LRANGE %k 0 -1", "[a,b]"},
	{"RPUSH %k x", "RPUSH %k a", "LPOP %k", "LRANGE %k 0 -1", "[x,a]"},
	{"RPUSH %k x y", "LPOP %k", "LPOP %k", "LRANGE %k 0 -1", "[y]"},
	{"SET %k 5", "RENAME %k %j", "SET %k 2", "MGET %j %k", "[5,2]"},
	{"SET %k 5", "SET %k 1", "RENAME %k %j", "MGET %j %k", "[1,None]"},
	{"SET %k 5", "RENAME %k %j", "RENAME %k %l", "MGET %j %k %l", "[5,None,None]"},
}

func judgeDuels(l *link) {
	duels := make([]*duel, len(verdicts))
	for i, v := range verdicts {
		duels[i] = &duel{before: v.before, a: v.a, b: v.b, trial: trial{prefix: fmt.Sprintf("verdict:%d:", i)}}
	}
	l.duel(duels)
	l.endEqual(grace)
	for i, v := range verdicts {
		l.holds(strings.ReplaceAll(v.read, "%", duels[i].prefix), v.want)
	}
}

// pairDuels runs every pair of write commands.
func pairDuels(t *testing.T, l *link) {
	duels := allDuels()
	l.duel(duels)
	l.quiet()
	differences, err := testkit.Compare(t.Context(), l.a.Client(), l.b.Client(), testkit.CompareOptions{Grace: grace, Most: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Errorf("%v\n\t%v", d, duelOf(duels, d.Key))
	}
	t.Logf("%d duels, %d differences", len(duels), len(differences))
}

// duel makes what is there before at both sites, then runs the commands of
// all duels while neither site applies anything.
func (l *link) duel(duels []*duel) {
	l.t.Helper()
	l.fight(l.a, duels, func(d *duel) string { return d.before })
	l.endEqual(grace)
	l.pauseBoth()
	l.fight(l.a, duels, func(d *duel) string { return d.a })
	l.fight(l.b, duels, func(d *duel) string { return d.b })
	l.resumeBoth()
}

func duelOf(duels []*duel, key string) *duel {
	for _, d := range duels {
		if strings.HasPrefix(key, d.prefix) {
			return d
		}
	}
	return &duel{}
}

// fight runs one command of each duel at a site. Errors, such as of a command
// on a key of another type, are part of it.
func (l *link) fight(r *testkit.Redis, duels []*duel, of func(*duel) string) {
	l.t.Helper()
	_, err := r.Client().Pipelined(l.t.Context(), func(p goredis.Pipeliner) error {
		for _, d := range duels {
			for _, args := range d.commands(of(d)) {
				p.Do(l.t.Context(), args...)
			}
		}
		return nil
	})
	var refused goredis.Error
	if err != nil && !errors.As(err, &refused) {
		l.t.Fatal(err)
	}
}
