package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// bounded gives a schema from outside as goavro may have it, without logical
// types: their underlying types are what events need, and goavro panics on
// incomplete ones. It refuses schemas by which a short message can take
// unbounded memory or stack: types that contain themselves, and records or
// array items that may take no bytes at all.
func bounded(schema string) (string, error) {
	var root any
	if err := json.Unmarshal([]byte(schema), &root); err != nil {
		return "", fmt.Errorf("parsing JSON: %w", err)
	}
	if _, err := (sizes{}).of(root, ""); err != nil {
		return "", err
	}
	b, err := json.Marshal(root)
	if err != nil {
		return "", fmt.Errorf("writing JSON: %w", err)
	}
	return string(b), nil
}

// sizes holds the least bytes that a named type takes; open while it is
// being defined.
type sizes map[string]int

const open = -1

// enough caps sizes: beyond one byte nothing depends on them.
const enough = 1 << 10

// of gives the least number of bytes that a value of schema takes, and removes
// the logical types in it.
func (s sizes) of(schema any, namespace string) (int, error) {
	switch t := schema.(type) {
	case string:
		return s.named(t, namespace)
	case []any:
		for _, branch := range t {
			if _, err := s.of(branch, namespace); err != nil {
				return 0, err
			}
		}
		return 1, nil
	case map[string]any:
		return s.complex(t, namespace)
	}
	return 0, fmt.Errorf("a type is a %T in JSON", schema)
}

func (s sizes) named(name, namespace string) (int, error) {
	switch name {
	case "null":
		return 0, nil
	case "boolean", "int", "long", "bytes", "string":
		return 1, nil
	case "float":
		return 4, nil
	case "double":
		return 8, nil
	}
	size, ok := s[fullName(name, namespace)]
	if !ok {
		size, ok = s[name]
	}
	if !ok {
		return 0, fmt.Errorf("type %q is not defined", name)
	}
	if size == open {
		return 0, fmt.Errorf("type %q contains itself", name)
	}
	return size, nil
}

func (s sizes) complex(t map[string]any, namespace string) (int, error) {
	delete(t, "logicalType")
	kind, ok := t["type"].(string)
	if !ok {
		return s.of(t["type"], namespace)
	}
	switch kind {
	case "array":
		size, err := s.of(t["items"], namespace)
		if err == nil && size == 0 {
			err = errors.New("the items of an array take no bytes")
		}
		return 1, err
	case "map":
		_, err := s.of(t["values"], namespace)
		return 1, err
	case "enum", "fixed", "record", "error":
		return s.define(t, kind, namespace)
	}
	return s.named(kind, namespace)
}

func (s sizes) define(t map[string]any, kind, namespace string) (int, error) {
	name, _ := t["name"].(string)
	if ns, ok := t["namespace"].(string); ok {
		namespace = ns
	}
	name = fullName(name, namespace)
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		namespace = name[:dot]
	}
	size := 1
	switch kind {
	case "fixed":
		n, _ := t["size"].(float64)
		size = int(max(0, min(n, enough)))
	case "record", "error":
		s[name] = open
		size = 0
		fields, _ := t["fields"].([]any)
		for _, f := range fields {
			field, _ := f.(map[string]any)
			delete(field, "logicalType") // goavro reads it here, too
			n, err := s.of(field["type"], namespace)
			if err != nil {
				return 0, err
			}
			size = min(size+n, enough)
		}
		if size == 0 {
			return 0, fmt.Errorf("record %q takes no bytes", name)
		}
	}
	s[name] = size
	return size, nil
}

func fullName(name, namespace string) string {
	if namespace == "" || strings.ContainsRune(name, '.') {
		return name
	}
	return namespace + "." + name
}
