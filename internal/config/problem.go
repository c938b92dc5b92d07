package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a file, where it is, and what to do.
type Problem struct {
	File         string
	Line, Column int // 1 is the first; Line 0: the file as a whole
	Text         string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Error is all that is wrong with a file, in the order of its lines.
type Error struct{ Problems []Problem }

// Error has a line for each problem, and one more if they are too many to tell.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	if len(lines) == maxProblems {
		lines = append(lines, "and maybe more: mend these first")
	}
	return strings.Join(lines, "\n")
}

func inOrder(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return problems
}
