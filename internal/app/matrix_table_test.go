//go:build matrix

package app_test

// snapshotValues are values of every type, with what is easily lost of them.
const snapshotValues = `SET %empty "" ; SET "%bin\x00\xff\r\n" "\x00\r\n$1\xff" ; SET %int 9223372036854775807 ; SET %far v PXAT 9999999999999 ; SET %farther v PXAT 99999999999999 ; SET %soon v PXAT <ms+3600>
 ; PFADD %hll a b c ; PFADD %dense <1..3000> ; SETBIT %bits 10000 1
 ; RPUSH %list a "" 3 "\x00" ; RPUSH %long <1..3000> ; SADD %ints 1 -2 9223372036854775807 ; SADD %set a "" "\xff" ; SADD %many <1..1000>
 ; HSET %hash f v "" "" "\x00" "\xff" ; HSET %wide <1..1000> ; ZADD %zset inf top -inf bottom -0 zero 0.1 tenth 12345678901234567 digits 5e-324 tiny 1.7976931348623157e308 huge
 ; ZADD %ranks <1..1000> ; GEOADD %geo 13.361389 38.115556 Palermo
 ; XADD %x 1-1 f v f again ; XADD %x 1-2 g w ; XADD %x 5-0 f v ; XADD %x 18446744073709551614-5 f v ; XDEL %x 1-2 ; XGROUP CREATE %x g 0 ; XGROUP CREATE %x idle $ ; XREADGROUP GROUP g c1 COUNT 1 STREAMS %x >
 ; XREADGROUP GROUP g c2 COUNT 1 STREAMS %x > ; XCLAIM %x g c3 0 5-0 RETRYCOUNT 7 ; XDEL %x 1-1 ; XADD %gone 1-1 a b ; XDEL %gone 1-1 ; XGROUP CREATE %made g $ MKSTREAM
 ; SELECT 9 ; SET %other 1 ; SELECT 0`

// snapshotOfFields are those that only servers with expiries of fields have.
const snapshotOfFields = `HSET %fields a 1 b 2 c 3 ; HPEXPIREAT %fields <ms+3600> FIELDS 2 a b ; HPEXPIREAT %fields <ms+7200> FIELDS 1 b
 ; HSET %manyfields <1..1000> ; HPEXPIRE %manyfields 3600000 FIELDS 3 1 3 5 ; HSET %all a 1 ; HPEXPIRE %all 3600000 FIELDS 1 a`

