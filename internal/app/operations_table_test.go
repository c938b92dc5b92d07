package app_test

import "slices"

// operation is a row of the table: what a client does before, and what it
// does. Commands stand one behind another, " ; " between them. In a command
//
//	%k       is the key k of this row alone
//	<s+n>    is the time n seconds from now, in seconds; <ms+n> in ms
//	<n..m>   are the numbers from n to m
//	<kept>   is what DUMP, FUNCTION DUMP or SCRIPT LOAD answered before
//	n*X      is the command X, n times
//
// Expiries are longer than the test, so that nothing expires but what has to.
type operation struct {
	name    string // of the recording in replication-cases.json, if there is one
	before  string
	run     string
	blocked string // what other clients wait in meanwhile
	after   string // what makes the sites equal where only the origin can know
	options rowOption
}

type rowOption int

const (
	random  rowOption = 1 << iota // replies differ from time to time
	refused                       // an error is among the replies
	shared                        // touches what belongs to all rows: run alone
	expired                       // begins when the expiries of before have passed
)

func (o operation) is(option rowOption) bool { return o.options&option != 0 }

const (
	payload   = `"\x00\x05hello\n\x00cr\xdfve4 \n"` // DUMP of "hello" at Redis 7.0
	library   = `"#!lua name=%l1\nredis.register_function('%f1', function(keys) redis.call('set', keys[1], 'v') redis.call('incr', keys[2]) end)"`
	twoWrites = `"redis.call('set', KEYS[1], 1) redis.call('incr', KEYS[2])"`
	palermo   = "GEOADD %g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"
	stream    = "XADD %x 1-1 f v ; XADD %x 1-2 f v"
	group     = stream + " ; XGROUP CREATE %x g 0"
	delivered = group + " ; XREADGROUP GROUP g c STREAMS %x >"
	sets      = "SADD %s a b ; SADD %t b"
	zsets     = "ZADD %z 1 a 2 b ; ZADD %y 3 b"
)

// operations is every operation of replication-cases.json that Redis 7.0
// knows, and what is beyond it.
var operations = slices.Concat(stringOperations, keyOperations, listOperations, setOperations, streamOperations, scriptOperations, sharedOperations, expiredOperations)

var stringOperations = []operation{
	{name: "APPEND", run: "APPEND %k abc"},
	{name: "BITOP AND (dest)", before: "SET %a abc ; SET %b abd", run: "BITOP AND %d %a %b"},
	{name: "BITOP empty result (deletes dest)", before: "SET %d x", run: "BITOP AND %d %none1 %none2"},
	{name: "BITFIELD SET/INCRBY", run: "BITFIELD %k SET u8 0 200 INCRBY u8 0 10 OVERFLOW FAIL INCRBY u8 0 100"},
	{name: "BITFIELD only GET", before: "SET %k a", run: "BITFIELD %k GET u8 0"},
	{name: "DECR", before: "SET %k 5", run: "DECR %k"},
	{name: "DECRBY", before: "SET %k 5", run: "DECRBY %k 3"},
	{name: "INCR", run: "INCR %k"},
	{name: "INCRBY", run: "INCRBY %k 7"},
	{name: "INCR keeps the expiry", before: "SET %k 1 EX 3600", run: "INCR %k"},
	{name: "INCRBYFLOAT (new key)", run: "INCRBYFLOAT %k 1.5"},
	{name: "INCRBYFLOAT (key with TTL)", before: "SET %k 1 EX 3600", run: "INCRBYFLOAT %k 1.5"},
	{name: "GETSET", before: "SET %k a", run: "GETSET %k b"},
	{name: "GETDEL", before: "SET %k a", run: "GETDEL %k"},
	{name: "GETDEL missing", run: "GETDEL %k"},
	{name: "GETEX EX 100", before: "SET %k a", run: "GETEX %k EX 3600"},
	{name: "GETEX PXAT past", before: "SET %k a", run: "GETEX %k PXAT 1000"},
	{name: "GETEX PERSIST", before: "SET %k a EX 3600", run: "GETEX %k PERSIST"},
	{name: "GETEX no option", before: "SET %k a", run: "GETEX %k"},
	{name: "MSET", run: "MSET %a 1 %b 2"},
	{name: "MSETNX success", run: "MSETNX %a 1 %b 2"},
	{name: "MSETNX fail", before: "SET %b x", run: "MSETNX %a 1 %b 2"},
	{name: "PSETEX", run: "PSETEX %k 3600000 v"},
	{name: "SETEX", run: "SETEX %k 3600 v"},
	{name: "SET", run: "SET %k v"},
	{name: "SET of bytes", run: `SET %k "\x00\r\n$1\xff"`},
	{name: "SET ends an expiry", before: "SET %k a EX 3600", run: "SET %k v"},
	{name: "SET over another type", before: "RPUSH %k a", run: "SET %k v"},
	{name: "SET EX", run: "SET %k v EX 3600"},
	{name: "SET PX", run: "SET %k v PX 3600000"},
	{name: "SET EXAT", run: "SET %k v EXAT <s+3600>"},
	{name: "SET PXAT", run: "SET %k v PXAT <ms+3600>"},
	{name: "SET PXAT in the past", run: "SET %k v PXAT 1000 ; EXISTS %k"},
	{name: "SET KEEPTTL", before: "SET %k a EX 3600", run: "SET %k v KEEPTTL"},
	{name: "SET NX ok", run: "SET %k v NX"},
	{name: "SET NX fail", before: "SET %k a", run: "SET %k v NX"},
	{name: "SET XX ok", before: "SET %k a", run: "SET %k v XX"},
	{name: "SET GET", before: "SET %k a", run: "SET %k v GET"},
	{name: "SET GET EX", before: "SET %k a", run: "SET %k v GET EX 3600"},
	{name: "SET NX GET EX", run: "SET %k v NX GET EX 3600"},
	{name: "SET XX GET PX KEEP", before: "SET %k a", run: "SET %k v XX GET PX 3600000"},
	{name: "SETBIT", run: "SETBIT %k 7 1"},
	{name: "SETNX ok", run: "SETNX %k v"},
	{name: "SETNX existing", before: "SET %k a", run: "SETNX %k v"},
	{name: "SETRANGE", before: "SET %k abc", run: "SETRANGE %k 3 abc"},
	{name: "SETRANGE empty value", run: `SETRANGE %k 3 ""`},
	{name: "PFADD", run: "PFADD %h a b c"},
	{name: "PFADD no change", before: "PFADD %h a b c", run: "PFADD %h a"},
	{name: "PFADD no elements new key", run: "PFADD %h"},
	{name: "PFCOUNT 1 key, cache stale", before: "PFADD %h a b c", run: "PFCOUNT %h"},
	{name: "PFCOUNT 1 key, cache valid", before: "PFADD %h a b c ; PFCOUNT %h", run: "PFCOUNT %h"},
	{name: "PFCOUNT 2 keys", before: "PFADD %h a b c ; PFADD %h2 c d", run: "PFCOUNT %h %h2"},
	{name: "PFMERGE", before: "PFADD %h a b c ; PFADD %h2 c d", run: "PFMERGE %d %h %h2"},
}

