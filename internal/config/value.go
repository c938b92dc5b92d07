package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// value is a place in the file, with the path that names it to the user. The
// zero value is one that the file does not give: reading it gives the default.
type value struct {
	r    *reader
	path string
	node *yaml.Node
}

func (v value) given() bool { return v.node != nil }

// problem reports what is wrong at v.
func (v value) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if v.path != "" {
		text = v.path + ": " + text
	}
	v.r.report(v.node.Line, v.node.Column, text)
}

// fault reports in a sentence whose subject is v.
func (v value) fault(format string, args ...any) {
	subject := v.path
	if subject == "" {
		subject = "the file"
	}
	v.r.report(v.node.Line, v.node.Column, subject+" "+fmt.Sprintf(format, args...))
}

// notYet warns that an option has no effect in this version, and what happens
// instead.
func (v value) notYet(option, instead string) {
	if !v.given() {
		return
	}
	v.r.warnings = append(v.r.warnings, Problem{v.r.file, v.node.Line, v.node.Column, option + " is not in effect in this version: " + instead})
}

// target is the node itself, or the one that an alias stands for.
func (v value) target() *yaml.Node {
	if v.node.Kind == yaml.AliasNode && v.node.Alias != nil {
		return v.node.Alias
	}
	return v.node
}

// content is the target; nil, after a report, if it is not of the kind that
// is wanted.
func (v value) content(kind yaml.Kind) *yaml.Node {
	if !v.given() {
		return nil
	}
	n := v.target()
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		v.problem("tags (!) have no meaning here: remove it, or put a value that begins with ! into quotes")
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		v.fault("is empty: give it a value or remove the line")
	case n.Kind != kind:
		v.fault("wants %s, not %s", wantText(kind), kindText(n.Kind))
	default:
		return n
	}
	return nil
}

func wantText(k yaml.Kind) string {
	switch k {
	case yaml.MappingNode:
		return "a mapping, as in {key: value}"
	case yaml.SequenceNode:
		return "a list, as in [x, y]"
	default:
		return "a single value"
	}
}

func kindText(k yaml.Kind) string {
	switch k {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return "a single value"
	default:
		return "this"
	}
}

// object is a mapping whose keys are known.
type object struct {
	value
	fields map[string]value
	meant  map[string]bool // fields whose names are misspelt
	ok     bool            // it is a mapping
}

// mapping reads a mapping and reports every key that is not known.
func (v value) mapping(known ...string) object {
	o := object{value: v, fields: map[string]value{}, meant: map[string]bool{}}
	entries, ok := v.entries()
	o.ok = ok
	for _, e := range entries {
		if slices.Contains(known, e.key) {
			o.fields[e.key] = e.value
			continue
		}
		key := value{v.r, v.path, e.keyNode}
		name := keyText(e.key)
		switch near, found := nearest(e.key, known); {
		case e.keyNode.Tag == "!!merge":
			key.problem("merge keys (<<) are not supported: write the keys out")
		case name != e.key && strings.HasPrefix(e.key[len(name):], ":"):
			key.problem("%q is followed by a colon without a space: write %s: value", name, name)
		case found:
			o.meant[near] = true
			key.problem("unknown key %q: did you mean %q?", name, near)
		default:
			key.problem("unknown key %q: known here are %s", name, strings.Join(known, ", "))
		}
	}
	return o
}

// keyText is the part of a key that may be shown: what follows may be a
// value, and a secret, if only the space behind the colon was left out.
func keyText(key string) string {
	end := strings.IndexFunc(key, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.'
	})
	if end >= 0 {
		key = key[:end]
	}
	return clip(key)
}

func (o object) field(key string) value { return o.fields[key] }

// require is a field that must be given.
func (o object) require(key, remedy string) value {
	f := o.fields[key]
	if !f.given() && o.ok && !o.meant[key] {
		o.problem("%s is missing: %s", key, remedy)
	}
	return f
}

type entry struct {
	key     string
	keyNode *yaml.Node
	value   value
}

// entries reads a mapping with any keys. Keys without a value, and keys that
// are given twice, are reported and left out.
func (v value) entries() ([]entry, bool) {
	n := v.content(yaml.MappingNode)
	if n == nil {
		return nil, false
	}
	var entries []entry
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := value{v.r, v.path, key}
		if key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 {
			at.problem("a key is plain text here, as in key: value")
			continue
		}
		if line, twice := first[key.Value]; twice {
			at.problem("key %q is given twice, first on line %d: remove one", keyText(key.Value), line)
			continue
		}
		first[key.Value] = key.Line
		path := keyText(key.Value)
		if v.path != "" {
			path = v.path + "." + path
		}
		entries = append(entries, entry{key.Value, key, value{v.r, path, val}})
	}
	return entries, true
}

// items reads a list.
func (v value) items() ([]value, bool) {
	n := v.content(yaml.SequenceNode)
	if n == nil {
		return nil, false
	}
	items := make([]value, 0, len(n.Content))
	for i, c := range n.Content {
		items = append(items, value{v.r, fmt.Sprintf("%s[%d]", v.path, i), c})
	}
	return items, true
}