// newer are the operations that came after Redis 7.0. A row is run where both
// sites know its commands.
var newer = []operation{
	{name: "HEXPIRE", before: "HSET %h a 1 b 2", run: "HEXPIRE %h 3600 FIELDS 2 a b"},
	{name: "HEXPIRE one missing field", before: "HSET %h a 1", run: "HEXPIRE %h 3600 FIELDS 2 a zz"},
	{name: "HEXPIRE NX one not met", before: "HSET %h a 1 b 2 ; HEXPIRE %h 7200 FIELDS 1 a", run: "HEXPIRE %h 3600 NX FIELDS 2 a b"},
	{name: "HEXPIRE GT, LT", before: "HSET %h a 1 b 2 ; HEXPIRE %h 3600 FIELDS 2 a b", run: "HEXPIRE %h 7200 GT FIELDS 1 a ; HEXPIRE %h 60 LT FIELDS 1 b"},
	{name: "HPEXPIRE", before: "HSET %h a 1", run: "HPEXPIRE %h 3600000 FIELDS 1 a"},
	{name: "HEXPIREAT", before: "HSET %h a 1", run: "HEXPIREAT %h <s+3600> FIELDS 1 a"},
	{name: "HPEXPIREAT", before: "HSET %h a 1", run: "HPEXPIREAT %h <ms+3600> FIELDS 1 a"},
	{name: "HEXPIRE 0 (deletes)", before: "HSET %h a 1 b 2", run: "HEXPIRE %h 0 FIELDS 1 a"},
	{name: "HEXPIREAT past all fields", before: "HSET %h a 1 b 2", run: "HEXPIREAT %h 1 FIELDS 2 a b ; EXISTS %h"},
	{name: "HPERSIST", before: "HSET %h a 1 b 2 ; HEXPIRE %h 3600 FIELDS 2 a b", run: "HPERSIST %h FIELDS 2 a b"},
	{name: "HSET over a field with TTL", before: "HSET %h a 1 ; HEXPIRE %h 3600 FIELDS 1 a", run: "HSET %h a 2"},
	{name: "HINCRBY of a field with TTL", before: "HSET %h a 1 ; HEXPIRE %h 3600 FIELDS 1 a", run: "HINCRBY %h a 2"},
	{name: "HINCRBYFLOAT on field with TTL", before: "HSET %h a 1 ; HEXPIRE %h 3600 FIELDS 1 a", run: "HINCRBYFLOAT %h a 1.5"},
	{name: "COPY of a hash whose fields expire", before: "HSET %h a 1 b 2 ; HEXPIRE %h 3600 FIELDS 1 a", run: "HLEN %h ; COPY %h %h2 ; HPTTL %h2 FIELDS 1 a"},
	{name: "RESTORE of a hash whose fields expire", before: "HSET %h a 1 b 2 ; HEXPIRE %h 3600 FIELDS 1 a ; DUMP %h", run: "HPTTL %h FIELDS 1 a ; RESTORE %h2 3600000 <kept>"},
	{name: "HSETEX EX", run: "HSETEX %h EX 3600 FIELDS 2 a 1 b 2"},
	{name: "HSETEX PX FNX", run: "HSETEX %h FNX PX 3600000 FIELDS 1 a 1"},
	{name: "HSETEX KEEPTTL", before: "HSETEX %h EX 3600 FIELDS 1 a 1", run: "HSETEX %h KEEPTTL FIELDS 1 a 2"},
	{name: "HSETEX PXAT past", before: "HSET %h a 1 b 2", run: "HSETEX %h PXAT 1000 FIELDS 1 a 1"},
	{name: "HGETEX EX", before: "HSET %h a 1", run: "HGETEX %h EX 3600 FIELDS 2 a zz"},
	{name: "HGETEX PERSIST", before: "HSET %h a 1 b 2 ; HEXPIRE %h 3600 FIELDS 1 a", run: "HGETEX %h PERSIST FIELDS 2 a b"},
	{name: "HGETEX PXAT past", before: "HSET %h a 1 b 2", run: "HGETEX %h PXAT 1000 FIELDS 1 a"},
	{name: "HGETDEL", before: "HSET %h a 1 b 2", run: "HGETDEL %h FIELDS 2 a zz"},
	{name: "HGETDEL nothing", before: "HSET %h a 1", run: "HGETDEL %h FIELDS 1 zz"},
	{name: "MSETEX EX", run: "MSETEX 2 %a 1 %b 2 EX 3600"},
	{name: "MSETEX KEEPTTL", before: "SET %a 1 EX 3600", run: "MSETEX 2 %a 1 %b 2 KEEPTTL"},
	{name: "MSETEX NX fails", before: "SET %a 1", run: "MSETEX 2 %a 1 %b 2 NX"},
	{name: "DELIFEQ", before: "SET %k a", run: "DELIFEQ %k a"},
	{name: "DELIFEQ fails", before: "SET %k a", run: "DELIFEQ %k b"},
	{name: "DELEX IFEQ", before: "SET %k a", run: "DELEX %k IFEQ a"},
	{name: "SET IFEQ", before: "SET %k a", run: "DIGEST %k ; SET %k v IFEQ a"},
	{name: "XDELEX", before: delivered, run: "XDELEX %x DELREF IDS 2 1-1 9-9"},
	{name: "XDELEX KEEPREF", before: delivered, run: "XDELEX %x KEEPREF IDS 1 1-1"},
	{name: "XDELEX ACKED", before: delivered, run: "XACK %x g 1-1 ; XDELEX %x ACKED IDS 2 1-1 1-2"},
	{name: "XACKDEL", before: delivered, run: "XACKDEL %x g IDS 1 1-1"},
	{name: "XADD DELREF", before: delivered, run: "XACKDEL %x g IDS 1 1-1 ; XADD %x DELREF MAXLEN 1 * f v"},
	{name: "XTRIM DELREF", before: delivered, run: "XACKDEL %x g IDS 1 1-1 ; XTRIM %x MAXLEN 0 DELREF"},
	{name: "XCFGSET", before: stream, run: "XCFGSET %x IDMP-DURATION 50"},
	{name: "XADD IDMP", before: stream, run: "XCFGSET %x IDMP-DURATION 50 ; XADD %x IDMP p i1 * f v ; XADD %x IDMP p i1 * f v"},
	{name: "VADD, VREM, VSETATTR", before: "VADD %v VALUES 3 1 2 3 gone", run: `VADD %v VALUES 3 1 2 3 e1 ; VADD %v VALUES 3 3 2 1 e2 ; VSETATTR %v e1 "{\"a\": 1}" ; VREM %v gone`},
}