var keyOperations = []operation{
	{name: "DEL one", before: "SET %a 1", run: "DEL %a"},
	{name: "DEL multi (one missing)", before: "MSET %a 1 %b 2", run: "DEL %a %b %missing"},
	{name: "DEL missing", run: "DEL %a"},
	{name: "UNLINK multi", before: "MSET %a 1 %b 2", run: "UNLINK %a %b"},
	{name: "EXPIRE", before: "SET %k v", run: "EXPIRE %k 3600"},
	{name: "EXPIRE NX", before: "SET %k v", run: "EXPIRE %k 3600 NX"},
	{name: "EXPIRE NX not set", before: "SET %k v EX 7200", run: "EXPIRE %k 3600 NX"},
	{name: "EXPIRE GT, LT, XX", before: "SET %k v EX 3600 ; SET %l v EX 7200 ; SET %m v EX 60", run: "EXPIRE %k 7200 GT ; EXPIRE %l 3600 LT ; EXPIRE %m 3600 XX"},
	{name: "EXPIRE negative", before: "SET %k v", run: "EXPIRE %k -1"},
	{name: "EXPIRE missing", run: "EXPIRE %k 3600"},
	{name: "EXPIRE of a list", before: "RPUSH %l a b", run: "EXPIRE %l 3600"},
	{name: "EXPIREAT", before: "SET %k v", run: "EXPIREAT %k <s+3600>"},
	{name: "EXPIREAT past", before: "SET %k v", run: "EXPIREAT %k 1"},
	{name: "PEXPIRE", before: "SET %k v", run: "PEXPIRE %k 3600000"},
	{name: "PEXPIREAT", before: "SET %k v", run: "PEXPIREAT %k <ms+3600>"},
	{name: "PERSIST", before: "SET %k v EX 3600", run: "PERSIST %k"},
	{name: "PERSIST no ttl", before: "SET %k v", run: "PERSIST %k"},
	{name: "MOVE", before: "SET %k v", run: "MOVE %k 1"},
	{name: "MOVE with TTL", before: "SET %k v EX 3600", run: "MOVE %k 1"},
	{name: "MOVE back", before: "SET %k v ; MOVE %k 1", run: "SELECT 1 ; MOVE %k 0"},
	{name: "COPY", before: "SET %a v", run: "COPY %a %b"},
	{name: "COPY of a hash with TTL", before: "HSET %a f v ; EXPIRE %a 3600", run: "COPY %a %b"},
	{name: "COPY DB 2 REPLACE", before: "SET %a v", run: "COPY %a %b DB 2 REPLACE"},
	{name: "RENAME", before: "SET %a v", run: "RENAME %a %b"},
	{name: "RENAME over another key", before: "SET %a v EX 3600 ; RPUSH %b x", run: "RENAME %a %b"},
	{name: "RENAME same name", before: "SET %a v", run: "RENAME %a %a"},
	{name: "RENAMENX ok", before: "SET %a v", run: "RENAMENX %a %b"},
	{name: "RENAMENX fail", before: "MSET %a v %b w", run: "RENAMENX %a %b"},
	{name: "RESTORE no TTL", run: "RESTORE %dst 0 " + payload},
	{name: "RESTORE TTL ms", run: "RESTORE %dst 3600000 " + payload},
	{name: "RESTORE TTL REPLACE over existing", before: "SET %dst x", run: "RESTORE %dst 3600000 " + payload + " REPLACE"},
	{name: "RESTORE ABSTTL", run: "RESTORE %dst <ms+3600> " + payload + " ABSTTL"},
	{name: "RESTORE ABSTTL past REPLACE", before: "SET %dst x", run: "RESTORE %dst 1000 " + payload + " REPLACE ABSTTL"},
	{name: "RESTORE IDLETIME/FREQ", run: "RESTORE %dst 0 " + payload + " IDLETIME 100"},
	{name: "RESTORE of a list", before: "RPUSH %src a b c ; DUMP %src", run: "RESTORE %dst 0 <kept>"},
	{name: "RESTORE of a stream", before: delivered + " ; DUMP %x", run: "RESTORE %dst 3600000 <kept>"},
	{name: "SELECT", run: "SELECT 3 ; SET %k v ; SELECT 4 ; GET %k ; SELECT 5 ; SET %k v"},
	{name: "TOUCH/OBJECT", before: "SET %k v", run: "TOUCH %k ; OBJECT ENCODING %k"},
	{name: "SORT STORE", before: "RPUSH %l 3 1 2", run: "SORT %l STORE %d"},
	{name: "SORT BY/GET STORE", before: "RPUSH %l 1 2 3 ; MSET %w_1 3 %w_2 1 %w_3 2", run: "SORT %l BY %w_* GET # GET %w_* STORE %d"},
	{name: "SORT STORE empty", before: "RPUSH %d x", run: "SORT %none STORE %d"},
	{name: "SORT BY equal numbers STORE", before: "SADD %s c a b", run: "SORT %s BY %none_* STORE %d"},
	{name: "SORT BY equal weights ALPHA STORE of a list", before: "RPUSH %l c a b ; MSET %w_a x %w_b x %w_c x", run: "SORT %l BY %w_* ALPHA STORE %d"},
	{name: "PUBLISH", run: "PUBLISH %ch msg"},
	{name: "SPUBLISH", run: "SPUBLISH %ch msg"},
	{name: "WAIT 1 (GETACK)", run: "SET %b 1 ; WAIT 1 10000"},
}

