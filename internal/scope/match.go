package scope

// Match tells whether all of key matches a pattern, byte by byte, as Redis's
// KEYS and SCAN MATCH understand it (stringmatchlen in its util.c):
//
//	?      any byte
//	*      any bytes, or none
//	[ab]   one of them; [^a] another one; [a-c] a range, either way round
//	\x     x itself
//
// A class that is not closed ends with the pattern. A pattern of stars alone
// matches the empty key too. Time is bounded by the product of both lengths.
func Match(pattern string, key []byte) bool {
	p, k := 0, 0
	star, from := -1, 0 // behind the last star, and where what it stands for ends
	for k < len(key) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, from = p, k
			continue
		}
		if p < len(pattern) {
			if next, ok := one(pattern, p, key[k]); ok {
				p, k = next, k+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++ // the star stands for one byte more
		p, k = star, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// one tells whether c matches what stands at p, which is no star, and where
// that ends.
func one(pattern string, p int, c byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return class(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == c
}

// class is one for what follows a bracket.
func class(pattern string, p int, c byte) (next int, ok bool) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			ok = ok || pattern[p] == c
		case p+2 < len(pattern) && pattern[p+1] == '-':
			low, high := min(pattern[p], pattern[p+2]), max(pattern[p], pattern[p+2])
			ok = ok || low <= c && c <= high
			p += 2
		default:
			ok = ok || pattern[p] == c
		}
	}
	return min(p+1, len(pattern)), ok != not
}
