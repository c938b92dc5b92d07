package command

// keyTable: commands on keys of any type.
var keyTable = []row{
	{"COPY", Write, -3, readsFirst(1, 2, 1), copyKey},
	{"DEL", Delete, -2, writes(1, -1, 1), del},
	{"EXPIRE", Write, -3, writes(1, 1, 1), relative},
	{"EXPIREAT", Write, -3, writes(1, 1, 1), expireAt},
	{"MIGRATE", Write, -6, partly(3, migrated), rewritten},
	{"MOVE", Write, 3, writes(1, 1, 1), move},
	{"PERSIST", Write, 2, writes(1, 1, 1), asIs},
	{"PEXPIRE", Write, -3, writes(1, 1, 1), relative},
	{"PEXPIREAT", Write, -3, writes(1, 1, 1), expireAt},
	{"RENAME", Write, 3, writes(1, 2, 1), asIs},
	{"RENAMENX", Write, 3, writes(1, 2, 1), as("RENAME")},
	{"RESTORE", Write, -4, writes(1, 1, 1), restore},
	{"SORT", Write, -2, partly(1, storeOption(1, "BY", "GET")), asIs},
	{"UNLINK", Delete, -2, writes(1, -1, 1), del},
}

// listTable: lists.
var listTable = []row{
	{"BLMOVE", Write, 6, writes(1, 2, 1), lmove},
	{"BLMPOP", Write, -5, movable(writesCounted(1, 1)), rewritten},
	{"BLPOP", Write, -3, writes(1, -2, 1), rewritten},
	{"BRPOP", Write, -3, writes(1, -2, 1), rewritten},
	{"BRPOPLPUSH", Write, 4, writes(1, 2, 1), rpoplpush},
	{"LINSERT", Write, 5, writes(1, 1, 1), asIs},
	{"LMOVE", Write, 5, writes(1, 2, 1), lmove},
	{"LMPOP", Write, -4, movable(writesCounted(0, 1)), rewritten},
	{"LPOP", Write, -2, writes(1, 1, 1), asIs},
	{"LPUSH", Write, -3, writes(1, 1, 1), asIs},
	{"LPUSHX", Write, -3, writes(1, 1, 1), as("LPUSH")},
	{"LREM", Write, 4, writes(1, 1, 1), asIs},
	{"LSET", Write, 4, writes(1, 1, 1), asIs},
	{"LTRIM", Write, 4, writes(1, 1, 1), asIs},
	{"RPOP", Write, -2, writes(1, 1, 1), asIs},
	{"RPOPLPUSH", Write, 3, writes(1, 2, 1), asIs},
	{"RPUSH", Write, -3, writes(1, 1, 1), asIs},
	{"RPUSHX", Write, -3, writes(1, 1, 1), as("RPUSH")},
}

// setTable: sets.
var setTable = []row{
	{"SADD", Write, -3, writes(1, 1, 1), asIs},
	{"SDIFFSTORE", Write, -3, writesFirst(1, -1, 1), asIs},
	{"SINTERSTORE", Write, -3, writesFirst(1, -1, 1), asIs},
	{"SMOVE", Write, 4, writes(1, 2, 1), asIs},
	{"SPOP", Write, -2, writes(1, 1, 1), rewritten},
	{"SREM", Write, -3, writes(1, 1, 1), asIs},
	{"SUNIONSTORE", Write, -3, writesFirst(1, -1, 1), asIs},
}
