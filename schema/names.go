package schema

// Bounds of names: entries, and bytes of each.
const (
	maxNames   = 1024
	maxNameLen = 64
)

// names remembers strings that come again with every event (commands, sites,
// types), so that decoding them allocates once.
type names map[string]string

// get gives b as a string. last is a likely one: what the field held before.
func (n *names) get(b []byte, last string) string {
	if string(b) == last {
		return last
	}
	if s, ok := (*n)[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) > maxNameLen {
		return s
	}
	if *n == nil || len(*n) >= maxNames {
		*n = make(names)
	}
	(*n)[s] = s
	return s
}

func (r *reader) name(field, last string) string {
	return r.names.get(r.bytes(field), last)
}

// optName reads a nullable string, null as "".
func (r *reader) optName(field, last string) string {
	if !r.some(field) {
		return ""
	}
	return r.name(field, last)
}
