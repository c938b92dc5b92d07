package schema

import (
	"errors"
	"fmt"
)

// record is goavro's native of an Avro record.
type record map[string]any

var errMissing = errors.New("the writer's schema lacks it, and it has no default")

func (m *mapper) fail(field string, err error) {
	if m.err == nil {
		m.err = fmt.Errorf("field %s: %w", field, err)
	}
}

// required reads a field that has no default.
func required[T any](m *mapper, r record, field string, as func(any) (T, error)) T {
	native, ok := r[field]
	if !ok {
		m.fail(field, errMissing)
	}
	return convert(m, field, native, as)
}

// optional reads a field with the default def.
func optional[T any](m *mapper, r record, field string, def T, as func(any) (T, error)) T {
	native, ok := r[field]
	if !ok {
		return def
	}
	return convert(m, field, native, as)
}

func convert[T any](m *mapper, field string, native any, as func(any) (T, error)) T {
	v, err := as(native)
	if err != nil {
		m.fail(field, err)
	}
	return v
}

// records reads an array of records. It is required if need is set, and empty
// by default otherwise.
func records[T any](m *mapper, r record, field string, need bool, item func(record) T) []T {
	var items []any
	if need {
		items = required(m, r, field, asArray)
	} else {
		items = optional(m, r, field, nil, asArray)
	}
	s := make([]T, 0, len(items))
	for _, native := range items {
		rec := convert(m, field, native, asRecord)
		if m.err != nil {
			return nil
		}
		s = append(s, item(rec))
	}
	return s
}

// The conversions below accept what Avro's schema resolution would promote.

func asLong(native any) (int64, error) {
	switch n := native.(type) {
	case int64:
		return n, nil
	case int32:
		return int64(n), nil
	}
	return 0, mismatch("long", native)
}

func asInt(native any) (int32, error) {
	if n, ok := native.(int32); ok {
		return n, nil
	}
	return 0, mismatch("int", native)
}

func asDouble(native any) (float64, error) {
	switch n := native.(type) {
	case float64:
		return n, nil
	case float32:
		return float64(n), nil
	case int64:
		return float64(n), nil
	case int32:
		return float64(n), nil
	}
	return 0, mismatch("double", native)
}

func asBool(native any) (bool, error) {
	if b, ok := native.(bool); ok {
		return b, nil
	}
	return false, mismatch("boolean", native)
}

func asBytes(native any) ([]byte, error) {
	switch b := native.(type) {
	case []byte:
		return b[:len(b):len(b)], nil
	case string:
		return []byte(b), nil
	}
	return nil, mismatch("bytes", native)
}

func asString(native any) (string, error) {
	switch s := native.(type) {
	case string:
		return s, nil
	case []byte:
		return string(s), nil
	}
	return "", mismatch("string", native)
}

func asOp(native any) (Op, error) {
	letter, err := asBytes(native)
	if err != nil {
		return 0, err
	}
	return parseOp(letter)
}

func asStreamID(native any) (StreamID, error) {
	text, err := asBytes(native)
	if err != nil {
		return StreamID{}, err
	}
	return ParseStreamID(text)
}

func asArray(native any) ([]any, error) {
	if a, ok := native.([]any); ok {
		return a, nil
	}
	return nil, mismatch("array", native)
}

func asByteses(native any) ([][]byte, error) {
	items, err := asArray(native)
	if err != nil {
		return nil, err
	}
	s := make([][]byte, len(items))
	for i, item := range items {
		if s[i], err = asBytes(item); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func asRecord(native any) (record, error) {
	if r, ok := native.(map[string]any); ok {
		return r, nil
	}
	return nil, mismatch("record", native)
}

// branch takes a value out of the one-entry map that goavro puts a union's
// value in. A value that is in no union stays.
func branch(native any) any {
	if u, ok := native.(map[string]any); ok && len(u) == 1 {
		for _, v := range u {
			return v
		}
	}
	return native
}

func asOptLong(native any) (OptInt64, error) {
	if native == nil {
		return OptInt64{}, nil
	}
	n, err := asLong(branch(native))
	return OptInt64{Set: err == nil, Int64: n}, err
}

func asOptBytes(native any) ([]byte, error) {
	if native == nil {
		return nil, nil
	}
	return asBytes(branch(native))
}

func asOptString(native any) (string, error) {
	if native == nil {
		return "", nil
	}
	return asString(branch(native))
}

// asOptRecord gives nil for null. Records of the event have two fields at
// least, so a map of one entry is a union's.
func asOptRecord(native any) (record, error) {
	if native == nil {
		return nil, nil
	}
	return asRecord(branch(native))
}

func mismatch(want string, native any) error {
	return fmt.Errorf("want %s, got %T", want, native)
}