var listOperations = []operation{
	{name: "LPUSH / RPUSH", run: "LPUSH %l a b ; RPUSH %l c"},
	{name: "LPUSHX / RPUSHX existing", before: "RPUSH %l a", run: "LPUSHX %l b ; RPUSHX %l c"},
	{name: "LPUSHX / RPUSHX missing", run: "LPUSHX %l b ; RPUSHX %l c"},
	{name: "LPOP", before: "RPUSH %l a b c", run: "LPOP %l"},
	{name: "LPOP count", before: "RPUSH %l a b c", run: "LPOP %l 2"},
	{name: "LPOP count > len (key vanishes)", before: "RPUSH %l a b c", run: "LPOP %l 10 ; EXISTS %l"},
	{name: "LPOP 0", before: "RPUSH %l a b c", run: "LPOP %l 0"},
	{name: "RPOP", before: "RPUSH %l a b c", run: "RPOP %l"},
	{name: "LMPOP", before: "RPUSH %l a b c", run: "LMPOP 2 %none %l LEFT COUNT 2"},
	{name: "LINSERT", before: "RPUSH %l a b c", run: "LINSERT %l BEFORE b x ; LINSERT %l AFTER zz x"},
	{name: "LREM", before: "RPUSH %l a b a", run: "LREM %l 0 a ; LREM %l -1 zz"},
	{name: "LSET", before: "RPUSH %l a b c", run: "LSET %l 0 x"},
	{name: "LTRIM", before: "RPUSH %l a b c", run: "LTRIM %l 1 1"},
	{name: "LTRIM no change", before: "RPUSH %l a b c", run: "LTRIM %l 0 -1"},
	{name: "LTRIM to empty", before: "RPUSH %l a b c", run: "LTRIM %l 5 9"},
	{name: "RPOPLPUSH", before: "RPUSH %l a b c", run: "RPOPLPUSH %l %m"},
	{name: "RPOPLPUSH of one list", before: "RPUSH %l a b c", run: "RPOPLPUSH %l %l"},
	{name: "LMOVE", before: "RPUSH %l a b c", run: "LMOVE %l %m LEFT RIGHT"},
	{name: "BLPOP immediate", before: "RPUSH %l a b c", run: "BLPOP %none %l 1"},
	{name: "BRPOP immediate", before: "RPUSH %l a b c", run: "BRPOP %none %l 1"},
	{name: "BLPOP blocked, served by RPUSH 2 items", blocked: "BLPOP %l 0", run: "RPUSH %l a b"},
	{name: "BRPOP blocked", blocked: "BRPOP %none %l 0", run: "RPUSH %l a b"},
	{name: "BLPOP blocked, served by RPUSH 1 item", blocked: "BLPOP %l 0", run: "RPUSH %l a"},
	{name: "BLPOP: 2 blocked clients, one RPUSH 2 items", blocked: "BLPOP %l 0 ; BLPOP %l 0", run: "RPUSH %l a b"},
	{name: "BLPOP blocked, served by MULTI/EXEC", blocked: "BLPOP %l 0", run: "MULTI ; RPUSH %l a b ; SET %x 1 ; EXEC"},
	{name: "BLPOP blocked, served by EVAL", blocked: "BLPOP %l 0", run: `EVAL "redis.call('rpush', KEYS[1], 'a') redis.call('set', KEYS[2], 1)" 2 %l %x`},
	{name: "BRPOPLPUSH immediate", before: "RPUSH %l a b", run: "BRPOPLPUSH %l %m 1"},
	{name: "BRPOPLPUSH blocked", blocked: "BRPOPLPUSH %l %m 0", run: "RPUSH %l a"},
	{name: "BLMOVE immediate", before: "RPUSH %l a b", run: "BLMOVE %l %m LEFT LEFT 1"},
	{name: "BLMOVE blocked", blocked: "BLMOVE %l %m left right 0", run: "RPUSH %l a"},
	{name: "BLMPOP immediate", before: "RPUSH %l a b c", run: "BLMPOP 1 1 %l RIGHT COUNT 2"},
	{name: "BLMPOP blocked", blocked: "BLMPOP 0 1 %l RIGHT COUNT 2", run: "RPUSH %l a b c"},
	{name: "BLPOP timeout", run: "BLPOP %none 0.01"},
}

