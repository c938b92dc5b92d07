package command

// hashTable: hashes.
var hashTable = []row{
	{"HDEL", Write, -3, writes(1, 1, 1), asIs},
	{"HEXPIRE", Write, -6, writes(1, 1, 1), relative},
	{"HEXPIREAT", Write, -6, writes(1, 1, 1), hexpireAt},
	{"HGETDEL", Write, -5, writes(1, 1, 1), hgetdel},
	{"HGETEX", Write, -5, writes(1, 1, 1), rewritten},
	{"HINCRBY", Write, 4, writes(1, 1, 1), asIs},
	{"HINCRBYFLOAT", Write, 4, writes(1, 1, 1), asIs},
	{"HMSET", Write, -4, writes(1, 1, 1), asIs},
	{"HPERSIST", Write, -5, writes(1, 1, 1), asIs},
	{"HPEXPIRE", Write, -6, writes(1, 1, 1), relative},
	{"HPEXPIREAT", Write, -6, writes(1, 1, 1), hexpireAt},
	{"HSET", Write, -4, writes(1, 1, 1), asIs},
	{"HSETEX", Write, -6, writes(1, 1, 1), hsetex},
	{"HSETNX", Write, 4, writes(1, 1, 1), as("HSET")},
}

// sortedSetTable: sorted sets, places on Earth, and vector sets (Redis 8).
var sortedSetTable = []row{
	{"BZMPOP", Write, -5, movable(writesCounted(1, 1)), rewritten},
	{"BZPOPMAX", Write, -3, writes(1, -2, 1), rewritten},
	{"BZPOPMIN", Write, -3, writes(1, -2, 1), rewritten},
	{"GEOADD", Write, -5, writes(1, 1, 1), asIs},
	{"GEORADIUS", Write, -6, partly(1, storeOption(5, "COUNT")), asIs},
	{"GEORADIUSBYMEMBER", Write, -5, partly(1, storeOption(4, "COUNT")), asIs},
	{"GEOSEARCHSTORE", Write, -8, writesFirst(1, 2, 1), asIs},
	{"VADD", Write, -5, writes(1, 1, 1), asIs},
	{"VREM", Write, 3, writes(1, 1, 1), asIs},
	{"VSETATTR", Write, 4, writes(1, 1, 1), asIs},
	{"ZADD", Write, -4, writes(1, 1, 1), zadd},
	{"ZDIFFSTORE", Write, -4, partly(1, storeCounted), asIs},
	{"ZINCRBY", Write, 4, writes(1, 1, 1), asIs},
	{"ZINTERSTORE", Write, -4, partly(1, storeCounted), asIs},
	{"ZMPOP", Write, -4, movable(writesCounted(0, 1)), rewritten},
	{"ZPOPMAX", Write, -2, writes(1, 1, 1), asIs},
	{"ZPOPMIN", Write, -2, writes(1, 1, 1), asIs},
	{"ZRANGESTORE", Write, -5, writesFirst(1, 2, 1), asIs},
	{"ZREM", Write, -3, writes(1, 1, 1), asIs},
	{"ZREMRANGEBYLEX", Write, 4, writes(1, 1, 1), asIs},
	{"ZREMRANGEBYRANK", Write, 4, writes(1, 1, 1), asIs},
	{"ZREMRANGEBYSCORE", Write, 4, writes(1, 1, 1), asIs},
	{"ZUNIONSTORE", Write, -4, partly(1, storeCounted), asIs},
}

// streamTable: streams. A container stands above its subcommands.
var streamTable = []row{
	{"XACK", Write, -4, writes(1, 1, 1), asIs},
	{"XACKDEL", Write, -6, writes(1, 1, 1), asIs},
	{"XADD", Write, -5, writes(1, 1, 1), xadd},
	{"XAUTOCLAIM", Write, -6, writes(1, 1, 1), rewritten},
	{"XCFGSET", Write, -2, writes(1, 1, 1), asIs},
	{"XCLAIM", Write, -6, writes(1, 1, 1), asIs},
	{"XDEL", Write, -3, writes(1, 1, 1), asIs},
	{"XDELEX", Write, -5, writes(1, 1, 1), asIs},
	{"XGROUP", Write, -2, none, unknownSub},
	{"XGROUP CREATE", Write, -5, writes(2, 2, 1), asIs},
	{"XGROUP CREATECONSUMER", Write, 5, writes(2, 2, 1), asIs},
	{"XGROUP DELCONSUMER", Write, 5, writes(2, 2, 1), asIs},
	{"XGROUP DESTROY", Write, 4, writes(2, 2, 1), asIs},
	{"XGROUP SETID", Write, -5, writes(2, 2, 1), asIs},
	{"XIDMPRECORD", Write, 5, writes(1, 1, 1), noChange}, // what IDMP knows stays at the origin
	{"XREADGROUP", Write, -7, movable(writesStreams), rewritten},
	{"XSETID", Write, -3, writes(1, 1, 1), asIs},
	{"XTRIM", Write, -4, writes(1, 1, 1), xtrim},
}
