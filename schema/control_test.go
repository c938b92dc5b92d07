package schema

import (
	"strings"
	"testing"
)

func TestEndIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []End{{}, {Keys: 3, Begin: 7}, {Keys: 1 << 40, Begin: 9, Interrupted: 2}, {Begin: 5, Gap: true}} {
		got, err := ParseEnd(want.Args())
		if err != nil || got != want {
			t.Errorf("%+v is read as %+v, %v", want, got, err)
		}
	}
}

func TestEndThatSaysSomethingElseIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":          "1 arguments",
		"1 2":       "2 arguments",
		"1 2 3 4 5": "5 arguments",
		"1 -2 3":    `"-2" is not a count`,
		"x 2 3":     `"x" is not a count`,
		"1 2 3 new": `"new" is not known to this program`,
	} {
		var args [][]byte
		for word := range strings.SplitSeq(text, " ") {
			args = append(args, []byte(word))
		}
		if _, err := ParseEnd(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