var setOperations = []operation{
	{name: "HSET", run: "HSET %h a 1 b 2"},
	{name: "HSET same value", before: "HSET %h a 1", run: "HSET %h a 1"},
	{name: "HSETNX", run: "HSETNX %h a 1 ; HSETNX %h a 2"},
	{name: "HMSET", run: "HMSET %h a 1 b 2"},
	{name: "HDEL", before: "HSET %h a 1 b 2", run: "HDEL %h a missing"},
	{name: "HDEL one of several", before: "HSET %h a 1 b 2", run: "HDEL %h a"},
	{name: "HDEL last field", before: "HSET %h a 1", run: "HDEL %h a"},
	{name: "HDEL missing", before: "HSET %h a 1", run: "HDEL %h missing"},
	{name: "HINCRBY", run: "HINCRBY %h a 5"},
	{name: "HINCRBYFLOAT", run: "HINCRBYFLOAT %h a 1.5"},
	{name: "SADD", run: "SADD %s a b ; SADD %s a"},
	{name: "SREM", before: "SADD %s a b", run: "SREM %s a zz"},
	{name: "SMOVE", before: "SADD %s a b ; SADD %t c", run: "SMOVE %s %t a"},
	{name: "SMOVE dest has it", before: "SADD %s a b ; SADD %t a", run: "SMOVE %s %t a"},
	{name: "SPOP", before: "SADD %s a b c d", run: "SPOP %s", options: random},
	{name: "SPOP last member", before: "SADD %s a", run: "SPOP %s ; EXISTS %s"},
	{name: "SPOP count (few of many)", before: "SADD %s <1..10>", run: "SPOP %s 2", options: random},
	{name: "SPOP count (most: rebuild path)", before: "SADD %s <1..10>", run: "SPOP %s 9", options: random},
	{name: "SPOP count >= card", before: "SADD %s 1 2 3", run: "SPOP %s 5"},
	{name: "SPOP count >1024 elements", before: "SADD %s <1..3000>", run: "SPOP %s 1100", options: random},
	{name: "SDIFFSTORE", before: sets, run: "SDIFFSTORE %d %s %t"},
	{name: "SINTERSTORE", before: sets, run: "SINTERSTORE %d %s %t"},
	{name: "SINTERSTORE empty result, dest exists", before: "SADD %d x", run: "SINTERSTORE %d %none %none2"},
	{name: "SINTERSTORE empty result, dest missing", run: "SINTERSTORE %d %none %none2"},
	{name: "SUNIONSTORE", before: sets, run: "SUNIONSTORE %d %s %t"},
	{name: "SUNIONSTORE ends an expiry", before: sets + " ; SET %d x EX 3600", run: "SUNIONSTORE %d %s %t"},
	{name: "ZADD", run: "ZADD %z 1 a 2 b"},
	{name: "ZADD of scores that need every digit", run: "ZADD %z 0.1 a 1e-300 b -inf c inf d 12345678901234567 e"},
	{name: "ZADD no change", before: "ZADD %z 1 a", run: "ZADD %z 1 a"},
	{name: "ZADD GT CH", before: "ZADD %z 1 a", run: "ZADD %z GT CH 5 a"},
	{name: "ZADD NX several, one exists", before: "ZADD %z 5 a", run: "ZADD %z NX 1 a 2 b"},
	{name: "ZADD XX CH several, one exists", before: "ZADD %z 5 a", run: "ZADD %z XX CH 1 a 2 b"},
	{name: "ZADD GT, LT several, one moves", before: "ZADD %z 5 a 5 b ; ZADD %y 5 a 5 b", run: "ZADD %z GT 9 a 1 b ; ZADD %y LT CH 9 a 1 b"},
	{name: "ZADD INCR", before: "ZADD %z 1 a", run: "ZADD %z INCR 1.1 a"},
	{name: "ZINCRBY", before: "ZADD %z 1 a", run: "ZINCRBY %z 0.1 a"},
	{name: "ZPOPMIN", before: "ZADD %z 1 a 2 b 3 c", run: "ZPOPMIN %z"},
	{name: "ZPOPMIN count", before: "ZADD %z 1 a 2 b 3 c", run: "ZPOPMIN %z 2"},
	{name: "ZPOPMAX all", before: "ZADD %z 1 a 2 b 3 c", run: "ZPOPMAX %z 10"},
	{name: "ZMPOP", before: "ZADD %z 1 a 2 b 3 c", run: "ZMPOP 2 %none %z MIN COUNT 2"},
	{name: "BZPOPMIN immediate", before: "ZADD %z 1 a 2 b", run: "BZPOPMIN %none %z 1"},
	{name: "BZPOPMIN blocked", blocked: "BZPOPMIN %z 0", run: "ZADD %z 1 a 2 b"},
	{name: "BZPOPMAX immediate", before: "ZADD %z 1 a 2 b", run: "BZPOPMAX %z 1"},
	{name: "BZPOPMAX blocked", blocked: "BZPOPMAX %none %z 0", run: "ZADD %z 1 a 2 b"},
	{name: "BZMPOP immediate", before: "ZADD %z 1 a 2 b 3 c", run: "BZMPOP 1 1 %z MAX COUNT 2"},
	{name: "BZMPOP blocked", blocked: "BZMPOP 0 1 %z MIN COUNT 2", run: "ZADD %z 1 a 2 b 3 c"},
	{name: "ZREM", before: "ZADD %z 1 a 2 b", run: "ZREM %z a zz"},
	{name: "ZREMRANGEBYLEX", before: "ZADD %z 0 a 0 b 0 c", run: "ZREMRANGEBYLEX %z [a (c"},
	{name: "ZREMRANGEBYRANK", before: "ZADD %z 1 a 2 b 3 c", run: "ZREMRANGEBYRANK %z 0 1"},
	{name: "ZREMRANGEBYSCORE", before: "ZADD %z 1 a 2 b 3 c", run: "ZREMRANGEBYSCORE %z -inf (3"},
	{name: "ZRANGESTORE", before: "ZADD %z 1 a 2 b 3 c", run: "ZRANGESTORE %d %z 0 1"},
	{name: "ZINTERSTORE", before: zsets, run: "ZINTERSTORE %d 2 %z %y WEIGHTS 1 2 AGGREGATE MAX"},
	{name: "ZUNIONSTORE", before: zsets, run: "ZUNIONSTORE %d 2 %z %y"},
	{name: "ZUNIONSTORE empty, dest exists", before: "ZADD %d 1 x", run: "ZUNIONSTORE %d 1 %none"},
	{name: "ZDIFFSTORE", before: zsets, run: "ZDIFFSTORE %d 2 %z %y"},
	{name: "GEOADD", run: palermo},
	{name: "GEOADD CH no change", before: palermo, run: "GEOADD %g CH 13.361389 38.115556 Palermo"},
	{name: "GEOADD NX several, one exists", before: palermo, run: "GEOADD %g NX 1 1 Palermo 2 2 Elsewhere"},
	{name: "GEOSEARCHSTORE", before: palermo, run: "GEOSEARCHSTORE %d %g FROMLONLAT 15 37 BYRADIUS 200 km ASC COUNT 3"},
	{name: "GEOSEARCHSTORE STOREDIST", before: palermo, run: "GEOSEARCHSTORE %d %g FROMMEMBER Palermo BYBOX 400 400 km STOREDIST"},
	{name: "GEORADIUS STORE", before: palermo, run: "GEORADIUS %g 15 37 200 km STORE %d"},
	{name: "GEORADIUSBYMEMBER STOREDIST", before: palermo, run: "GEORADIUSBYMEMBER %g Palermo 200 km STOREDIST %d"},
}

