package command

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"twinlog/schema"
)

// word is a plain word, or a quoted one, which the recordings may have cut:
// `"\x00\x05hel...(17B)`.
var word = regexp.MustCompile(`"(?:[^"\\]|\\.)*?(?:"|\.\.\.\(\d+B\))|[^ "]+`)

// bytesOf splits a line into the words of a command.
func bytesOf(line string) [][]byte {
	var argv [][]byte
	for _, w := range word.FindAllString(line, -1) {
		if s, err := strconv.Unquote(w); err == nil {
			w = s
		}
		argv = append(argv, []byte(w))
	}
	return argv
}

// lineOf shows an event as a line: op, db if not 0, keys, command.
func lineOf(e *schema.Event) string {
	var b strings.Builder
	b.WriteByte(byte(e.Op))
	if e.DB != 0 {
		fmt.Fprintf(&b, " db=%d", e.DB)
	}
	if e.Key != nil {
		fmt.Fprintf(&b, " key=%s", e.Key)
	}
	for _, k := range e.OtherKeys {
		fmt.Fprintf(&b, ",%s", k)
	}
	b.WriteString(": " + e.Command)
	for _, a := range e.Args {
		s := strconv.Quote(string(a))
		if s[1:len(s)-1] == string(a) && !strings.Contains(s, " ") && len(a) > 0 {
			s = string(a)
		}
		b.WriteString(" " + s)
	}
	return b.String()
}

func linesOf(events []schema.Event) []string {
	var lines []string
	for i := range events {
		lines = append(lines, lineOf(&events[i]))
	}
	return lines
}
