package rdb

import "twinlog/schema"

// A valueType is how one type of value is read. start reads what stands before
// the first element; a value that is complete by then has no decoder.
type valueType struct {
	name  string // as TYPE answers; empty: start says
	kind  schema.Kind
	start func(*Reader) (decoder, error)
}

// valueTypes has a row for each type of value, by its number in the RDB of a
// Redis. Those from 22 on mean something else to a Valkey.
var valueTypes = [27]valueType{
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
	26: {"stream", schema.KindStream, startStream(4)},

	22: {"hash", schema.KindHash, startPlain(readFieldAbsolute)}, // release candidates of 7.4
	23: {"hash", schema.KindHash, startExpiring},
	24: {"hash", schema.KindHash, startRelative},
	25: {"hash", schema.KindHash, startNextExpiring},
}

// valkeyTypes are those of a Valkey.
var valkeyTypes = func() (types [len(valueTypes)]valueType) {
	const own = 22 // the first
	copy(types[:], valueTypes[:own])
	types[own] = valueType{"hash", schema.KindHash, startPlain(readFieldOfValkey)}
	return types
}()

// typeOf returns how values of a type are read, nil for what is no type of
// this RDB's version.
func (r *Reader) typeOf(op byte) *valueType { return typeIn(r.version, op) }

func typeIn(version int, op byte) *valueType {
	types := &valueTypes
	if version >= valkeyVersion {
		types = &valkeyTypes
	}
	if int(op) >= len(types) || types[op].start == nil {
		return nil
	}
	return &types[op]
}
