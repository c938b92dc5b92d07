package config

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// text reads a single value with its variables expanded.
func (v value) text() (string, bool) {
	n := v.content(yaml.ScalarNode)
	if n == nil {
		return "", false
	}
	return v.expand(n.Value)
}

// expand puts environment variables in. It quotes nothing of s but names of
// variables: s may be a secret.
func (v value) expand(s string) (string, bool) {
	var out strings.Builder
	ok := true
	for {
		before, rest, found := strings.Cut(s, "$")
		out.WriteString(before)
		if !found {
			return out.String(), ok
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			s = rest[1:]
		case strings.HasPrefix(rest, "{"):
			name, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				v.problem("${ without } after it: write ${NAME} for a variable, $$ for a plain $")
				return "", false
			}
			s = after
			if !isVariable(name) {
				v.problem("what stands between ${ and } is not a variable's name: write ${NAME} for a variable, $$ for a plain $")
				ok = false
				continue
			}
			text, set := v.r.env(name)
			if !set {
				v.problem("the environment variable %s is not set: set it, or write $$ for a plain $", clip(name))
				ok = false
			}
			out.WriteString(text)
		default:
			out.WriteByte('$')
			s = rest
		}
	}
}

func isVariable(name string) bool {
	for i, c := range name {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// quoted is what a message may show of a value that is no secret: as it is
// written, since variables may hold one, and not if it looks like
// user:password@host.
func (v value) quoted() string {
	n := v.content(yaml.ScalarNode)
	switch {
	case n == nil, strings.Contains(n.Value, "@"):
		return "the value"
	case strings.Contains(n.Value, "${"):
		return strconv.Quote(clip(n.Value)) + ", expanded,"
	}
	return strconv.Quote(clip(n.Value))
}

// oneOf reads one of a few words.
func (v value) oneOf(standard string, words ...string) string {
	s, ok := v.text()
	if !ok {
		return standard
	}
	if slices.Contains(words, s) {
		return s
	}
	if near, found := nearest(s, words); found {
		v.problem("%s is not known: did you mean %s?", v.quoted(), near)
	} else {
		v.problem("%s is not known: use %s", v.quoted(), strings.Join(words, " or "))
	}
	return standard
}

// flag reads true or false.
func (v value) flag() bool {
	s, ok := v.text()
	if ok && s != "true" && s != "false" {
		v.problem("%s is neither true nor false", v.quoted())
	}
	return s == "true"
}

// whole reads a whole number.
func (v value) whole(standard, least, most int64) int64 {
	s, ok := v.text()
	if !ok {
		return standard
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		v.problem("%s is not a whole number", v.quoted())
	case n < least || n > most:
		v.problem("%d is out of range: use %d to %d", n, least, most)
	default:
		return n
	}
	return standard
}

var units = []struct {
	suffix string
	shift  uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"", 0}}

// size reads a number of bytes.
func (v value) size(standard, least, most int64) int64 {
	s, ok := v.text()
	if !ok {
		return standard
	}
	n, ok := parseSize(s)
	switch {
	case !ok:
		v.problem("%s is not a size: write it as 256MiB, 900KiB or a plain number of bytes", v.quoted())
	case n < least:
		v.problem("%s is too small: use at least %s", v.quoted(), sizeText(least))
	case n > most:
		v.problem("%s is too large: use at most %s", v.quoted(), sizeText(most))
	default:
		return n
	}
	return standard
}

func parseSize(s string) (int64, bool) {
	for _, u := range units {
		digits, found := strings.CutSuffix(s, u.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n > math.MaxInt64>>u.shift {
			return 0, false
		}
		return int64(n) << u.shift, true
	}
	return 0, false
}

func sizeText(n int64) string {
	text := strconv.FormatInt(n, 10)
	for _, u := range units {
		if u.shift > 0 && n > 0 && n&(1<<u.shift-1) == 0 {
			text = fmt.Sprintf("%d%s", n>>u.shift, u.suffix)
		}
	}
	return text
}

// duration reads a time that is not negative.
func (v value) duration(standard time.Duration) time.Duration {
	s, ok := v.text()
	if !ok {
		return standard
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		v.problem("%s is not a duration: write it with its unit, as in 2ms, 1s, 90m or 168h", v.quoted())
	case d < 0:
		v.problem("%s is negative: use 0s or more", v.quoted())
	default:
		return d
	}
	return standard
}

// hostPort reads an address.
func (v value) hostPort(example string) (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	host, port, err := net.SplitHostPort(s)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || strings.ContainsAny(host, "@/ ") {
		v.problem("%s is not host:port: write it as %s", v.quoted(), example)
		return "", false
	}
	return s, true
}
