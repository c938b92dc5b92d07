package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// reader reads one file and collects what is wrong with it.
type reader struct {
	file     string
	env      func(name string) (string, bool)
	read     func(path string) ([]byte, error) // of files that the file names
	problems []Problem
	warnings []Problem
}

// maxProblems is how many problems one look at a file tells.
const maxProblems = 100

func (r *reader) report(line, column int, text string) {
	p := Problem{r.file, line, column, text}
	if len(r.problems) < maxProblems && !slices.Contains(r.problems, p) {
		r.problems = append(r.problems, p)
	}
}

// document is the file's only YAML document.
func (r *reader) document(text []byte) (value, bool) {
	if !r.plain(text) {
		return value{}, false
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		r.report(0, 0, "reading YAML: "+err.Error())
		return value{}, false
	}
	var first, second yaml.Node
	err = loader.Load(&first)
	if errors.Is(err, io.EOF) || err == nil && len(first.Content) == 0 {
		r.report(1, 1, "the file is empty: see examples/two-way.yml for what belongs into it")
		return value{}, false
	}
	if err != nil {
		r.syntax(err, text)
		return value{}, false
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.syntax(err, text)
	default:
		r.report(second.Line, second.Column, "a second YAML document begins here: one file describes one link, so remove the line ---")
	}
	return value{r: r, node: first.Content[0]}, true
}

// plain tells whether text is UTF-8 without control characters.
func (r *reader) plain(text []byte) bool {
	line, start := 1, 0
	for i := 0; i < len(text); {
		c, n := utf8.DecodeRune(text[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			r.report(line, i-start+1, fmt.Sprintf("the byte 0x%02x is not UTF-8: save the file as UTF-8", text[i]))
			return false
		case c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f:
			r.report(line, i-start+1, fmt.Sprintf("the control character 0x%02x is not allowed in YAML: remove it, or write it as an escape in double quotes", c))
			return false
		case c == '\n':
			line, start = line+1, i+1
		}
		i += n
	}
	return true
}

// syntax reports where YAML ends to be YAML. Texts of the YAML library that
// would quote the file are replaced: they might quote a secret.
func (r *reader) syntax(err error, text []byte) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		r.report(0, 0, "this is not YAML: check its quotes, brackets and indentation")
		return
	}
	what, remedy := e.Message, "check indentation and brackets, and quote values with special characters"
	switch {
	case isTab(text, e.Mark):
		remedy = "YAML indents with spaces, not with tabs"
	case strings.HasPrefix(what, "unknown anchor"):
		what, remedy = "an alias (*) names no anchor", "put a value that begins with * into quotes"
	case e.Stage == yaml.ResolverStage, strings.HasPrefix(what, "found character '"):
		what, remedy = "a tag (!) does not fit its value", "put a value that begins with ! into quotes"
	}
	if e.ContextMsg != "" {
		what = e.ContextMsg + ", " + what
	}
	r.report(e.Mark.Line, e.Mark.Column, "this is not YAML: "+what+": "+remedy)
}

func isTab(text []byte, at yaml.Mark) bool {
	for line := range bytes.Lines(text) {
		if at.Line--; at.Line == 0 {
			return at.Column > 0 && at.Column <= len(line) && line[at.Column-1] == '\t'
		}
	}
	return false
}
