package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// dumpFooter is what DUMP puts behind a value: two bytes of RDB version and a
// checksum of eight.
const dumpFooter = 10

// ReadDump hands the parts of the value in a DUMP payload to visit, as Next
// would for a key of an RDB. The footer's version and checksum are verified
// first. What visit has got is whole only if there is no error.
func ReadDump(payload []byte, db int32, key []byte, o Options, visit func(*Entry) error) error {
	value, version, err := openDump(payload)
	if err == nil {
		err = readValue(value, version, db, key, o, visit)
	}
	if err != nil {
		return fmt.Errorf("reading the value of key %q: %w", key[:min(len(key), 64)], err)
	}
	return nil
}

// openDump takes the footer off.
func openDump(payload []byte) (value []byte, version int, err error) {
	if len(payload) <= dumpFooter {
		return nil, 0, corrupt("a DUMP payload of %d bytes", len(payload))
	}
	body := payload[:len(payload)-8]
	stored, computed := binary.LittleEndian.Uint64(payload[len(body):]), updateCRC(0, body)
	if stored != 0 && stored != computed {
		return nil, 0, corrupt("a DUMP payload whose checksum is %016x, but its bytes give %016x", stored, computed)
	}
	value = body[:len(body)-2]
	version = int(binary.LittleEndian.Uint16(body[len(value):]))
	if !supported(version) {
		return nil, 0, unsupported("a DUMP payload of version %d; "+readable, version)
	}
	if typ := value[0]; typ == opMetadata {
		return nil, 0, unsupported("a DUMP payload with data that a module attached to the key, which only the module can read")
	} else if typeIn(version, typ) == nil {
		return nil, 0, corrupt("a DUMP payload of the unknown type %d", typ)
	}
	return value, version, nil
}

// readValue reads a value as the first key of an RDB.
func readValue(value []byte, version int, db int32, key []byte, o Options, visit func(*Entry) error) error {
	head := fmt.Appendf(nil, "REDIS%04d", version)
	if version >= valkeyVersion {
		head = fmt.Appendf(nil, "VALKEY%03d", version)
	}
	head = appendLength(append(head, opSelectDB), uint64(uint32(db)))
	head = appendLength(append(head, value[0]), uint64(len(key)))
	r := NewReader(bufio.NewReaderSize(io.MultiReader(bytes.NewReader(head), bytes.NewReader(key), bytes.NewReader(value[1:])), 64<<10), o)
	for {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
		if !e.Last {
			continue
		}
		if more := int64(len(head)+len(key)+len(value)-1) - r.BytesRead(); more > 0 {
			return corrupt("a DUMP payload with %d bytes behind its value", more)
		}
		return nil
	}
}

// appendLength appends a length as an RDB writes it.
func appendLength(b []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0x81), n)
}
