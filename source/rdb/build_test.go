package rdb

import (
	"encoding/binary"
	"math"

	"twinlog/schema"
)

// file is an RDB being written by hand.
type file []byte

func newFile(magic string) file { return file(magic) }

// length writes the shortest form of a length.
func (f file) length(n uint64) file {
	switch {
	case n < 1<<6:
		return append(f, byte(n))
	case n < 1<<14:
		return append(f, 0x40|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(f, 0x80), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(f, 0x81), n)
	}
}

func (f file) lengths(ns ...uint64) file {
	for _, n := range ns {
		f = f.length(n)
	}
	return f
}

func (f file) strings(ss ...string) file {
	for _, s := range ss {
		f = append(f.length(uint64(len(s))), s...)
	}
	return f
}

func (f file) raw(s string) file { return append(f, s...) }

func (f file) key(typ byte, key string) file { return append(f, typ).strings(key) }

func (f file) le64(n int64) file { return binary.LittleEndian.AppendUint64(f, uint64(n)) }

func (f file) rawID(ms, seq uint64) file {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(f, ms), seq)
}

func (f file) end() []byte {
	f = append(f, opEOF)
	return binary.LittleEndian.AppendUint64(f, updateCRC(0, f))
}

// endUnchecked ends the file as a server with rdbchecksum off does.
func (f file) endUnchecked() []byte { return append(f, opEOF, 0, 0, 0, 0, 0, 0, 0, 0) }

// packListpack makes a listpack of ints and strings.
func packListpack(elements ...any) string {
	var head [listpackHead]byte
	b := head[:]
	for _, e := range elements {
		b = append(b, listpackEntry(e)...)
	}
	b = append(b, packEnd)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint16(b[4:], uint16(min(len(elements), countUnknown)))
	return string(b)
}

func listpackEntry(e any) []byte {
	var b []byte
	switch e := e.(type) {
	case int:
		switch {
		case e >= 0 && e < 128:
			b = []byte{byte(e)}
		case e >= -4096 && e < 4096:
			b = []byte{0xc0 | byte(uint16(e)>>8&0x1f), byte(e)}
		case e >= math.MinInt16 && e <= math.MaxInt16:
			b = append([]byte{0xf1}, little(e, 2)...)
		case e >= -1<<23 && e < 1<<23:
			b = append([]byte{0xf2}, little(e, 3)...)
		case e >= math.MinInt32 && e <= math.MaxInt32:
			b = append([]byte{0xf3}, little(e, 4)...)
		default:
			b = append([]byte{0xf4}, little(e, 8)...)
		}
	case string:
		switch n := len(e); {
		case n < 64:
			b = []byte{0x80 | byte(n)}
		case n < 4096:
			b = []byte{0xe0 | byte(n>>8), byte(n)}
		default:
			b = append([]byte{0xf0}, little(n, 4)...)
		}
		b = append(b, e...)
	}
	n := len(b)
	for i := backLength(n) - 1; i >= 0; i-- {
		c := byte(n>>(7*i)) & 0x7f
		if i < backLength(n)-1 {
			c |= 0x80
		}
		b = append(b, c)
	}
	return b
}

// packZiplist makes a ziplist of ints and strings.
func packZiplist(elements ...any) string {
	var head [ziplistHead]byte
	b := head[:]
	tail, previous := ziplistHead, 0
	for _, e := range elements {
		tail = len(b)
		if previous < 254 {
			b = append(b, byte(previous))
		} else {
			b = append(append(b, 254), little(previous, 4)...)
		}
		switch e := e.(type) {
		case int:
			switch {
			case e >= 0 && e <= 12:
				b = append(b, 0xf1+byte(e))
			case e >= math.MinInt8 && e <= math.MaxInt8:
				b = append(b, 0xfe, byte(e))
			case e >= math.MinInt16 && e <= math.MaxInt16:
				b = append(append(b, 0xc0), little(e, 2)...)
			case e >= -1<<23 && e < 1<<23:
				b = append(append(b, 0xf0), little(e, 3)...)
			case e >= math.MinInt32 && e <= math.MaxInt32:
				b = append(append(b, 0xd0), little(e, 4)...)
			default:
				b = append(append(b, 0xe0), little(e, 8)...)
			}
		case string:
			switch n := len(e); {
			case n < 64:
				b = append(b, byte(n))
			case n < 1<<14:
				b = append(b, 0x40|byte(n>>8), byte(n))
			default:
				b = binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
			}
			b = append(b, e...)
		}
		previous = len(b) - tail
	}
	b = append(b, packEnd)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(tail))
	binary.LittleEndian.PutUint16(b[8:], uint16(min(len(elements), countUnknown)))
	return string(b)
}

func packIntset(width int, numbers ...int) string {
	b := append(little(width, 4), little(len(numbers), 4)...)
	for _, n := range numbers {
		b = append(b, little(n, width)...)
	}
	return string(b)
}

func little(n, bytes int) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(n))[:bytes]
}

// What the tests want, in few words.

func stringOf(s string) schema.Value {
	return schema.Value{Kind: schema.KindString, Data: []byte(s)}
}

func elementsOf(kind schema.Kind, ss ...string) schema.Value {
	v := schema.Value{Kind: kind}
	for _, s := range ss {
		v.Elements = append(v.Elements, []byte(s))
	}
	return v
}

func hashOf(ss ...string) schema.Value {
	v := schema.Value{Kind: schema.KindHash}
	for i := 0; i < len(ss); i += 2 {
		v.Hash = append(v.Hash, schema.HashEntry{Field: []byte(ss[i]), Value: []byte(ss[i+1])})
	}
	return v
}

func zsetOf(pairs ...any) schema.Value {
	v := schema.Value{Kind: schema.KindZSet}
	for i := 0; i < len(pairs); i += 2 {
		v.ZSet = append(v.ZSet, schema.ZSetMember{Member: []byte(pairs[i].(string)), Score: pairs[i+1].(float64)})
	}
	return v
}