var streamOperations = []operation{
	{name: "XADD *", run: "XADD %x * f v"},
	{name: "XADD explicit, partial id 5-*", run: "XADD %x 5-* f v"},
	{name: "XADD * MAXLEN 2", before: stream, run: "XADD %x MAXLEN 2 * f v"},
	{name: "XADD * MAXLEN ~ 2", before: stream, run: "XADD %x MAXLEN ~ 2 * f v"},
	{name: "XADD * MAXLEN ~ that trims", before: "300*XADD %x * f v", run: "XADD %x MAXLEN ~ 120 * f v"},
	{name: "XADD MINID ~ LIMIT", before: stream, run: "XADD %x MINID ~ 1-2 LIMIT 10 * f v"},
	{name: "XADD MAXLEN ~ LIMIT that trims", before: "300*XADD %x * f v", run: "XADD %x MAXLEN ~ 20 LIMIT 150 * f v"},
	{name: "XADD NOMKSTREAM missing", run: "XADD %x NOMKSTREAM * f v"},
	{name: "XADD NOMKSTREAM", before: stream, run: "XADD %x NOMKSTREAM * f v"},
	{name: "XDEL", before: stream, run: "XDEL %x 1-1 9-9"},
	{name: "XTRIM MAXLEN", before: stream, run: "XTRIM %x MAXLEN 1"},
	{name: "XTRIM MAXLEN ~", before: stream, run: "XTRIM %x MAXLEN ~ 1"},
	{name: "XTRIM MAXLEN ~ LIMIT that trims", before: "300*XADD %x * f v", run: "XTRIM %x MAXLEN ~ 20 LIMIT 150"},
	{name: "XTRIM no change", before: stream, run: "XTRIM %x MAXLEN 10"},
	{name: "XTRIM MINID", before: stream, run: "XTRIM %x MINID 1-2"},
	{name: "XSETID", before: stream, run: "XSETID %x 5-5"},
	{name: "XSETID with both counters", before: stream, run: "XSETID %x 5-5 ENTRIESADDED 9 MAXDELETEDID 1-0"},
	{name: "XGROUP CREATE $", before: stream, run: "XGROUP CREATE %x g $"},
	{name: "XGROUP CREATE MKSTREAM", run: "XGROUP CREATE %x g 0 MKSTREAM"},
	{name: "XGROUP SETID / CREATECONSUMER / DELCONSUMER / DESTROY", before: group, run: "XGROUP SETID %x g 1-1 ; XGROUP CREATECONSUMER %x g c ; XGROUP DELCONSUMER %x g c ; XGROUP DESTROY %x g"},
	{name: "XGROUP SETID stays", before: group, run: "XGROUP SETID %x g 1-1 ENTRIESREAD 1"},
	{name: "XGROUP CREATECONSUMER stays", before: delivered, run: "XGROUP CREATECONSUMER %x g d ; XREADGROUP GROUP g d STREAMS %x >"},
	{name: "XGROUP DELCONSUMER with pending", before: delivered, run: "XGROUP DELCONSUMER %x g c"},
	{name: "XREADGROUP > (new consumer)", before: group, run: "XREADGROUP GROUP g c STREAMS %x >"},
	{name: "XREADGROUP > one message, known consumer", before: group + " ; XGROUP CREATECONSUMER %x g c", run: "XREADGROUP GROUP g c COUNT 1 STREAMS %x >"},
	{name: "XREADGROUP NOACK", before: group, run: "XREADGROUP GROUP g c NOACK STREAMS %x >"},
	{
		name:   "XREADGROUP history 0", // counts a delivery, which Redis tells no replica
		before: group + " ; XREADGROUP GROUP g c COUNT 1 STREAMS %x >",
		run:    "XREADGROUP GROUP g c STREAMS %x 0",
		after:  "XACK %x g 1-1",
	},
	{name: "XREADGROUP > nothing new, new consumer", before: stream + " ; XGROUP CREATE %x g $", run: "XREADGROUP GROUP g c STREAMS %x >"},
	{name: "XREADGROUP blocked, served by XADD", before: "XGROUP CREATE %x g $ MKSTREAM", blocked: "XREADGROUP GROUP g c BLOCK 0 STREAMS %x >", run: "XADD %x 7-7 f v"},
	{name: "XREADGROUP of two streams", before: group + " ; XADD %y 1-1 f v ; XGROUP CREATE %y g 0", run: "XREADGROUP GROUP g c STREAMS %x %y > >"},
	{name: "XACK", before: delivered, run: "XACK %x g 1-1 9-9"},
	{name: "XCLAIM", before: delivered, run: "XCLAIM %x g c2 0 1-1 1-2"},
	{name: "XCLAIM of a deleted entry", before: delivered + " ; XDEL %x 1-1", run: "XCLAIM %x g c2 0 1-1 1-2"},
	{name: "XAUTOCLAIM", before: delivered, run: "XAUTOCLAIM %x g c2 0 0"},
	{name: "XAUTOCLAIM of a deleted entry", before: delivered + " ; XDEL %x 1-1", run: "XAUTOCLAIM %x g c2 0 0"},
}

