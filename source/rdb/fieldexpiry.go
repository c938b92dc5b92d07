package rdb

import "twinlog/schema"

// The five forms in which a hash has expiries of its fields. Times are Unix
// milliseconds; a field without one has 0, at a Valkey -1.

// maxFieldExpiry is the latest that a Redis sets; a Valkey has no such limit.
const maxFieldExpiry = 1<<48 - 1

// startRelative starts a hash of Redis 7.4 and newer: the earliest expiry of
// all fields, then the fields, whose own expiries count from it.
func startRelative(r *Reader) (decoder, error) {
	earliest, err := r.in.fixed(8)
	if err != nil {
		return nil, err
	}
	if earliest > maxFieldExpiry {
		return nil, corrupt("the earliest expiry of a hash's fields is %d", earliest)
	}
	d, err := startPlain(readFieldRelative)(r)
	r.plain.earliest = int64(earliest)
	return d, err
}

// startExpiring starts a packed hash of the release candidates of Redis 7.4,
// where each field and its value are followed by the expiry.
func startExpiring(r *Reader) (decoder, error) {
	d, err := startPacked(inListpack)(r)
	r.packed.expiring = true
	return d, err
}

// startNextExpiring starts a packed hash of Redis 7.4 and newer. The earliest
// expiry stands in front, once more.
func startNextExpiring(r *Reader) (decoder, error) {
	if err := r.in.skip(8); err != nil {
		return nil, err
	}
	return startExpiring(r)
}

// readFieldRelative reads a field behind its expiry, which is stored with one
// added so that 0 still means none.
func readFieldRelative(r *Reader) error {
	at, err := r.length("expiry of a hash field")
	if err != nil {
		return err
	}
	if at > maxFieldExpiry {
		return corrupt("the expiry of a hash field is %d", at)
	}
	if at == 0 {
		return readField(r)
	}
	return r.fieldUntil(r.plain.earliest + int64(at) - 1)
}

// readFieldAbsolute reads a field behind its expiry.
func readFieldAbsolute(r *Reader) error {
	at, err := r.length("expiry of a hash field")
	if err != nil {
		return err
	}
	if at == 0 {
		return readField(r)
	}
	return r.fieldUntil(int64(at))
}

// fieldUntil reads a field, of a Redis, that expires.
func (r *Reader) fieldUntil(at int64) error {
	if at < 0 || at > maxFieldExpiry {
		return corrupt("the expiry of a hash field is %d", at)
	}
	field, value, err := r.field()
	if err == nil {
		r.addField(field, value, schema.OptInt64{Set: true, Int64: at})
	}
	return err
}

// readFieldOfValkey reads a field in front of its expiry.
func readFieldOfValkey(r *Reader) error {
	field, value, err := r.field()
	if err != nil {
		return err
	}
	bits, err := r.in.fixed(8)
	if err != nil {
		return err
	}
	at := int64(bits)
	if at < -1 {
		return corrupt("the expiry of hash field %q is %d", field, at)
	}
	expireAt := schema.OptInt64{}
	if at != -1 {
		expireAt = schema.OptInt64{Set: true, Int64: at}
	}
	r.addField(field, value, expireAt)
	return nil
}

// packedExpiry takes the expiry of a field from a packed hash.
func packedExpiry(blob packing) (at schema.OptInt64, err error) {
	e, ok, err := blob.next()
	switch {
	case err != nil:
		return at, err
	case !ok:
		return at, corrupt("a packed hash ends before the expiry of a field")
	case e.text != nil || e.number < 0 || e.number > maxFieldExpiry:
		return at, corrupt("the expiry of a packed hash field is %q, %d", e.text, e.number)
	case e.number != 0:
		at = schema.OptInt64{Set: true, Int64: e.number}
	}
	return at, nil
}
