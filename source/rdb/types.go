package rdb

import "twinlog/schema"

// valueTypes has a row for each type of value, by its number in the RDB.
// start reads what stands before the first element; a value that is complete
// by then has no decoder.
var valueTypes = [...]struct {
	name  string // as TYPE answers; empty: start says
	kind  schema.Kind
	start func(*Reader) (decoder, error)
}{
	0: {"string", schema.KindString, startString},

	1: {"list", schema.KindList, startPlain(readElement)},
	2: {"set", schema.KindSet, startPlain(readElement)},
	3: {"zset", schema.KindZSet, startPlain(readMemberText)},
	4: {"hash", schema.KindHash, startPlain(readField)},
	5: {"zset", schema.KindZSet, startPlain(readMemberBinary)},

	6: {"", schema.KindDump, refuseOldModule},
	7: {"", schema.KindDump, startModule},

	9:  {"hash", schema.KindHash, startPacked(inZipmap)},
	10: {"list", schema.KindList, startPacked(inZiplist)},
	11: {"set", schema.KindSet, startPacked(inIntset)},
	12: {"zset", schema.KindZSet, startPacked(inZiplist)},
	13: {"hash", schema.KindHash, startPacked(inZiplist)},
	14: {"list", schema.KindList, startQuicklist(inZiplist)},
	16: {"hash", schema.KindHash, startPacked(inListpack)},
	17: {"zset", schema.KindZSet, startPacked(inListpack)},
	18: {"list", schema.KindList, startQuicklist(inListpack)},
	20: {"set", schema.KindSet, startPacked(inListpack)},

	15: {"stream", schema.KindStream, startStream(1)},
	19: {"stream", schema.KindStream, startStream(2)},
	21: {"stream", schema.KindStream, startStream(3)},
}
