package rdb

import "encoding/binary"

// jones is the reflected polynomial of the CRC-64 that Redis puts behind each
// RDB and each DUMP payload. Unlike hash/crc64 it starts at 0 and inverts
// nothing.
const jones = 0x95ac9329ac4bc9b5

// crcTables are read-only: entry k moves a byte past k further bytes, so
// sixteen bytes take sixteen independent look-ups instead of a chain.
var crcTables = makeCRCTables()

func makeCRCTables() *[16][256]uint64 {
	t := new([16][256]uint64)
	for i := range t[0] {
		crc := uint64(i)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ jones
			} else {
				crc >>= 1
			}
		}
		t[0][i] = crc
	}
	for k := 1; k < len(t); k++ {
		for i, crc := range &t[k-1] {
			t[k][i] = crc>>8 ^ t[0][byte(crc)]
		}
	}
	return t
}

// updateCRC returns the checksum of what crc stands for followed by p.
func updateCRC(crc uint64, p []byte) uint64 {
	t := crcTables
	for len(p) >= 16 {
		a := binary.LittleEndian.Uint64(p) ^ crc
		b := binary.LittleEndian.Uint64(p[8:])
		crc = t[15][byte(a)] ^ t[14][byte(a>>8)] ^ t[13][byte(a>>16)] ^ t[12][byte(a>>24)] ^
			t[11][byte(a>>32)] ^ t[10][byte(a>>40)] ^ t[9][byte(a>>48)] ^ t[8][byte(a>>56)] ^
			t[7][byte(b)] ^ t[6][byte(b>>8)] ^ t[5][byte(b>>16)] ^ t[4][byte(b>>24)] ^
			t[3][byte(b>>32)] ^ t[2][byte(b>>40)] ^ t[1][byte(b>>48)] ^ t[0][byte(b>>56)]
		p = p[16:]
	}
	for _, c := range p {
		crc = crc>>8 ^ t[0][byte(crc)^c]
	}
	return crc
}