var scriptOperations = []operation{
	{name: "EVAL one write", run: `EVAL "return redis.call('set', KEYS[1], 'v')" 1 %k`},
	{name: "EVAL two writes", run: "EVAL " + twoWrites + " 2 %a %b"},
	{name: "EVAL read only", before: "SET %k v", run: `EVAL "return redis.call('exists', KEYS[1])" 1 %k`},
	{name: "EVAL no-op write", run: `EVAL "return redis.call('del', KEYS[1])" 1 %k`},
	{name: "EVAL write then error", run: `EVAL "redis.call('set', KEYS[1], 1) redis.call('set', KEYS[2], 1) error('boom')" 2 %a %b`, options: refused},
	{name: "EVAL redis.call fails midway", before: "SET %s x", run: `EVAL "redis.call('set', KEYS[1], 1) redis.call('lpush', KEYS[2], 1)" 2 %a %s`, options: refused},
	{name: "EVAL random (SPOP, TIME)", before: "SADD %s 1 2 3", run: `EVAL "redis.call('spop', KEYS[1]) redis.call('set', KEYS[2], redis.call('time')[1])" 2 %s %t`},
	{name: "EVAL with SELECT inside", run: `EVAL "redis.call('set', KEYS[1], 1) redis.call('select', 3) redis.call('set', KEYS[2], 1)" 2 %a %b`},
	{name: "EVALSHA two writes", before: "SCRIPT LOAD " + twoWrites, run: "EVALSHA <kept> 2 %a %b"},
	{
		name:  "EVAL redis.set_repl(NONE)", // what the script hides from replicas nobody can copy
		run:   `EVAL "redis.set_repl(redis.REPL_NONE) redis.call('set', KEYS[1], 1) redis.set_repl(redis.REPL_ALL) redis.call('set', KEYS[2], 1)" 2 %a %b`,
		after: "DEL %a",
	},
	{name: "EVAL: marker + changes", run: `EVAL "redis.call('set', KEYS[1], 'A|1') redis.call('set', KEYS[2], 'x')" 2 %m %k`},
	{name: "EVAL: marker + no-op", run: `EVAL "redis.call('set', KEYS[1], 'A|1') redis.call('del', KEYS[2])" 2 %m %k`},
	{name: "FUNCTION LOAD", run: "FUNCTION LOAD " + library},
	{name: "FUNCTION LOAD REPLACE / DELETE", before: "FUNCTION LOAD " + library, run: "FUNCTION LOAD REPLACE " + library + " ; FUNCTION DELETE %l1"},
	{name: "FUNCTION LOAD REPLACE by other code", before: "FUNCTION LOAD " + library, run: `FUNCTION LOAD REPLACE "#!lua name=%l1\nredis.register_function('%f2', function() return 2 end)"`},
	{name: "FCALL two writes", before: "FUNCTION LOAD " + library, run: "FCALL %f1 2 %k %cnt"},
	{name: "MULTI/EXEC two writes", run: "MULTI ; SET %a 1 ; INCR %b ; EXEC"},
	{name: "MULTI/EXEC one write", run: "MULTI ; SET %a 1 ; EXEC"},
	{name: "MULTI/EXEC write + read", run: "MULTI ; SET %a 1 ; GET %a ; EXEC"},
	{name: "MULTI/EXEC reads only", run: "MULTI ; GET %a ; EXEC"},
	{name: "MULTI/EXEC empty", run: "MULTI ; EXEC"},
	{name: "MULTI/DISCARD", run: "MULTI ; SET %a 1 ; DISCARD"},
	{name: "MULTI marker + DEL missing", run: "MULTI ; SET %m A|1 ; DEL %k ; EXEC"},
	{name: "MULTI marker + SETNX existing", before: "SET %k 1", run: "MULTI ; SET %m A|1 ; SETNX %k 2 ; EXEC"},
	{name: "MULTI marker + SET", before: "SET %k 1", run: "MULTI ; SET %m A|1 ; SET %k 2 ; EXEC"},
	{name: "MULTI marker alone", run: "MULTI ; SET %m A|1 ; EXEC"},
	{name: "MULTI marker same value twice (SET idempotent)", before: "MSET %m A|1 %k 1", run: "MULTI ; SET %m A|1 ; SET %k 2 ; EXEC"},
	{name: "MULTI marker + WRONGTYPE + SET", before: "RPUSH %l x", run: "MULTI ; SET %m A|1 ; INCR %l ; SET %k 2 ; EXEC", options: refused},
	{name: "MULTI with queue-time error (EXECABORT)", run: "MULTI ; SET %a 1 ; NOSUCHCMD ; EXEC", options: refused},
	{name: "MULTI in db 0 with SELECT 3 inside", run: "MULTI ; SET %a 1 ; SELECT 3 ; SET %b 1 ; EXEC ; SET %c 1"},
	{name: "MULTI after SELECT 7 (db change before MULTI)", run: "SELECT 7 ; MULTI ; SET %a 1 ; SET %b 1 ; EXEC"},
	{name: "MULTI marker in db0, change in db3 (SELECT inside)", run: "SELECT 3 ; MULTI ; SELECT 0 ; SET %m A|1 ; SELECT 3 ; SET %b 1 ; EXEC"},
	{name: "MULTI marker + MOVE", before: "SET %k v", run: "MULTI ; SET %m A|1 ; MOVE %k 1 ; EXEC"},
	{name: "MULTI marker + EVAL 2 writes", run: "MULTI ; SET %m A|1 ; EVAL " + twoWrites + " 2 %a %b ; EXEC"},
	{name: "MULTI marker + SPOP count", before: "SADD %s 1 2 3 4 5", run: "MULTI ; SET %m A|1 ; SPOP %s 2 ; EXEC", options: random},
	{name: "MULTI marker + BLPOP empty", run: "MULTI ; SET %m A|1 ; BLPOP %none 0 ; EXEC"},
	{name: "MULTI marker + PUBLISH", run: "MULTI ; SET %m A|1 ; PUBLISH %c m ; EXEC"},
	{name: "MULTI marker + XREADGROUP", before: group, run: "MULTI ; SET %m A|1 ; XREADGROUP GROUP g c STREAMS %x > ; EXEC"},
	{name: "MULTI marker + EXPIRE past", before: "SET %k v", run: "MULTI ; SET %m A|1 ; EXPIRE %k -1 ; EXEC"},
	{name: "MULTI marker + SET PXAT past on existing", before: "SET %k v", run: "MULTI ; SET %m A|1 ; SET %k w PXAT 1000 ; EXEC"},
	{name: "MULTI marker + SET PXAT past on missing", run: "MULTI ; SET %m A|1 ; SET %k w PXAT 1000 ; EXEC ; EXISTS %k"},
	{name: "WATCH abort", run: "WATCH %w ; SET %w 2 ; MULTI ; SET %a 1 ; SET %b 1 ; EXEC"},
}

