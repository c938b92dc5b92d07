package command

// stringTable: strings, bitmaps and HyperLogLogs. A row is what COMMAND answers
// (name, arity, where the keys stand), the class, and what the command becomes.
var stringTable = []row{
	{"APPEND", Write, 3, writes(1, 1, 1), asIs},
	{"BITFIELD", Write, -2, writes(1, 1, 1), asIs},
	{"BITOP", Write, -4, writesFirst(2, -1, 1), asIs},
	{"DECR", Write, 2, writes(1, 1, 1), asIs},
	{"DECRBY", Write, 3, writes(1, 1, 1), asIs},
	{"GETDEL", Delete, 2, writes(1, 1, 1), toDel},
	{"DELEX", Delete, -2, writes(1, 1, 1), toDel},
	{"DELIFEQ", Delete, 3, writes(1, 1, 1), toDel},
	{"GETEX", Write, -2, writes(1, 1, 1), getex},
	{"GETSET", Write, 3, writes(1, 1, 1), as("SET")},
	{"INCR", Write, 2, writes(1, 1, 1), asIs},
	{"INCRBY", Write, 3, writes(1, 1, 1), asIs},
	{"INCRBYFLOAT", Write, 3, writes(1, 1, 1), asIs},
	{"MSET", Write, -3, writes(1, -1, 2), mset},
	{"MSETEX", Write, -4, movable(writesCounted(0, 2)), msetex},
	{"MSETNX", Write, -3, writes(1, -1, 2), mset},
	{"PFADD", Write, -2, writes(1, 1, 1), asIs},
	{"PFDEBUG", Write, 3, writes(2, 2, 1), asIs},
	{"PFMERGE", Write, -2, writesFirst(1, -1, 1), asIs},
	{"PSETEX", Write, 4, writes(1, 1, 1), relative},
	{"SET", Write, -3, writes(1, 1, 1), set},
	{"SETBIT", Write, 4, writes(1, 1, 1), asIs},
	{"SETEX", Write, 4, writes(1, 1, 1), relative},
	{"SETNX", Write, 3, writes(1, 1, 1), as("SET")},
	{"SETRANGE", Write, 4, writes(1, 1, 1), asIs},
}
