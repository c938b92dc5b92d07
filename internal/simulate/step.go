package simulate

import (
	"fmt"
	"strconv"
	"strings"
)

// step is one step of a schedule.
type step struct {
	site     byte // 'a' (home), 'b'
	action   action
	n        int
	commands [][][]byte
	hide     []string // keys and fields whose time is up
	both     bool     // an expiry at both sites
	quiet    bool
}

type action byte

const (
	write action = iota
	expire
	read
	commit
	apply
	decide
	execute
	setBarrier
	demand // a snapshot of the keys in hide
	heartbeat
	restartSource
	restartSink
	restartWorker
	resnapshot
	resnapshotGap
	rewind
)

var actionNames = [...]string{
	"write", "expire", "read", "commit", "apply", "decide", "execute", "barrier", "demand", "heartbeat",
	"restart-source", "restart-sink", "restart-worker", "resnapshot", "resnapshot-gap", "rewind",
}

// String is the form that parse reads: "a write SET k 5 ; INCR k",
// "b expire k both", "a apply 2 quiet hide k h.f".
func (s *step) String() string {
	var b strings.Builder
	b.WriteByte(s.site)
	b.WriteString(" " + actionNames[s.action])
	if s.n > 0 && s.n < everything {
		b.WriteString(" " + strconv.Itoa(s.n))
	}
	for i, c := range s.commands {
		if i > 0 {
			b.WriteString(" ;")
		}
		for _, w := range c {
			b.WriteString(" " + string(w))
		}
	}
	if s.both {
		b.WriteString(" both")
	}
	if s.quiet {
		b.WriteString(" quiet")
	}
	if len(s.hide) > 0 {
		b.WriteString(" hide " + strings.Join(s.hide, " "))
	}
	return b.String()
}

// parse reads a schedule, a step a line.
func parse(text string) ([]step, error) {
	var steps []step
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		s, err := parseStep(words)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", strings.TrimSpace(line), err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

func parseStep(words []string) (step, error) {
	s := step{site: words[0][0], n: everything}
	name := ""
	if len(words) > 1 {
		name = words[1]
	}
	found := false
	for i, n := range actionNames {
		if n == name {
			s.action, found = action(i), true
		}
	}
	if !found || s.site != 'a' && s.site != 'b' {
		return s, fmt.Errorf("want a or b and one of %s", strings.Join(actionNames[:], ", "))
	}
	rest := words[2:]
	if s.action == write {
		s.n = 0
		s.commands = commandsOf(strings.Join(rest, " "))
		return s, nil
	}
	for i, w := range rest {
		n, err := strconv.Atoi(w)
		switch {
		case w == "both":
			s.both = true
		case w == "quiet":
			s.quiet = true
		case w == "hide":
			s.hide = rest[i+1:]
			return s, nil
		case err != nil:
			return s, fmt.Errorf("%q is not a number", w)
		default:
			s.n = n
		}
	}
	return s, nil
}

// commandsOf splits commands at ";" and their words at spaces.
func commandsOf(text string) [][][]byte {
	var commands [][][]byte
	for c := range strings.SplitSeq(text, ";") {
		var args [][]byte
		for w := range strings.FieldsSeq(c) {
			args = append(args, []byte(w))
		}
		commands = append(commands, args)
	}
	return commands
}

// expiry is the command in the stream when a key "k" or a field "h.f" expires.
func expiry(name string) [][]byte {
	if key, field, ok := strings.Cut(name, "."); ok {
		return [][]byte{wordHdel, []byte(key), []byte(field)}
	}
	return [][]byte{wordDel, []byte(name)}
}