// sharedOperations touch what belongs to all rows.
var sharedOperations = []operation{
	{name: "SCRIPT LOAD / FLUSH", run: `SCRIPT LOAD "return 1" ; SCRIPT FLUSH`, options: shared},
	{name: "FUNCTION RESTORE", before: "FUNCTION LOAD " + library + " ; FUNCTION DUMP ; FUNCTION FLUSH", run: "FUNCTION RESTORE <kept>", options: shared},
	{name: "FUNCTION RESTORE FLUSH", before: "FUNCTION LOAD " + library + ` ; FUNCTION DUMP ; FUNCTION LOAD "#!lua name=%l2\nredis.register_function('%f2', function() return 2 end)"`, run: "FUNCTION RESTORE <kept> FLUSH", options: shared},
	{name: "FUNCTION FLUSH", before: "FUNCTION LOAD " + library, run: "FUNCTION FLUSH", options: shared},
	{name: "SWAPDB", before: "SET %a 0 ; SELECT 1 ; SET %a 1 ; SET %b 1", run: "SWAPDB 0 1", options: shared},
	{name: "SWAPDB of others", before: "SELECT 2 ; SET %a 2 EX 3600 ; SELECT 3 ; RPUSH %a 3", run: "SWAPDB 3 2", options: shared},
	{name: "MULTI marker + SWAPDB", before: "SET %a 0 ; SELECT 1 ; SET %a 1", run: "MULTI ; SET %m A|1 ; SWAPDB 0 1 ; EXEC", options: shared},
	{name: "FLUSHDB", before: "SET %a 0 ; SELECT 1 ; SET %a 1", run: "FLUSHDB", options: shared},
	{name: "FLUSHDB of another", before: "SET %a 0 ; SELECT 1 ; SET %a 1", run: "SELECT 1 ; FLUSHDB SYNC ; SET %b 1", options: shared},
	{name: "FLUSHDB ASYNC empty db", before: "SET %a 0", run: "SELECT 9 ; FLUSHDB ASYNC", options: shared | random},
	{name: "FLUSHALL SYNC", before: "SET %a 0 ; SELECT 1 ; SET %a 1", run: "FLUSHALL SYNC", options: shared},
	{name: "FLUSHALL in db 4", before: "SET %a 0 ; SELECT 4 ; SET %a 4", run: "SELECT 4 ; FLUSHALL", options: shared},
	{name: "MULTI marker + FLUSHALL + SET", before: "SET %a 0", run: "MULTI ; FLUSHALL ; SET %m A|1 ; EXEC", options: shared},
	{name: "FLUSHALL between writes", before: "SET %a 0", run: "SET %b 1 ; FLUSHALL ; INCR %b ; RPUSH %l x", options: shared},
}

