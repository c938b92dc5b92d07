package testkit

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// sharedCommands are what a client of a Shared load runs, each line as likely
// as the others. A word that begins with $ stands for something at random:
//
//	$k $s $l $h $t $z   any key; one that begins as a string, list, hash, set, zset
//	$w $n $f $m $i      a word, a number, a field, a member, an index
//	$short $long        a time to live in ms: shorter, longer than the load
//	$dump               the DUMP of a string
//
// Streams are not among them: they have one writing site.
var sharedCommands = lines(`
	SET $s $w
	SET $k $w
	SET $s $n
	SET $s $w PX $short
	SET $s $w PX $long
	SET $s $w KEEPTTL
	SET $s $w NX
	SET $k $w XX GET
	SETEX $s 3600 $w
	PSETEX $s $short $w
	SETNX $s $w
	GETSET $s $w
	GETDEL $s
	GETEX $s PX $long
	GETEX $s PERSIST
	MSET $s $w $s $n $k $w
	MSETNX $s $w $s $w
	APPEND $s $w
	SETRANGE $s $i $w
	SETBIT $s $n 1
	BITFIELD $s INCRBY u8 $i 7
	BITOP XOR $s $s $s
	INCR $s
	DECR $s
	INCRBY $s $n
	DECRBY $s $n
	INCRBYFLOAT $s 0.5
	PFADD $k $w $w
	PFMERGE $k $k $k
	DEL $k
	DEL $s $h $z
	UNLINK $k
	UNLINK $l $t
	EXPIRE $k 3600
	PEXPIRE $k $short
	PEXPIRE $k $long
	PEXPIRE $k $long GT
	PERSIST $k
	RENAME $k $k
	RENAMENX $k $k
	COPY $k $k
	COPY $k $k REPLACE
	MOVE $k 2
	COPY $k $k DB 2 REPLACE
	RESTORE $k 0 $dump REPLACE
	SORT $t ALPHA STORE $l
	LPUSH $l $w
	RPUSH $l $w $w
	LPUSH $k $w
	LPUSHX $l $w
	RPUSHX $l $w
	LPOP $l
	RPOP $l 2
	LMPOP 2 $l $l RIGHT COUNT 2
	BLPOP $l 0.001
	LSET $l $i $w
	LINSERT $l BEFORE $w $w
	LREM $l 0 $w
	LTRIM $l 0 40
	LTRIM $l 1 -1
	LMOVE $l $l LEFT RIGHT
	RPOPLPUSH $l $l
	HSET $h $f $w
	HSET $h $f $n $f $w
	HSET $k $f $w
	HMSET $h $f $w $f $w
	HSETNX $h $f $w
	HINCRBY $h $f $n
	HINCRBYFLOAT $h $f 0.25
	HDEL $h $f
	HDEL $h $f $f $f
	SADD $t $m
	SADD $t $m $m $m
	SADD $k $m
	SREM $t $m
	SREM $t $m $m
	SPOP $t
	SPOP $t 2
	SMOVE $t $t $m
	SUNIONSTORE $t $t $t
	SINTERSTORE $t $t $t
	SDIFFSTORE $t $t $t
	ZADD $z $n $m
	ZADD $z $n $m $n $m
	ZADD $z NX $n $m $n $m
	ZADD $z GT CH $n $m
	ZADD $z INCR $n $m
	ZADD $k $n $m
	ZINCRBY $z $n $m
	ZREM $z $m
	ZREM $z $m $m
	ZPOPMIN $z
	ZPOPMAX $z 2
	ZMPOP 2 $z $z MIN
	ZREMRANGEBYRANK $z 0 1
	ZREMRANGEBYSCORE $z -5 $n
	ZREMRANGEBYLEX $z [a [m2
	ZUNIONSTORE $z 2 $z $z
	ZINTERSTORE $z 2 $z $z
	ZDIFFSTORE $z 2 $z $z
	ZRANGESTORE $z $z 0 3
	GEOADD $z 13.36 38.11 $m
	GEOSEARCHSTORE $z $z FROMLONLAT 15 37 BYRADIUS 200 km
`)

// lines splits a text into the words of its lines.
func lines(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			all = append(all, words)
		}
	}
	return all
}

// dumpOfString is what DUMP of "hello" answers at Redis 7.0, which later ones take.
const dumpOfString = "\x00\x05hello\n\x00cr\xdfve4 \n"

// kinds are the types that shared keys begin with, by the letter of their keys.
const kinds = "slhtz"

// sharedKeys picks from the keys and the few elements that both sites have.
type sharedKeys struct {
	random *rand.Rand
	keys   int // of each kind
}

// command makes one of the commands, with everything at random.
func (p *sharedKeys) command() []any {
	return p.fill(sharedCommands[p.random.IntN(len(sharedCommands))])
}

func (p *sharedKeys) fill(words []string) []any {
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
		if name, ok := strings.CutPrefix(w, "$"); ok {
			args[i] = p.pick(name)
		}
	}
	return args
}

// otherKind is how often, of a hundred, a key is of another kind than the
// command is for.
const otherKind = 5

func (p *sharedKeys) pick(name string) any {
	switch name {
	case "k":
		return p.key(kinds[p.random.IntN(len(kinds))])
	case "s", "l", "h", "t", "z":
		if p.random.IntN(100) < otherKind {
			return p.pick("k")
		}
		return p.key(name[0])
	case "w":
		return "w" + strconv.Itoa(p.random.IntN(20))
	case "n":
		return p.random.IntN(200) - 100
	case "f":
		return "f" + strconv.Itoa(p.random.IntN(8))
	case "m":
		return "m" + strconv.Itoa(p.random.IntN(8))
	case "i":
		return p.random.IntN(6)
	case "short":
		return 1 + p.random.IntN(400)
	case "long":
		return 1_800_000 + p.random.IntN(3_600_000)
	case "dump":
		return dumpOfString
	}
	panic("no such word: $" + name)
}

func (p *sharedKeys) key(kind byte) string {
	return fmt.Sprintf("shared:%c%d", kind, p.random.IntN(p.keys))
}
