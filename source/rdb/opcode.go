package rdb

import (
	"bytes"
	"errors"
	"math"
	"strconv"

	"twinlog/schema"
)

// The RDB versions that are read. The first has a checksum, the last of Redis
// is the newest whose every opcode and type is known here. Valkey went on from
// 11 with numbers of its own, behind a magic of its own.
const (
	minVersion    = 5
	maxVersion    = 13
	valkeyVersion = 80
)

// readable says which versions are read, for messages.
const readable = "versions 5 to 13 (up to Redis 8.6) and 80 (Valkey 9) are supported"

// supported tells whether a version is read.
func supported(version int) bool {
	return version >= minVersion && version <= maxVersion || version == valkeyVersion
}

// The opcodes. A smaller byte is the type of a value, whose key follows.
const (
	opMetadata     = 243 // at a Redis: what modules attach to a key; at a Valkey: slots that are coming in
	opSlotInfo     = 244
	opFunction     = 245
	opFunctionPre  = 246
	opModuleAux    = 247
	opIdle         = 248
	opFreq         = 249
	opAux          = 250
	opResizeDB     = 251
	opExpireMillis = 252
	opExpire       = 253
	opSelectDB     = 254
	opEOF          = 255
)

// errEnd says that the RDB is complete and verified.
var errEnd = errors.New("end of the RDB")

func (r *Reader) header() error {
	h, err := r.in.take(9)
	if err != nil {
		return err
	}
	digits, ofValkey := bytes.CutPrefix(h, []byte("VALKEY"))
	if !ofValkey {
		digits, _ = bytes.CutPrefix(h, []byte("REDIS"))
	}
	version, err := strconv.ParseUint(string(digits), 10, 16)
	if len(digits) == len(h) || err != nil {
		return corrupt("it begins with %q instead of REDIS or VALKEY and a version", h)
	}
	if !supported(int(version)) || (version >= valkeyVersion) != ofValkey {
		return unsupported("version %q; "+readable, h)
	}
	r.version = int(version)
	return nil
}

// opcode obeys an opcode and tells whether it filled the entry.
func (r *Reader) opcode(op byte) (found bool, err error) {
	e := &r.entry
	switch op {
	case opExpireMillis:
		at, err := r.in.fixed(8)
		e.ExpireAt = schema.OptInt64{Set: true, Int64: int64(at)}
		return false, err
	case opExpire:
		at, err := r.in.fixed(4)
		e.ExpireAt = schema.OptInt64{Set: true, Int64: int64(int32(at)) * 1000}
		return false, err
	case opSelectDB:
		db, err := r.length("database")
		if err == nil && db > math.MaxInt32 {
			return false, corrupt("database %d", db)
		}
		e.DB = int32(db)
		return false, err
	case opResizeDB:
		if _, err := r.length("number of keys"); err != nil {
			return false, err
		}
		_, err := r.length("number of expiries")
		return false, err
	case opSlotInfo: // slot, keys, expiries: hints for the size of tables
		for range 3 {
			if _, err := r.length("slot info"); err != nil {
				return false, err
			}
		}
		return false, nil
	case opMetadata:
		if r.version >= valkeyVersion {
			return false, unsupported("slots that are just being moved to this server; take the snapshot when it has them")
		}
		if r.version >= 13 {
			return false, unsupported("data that a module attached to a key, which only the module can read; remove it, or leave the key out")
		}
	case opIdle:
		_, err := r.length("idle time")
		return false, err
	case opFreq:
		_, err := r.in.byte()
		return false, err
	case opAux:
		e.Kind = Aux
		if e.Name, err = r.string("aux field"); err == nil {
			e.Text, err = r.string("aux field")
		}
		return true, err
	case opFunction:
		e.Kind, e.Name = Function, nil
		e.Text, err = r.string("function library")
		return true, err
	case opFunctionPre:
		return false, unsupported("a function of a Redis 7.0 release candidate; upgrade the server")
	case opModuleAux:
		return false, r.skipModuleAux()
	case opEOF:
		return false, r.end()
	}
	return false, corrupt("unknown opcode or type %d", op)
}

// end verifies the checksum, which covers everything before it.
func (r *Reader) end() error {
	r.in.release()
	computed := r.in.crc
	stored, err := r.in.fixed(8)
	if err != nil {
		return err
	}
	if stored != 0 && stored != computed {
		return corrupt("its checksum is %016x, but its bytes give %016x", stored, computed)
	}
	return errEnd
}