// expiredOperations meet keys that have expired and that nothing has removed
// yet: their deletion is part of the unit.
var expiredOperations = []operation{
	{name: "MULTI marker + GET of logically expired key", before: "SET %k v PX 1", run: "MULTI ; SET %m A|1 ; GET %k ; SET %z 1 ; EXEC", options: expired},
	{name: "MULTI GET of expired key + marker", before: "SET %k v PX 1", run: "MULTI ; GET %k ; SET %m A|1 ; EXEC", options: expired},
	{name: "MULTI only GET of expired key", before: "SET %k v PX 1", run: "MULTI ; GET %k ; EXEC", options: expired},
	{name: "MULTI marker + SET over an expired key", before: "SET %k v PX 1", run: "MULTI ; SET %m A|1 ; SET %k w ; EXEC", options: expired},
	{name: "MULTI marker + INCR of an expired key", before: "SET %k 5 PX 1", run: "MULTI ; SET %m A|1 ; INCR %k ; EXEC", options: expired},
	{name: "GET of logically expired key", before: "SET %k v PX 1", run: "GET %k", options: expired},
	{name: "SET over logically expired key", before: "SET %k v PX 1", run: "SET %k w", options: expired},
	{name: "INCR over logically expired key", before: "SET %k 5 PX 1", run: "INCR %k", options: expired},
	{name: "RPUSH over an expired list", before: "RPUSH %k a b ; PEXPIRE %k 1", run: "RPUSH %k c", options: expired},
	{name: "SUNIONSTORE of an expired set", before: "SADD %s a ; SADD %t b ; PEXPIRE %s 1", run: "SUNIONSTORE %d %s %t", options: expired},
	{name: "MGET of two expired keys", before: "SET %k v PX 1 ; SET %k2 v PX 1", run: "MGET %k %k2", options: expired},
	{name: "SCAN over two expired keys", before: "SET %k v PX 1 ; SET %k2 v PX 1", run: "SCAN 0 MATCH %k* COUNT 1000000", options: expired},
	{name: "DEL of an expired key", before: "SET %k v PX 1", run: "DEL %k", options: expired},
	{name: "RENAME over an expired dest", before: "SET %k v PX 1 ; SET %a w", run: "RENAME %a %k", options: expired},
}

// recordedElsewhere are recordings that no client's command makes, and the
// tests that make them.
var recordedElsewhere = map[string]string{
	"active expiry of 3 keys":                     "TestTheOriginDecidesWhenAKeyExpires",
	"eviction (maxmemory, allkeys-random) on SET": "TestWhatASiteEvictsIsDeletedAtTheOther",
}
