package rdb

import (
	"bytes"
	"math"
	"strconv"

	"twinlog/schema"
)

// What an element costs beyond its bytes when a part is measured.
const (
	elementCost = 4
	scoreCost   = 8
	expiryCost  = 6
)

// plainDecoder hands out a collection whose elements follow one by one.
type plainDecoder struct {
	left     uint64
	read     func(*Reader) error // reads one element into the entry
	earliest int64               // expiry of a field, from which the others count
}

func startPlain(read func(*Reader) error) func(*Reader) (decoder, error) {
	return func(r *Reader) (decoder, error) {
		n, err := r.length("number of elements")
		r.plain = plainDecoder{left: n, read: read}
		return &r.plain, err
	}
}

func (d *plainDecoder) next(r *Reader) (done bool, err error) {
	for d.left > 0 {
		if r.full() {
			return false, nil
		}
		if err := d.read(r); err != nil {
			return false, err
		}
		d.left--
	}
	return true, nil
}

// readElement reads an element of a list or set.
func readElement(r *Reader) error {
	b, err := r.string("element")
	if err == nil {
		r.addElement(b)
	}
	return err
}

func (r *Reader) addElement(b []byte) {
	v := &r.entry.Value
	v.Elements = append(v.Elements, b)
	r.payload += len(b) + elementCost
}

// readField reads a field of a hash that has no expiry.
func readField(r *Reader) error {
	field, value, err := r.field()
	if err == nil {
		r.addField(field, value, schema.OptInt64{})
	}
	return err
}

// field reads the name of a field and its value.
func (r *Reader) field() (name, value []byte, err error) {
	if name, err = r.string("hash field"); err == nil {
		value, err = r.string("hash value")
	}
	return name, value, err
}

func (r *Reader) addField(field, value []byte, expireAt schema.OptInt64) {
	v := &r.entry.Value
	v.Hash = append(v.Hash, schema.HashEntry{Field: field, Value: value, ExpireAt: expireAt})
	r.payload += len(field) + len(value) + 2*elementCost
	if expireAt.Set {
		r.payload += expiryCost
	}
}

// readMemberBinary reads a member of a sorted set with its score as eight bytes.
func readMemberBinary(r *Reader) error {
	member, err := r.string("member")
	if err != nil {
		return err
	}
	bits, err := r.in.fixed(8)
	if err != nil {
		return err
	}
	return r.addMember(member, math.Float64frombits(bits))
}

// readMemberText reads a member of a sorted set with its score as text.
func readMemberText(r *Reader) error {
	member, err := r.string("member")
	if err != nil {
		return err
	}
	n, err := r.in.byte()
	if err != nil {
		return err
	}
	switch n {
	case 253:
		return r.addMember(member, math.NaN())
	case 254:
		return r.addMember(member, math.Inf(1))
	case 255:
		return r.addMember(member, math.Inf(-1))
	}
	text := r.arena().take(int(n))
	if err := r.in.read(text); err != nil {
		return err
	}
	score, err := parseScore(text)
	if err != nil {
		return err
	}
	return r.addMember(member, score)
}

func (r *Reader) addMember(member []byte, score float64) error {
	if math.IsNaN(score) {
		return corrupt("the score of member %q is not a number", member)
	}
	v := &r.entry.Value
	v.ZSet = append(v.ZSet, schema.ZSetMember{Member: member, Score: score})
	r.payload += len(member) + elementCost + scoreCost
	return nil
}

// parseScore reads a decimal number as Redis prints it.
func parseScore(text []byte) (float64, error) {
	score, err := strconv.ParseFloat(string(text), 64)
	if err != nil || bytes.IndexByte(text, 'x') >= 0 || bytes.IndexByte(text, 'X') >= 0 {
		return 0, corrupt("%q is no score", text)
	}
	return score, nil
}
