package stream

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/offsets"
)

const topicID = "0123456789abcdef0123456789abcdef"

func unitOf(commands ...string) *Unit {
	u := &Unit{Offset: 100}
	for _, c := range commands {
		var args [][]byte
		for w := range strings.FieldsSeq(c) {
			args = append(args, []byte(strings.ReplaceAll(w, "_", " ")))
		}
		u.Commands = append(u.Commands, Command{Args: args})
	}
	return u
}

func TestFilterTellsEchoesFromLocalChanges(t *testing.T) {
	mark := offsets.Mark{Generation: 1, TopicID: topicID, Seq: 42, Offset: 50}
	// unitOf splits at spaces: those inside the mark are written as "_".
	ours := "SET __twinlog:l:b-to-a:0 " + strings.ReplaceAll(mark.String(), " ", "_")
	ours = strings.Replace(ours, "__twinlog", "\x00", 1)
	tests := []struct {
		name     string
		commands []string
		want     Verdict
		born     []string
	}{
		{"a local write", []string{"SET k v"}, Verdict{}, []string{"SET k v"}},
		{"an applied block", []string{ours, "SET k v", "DEL x \x00:-"}, Verdict{Echo: true, Mark: mark}, nil},
		{"a bare mark", []string{ours}, Verdict{Echo: true, Mark: mark}, nil},
		{"a mark written by a script", []string{strings.Replace(ours, "SET", "set", 1), "set k v"}, Verdict{Echo: true, Mark: mark}, nil},
		{"a mark that is not first", []string{"DEL k", ours}, Verdict{Echo: true, Mark: mark}, []string{"DEL k"}},
		{
			"expiries inside an applied block",
			[]string{ours, "UNLINK e", "INCR e", "HDEL h f", "HDEL h f f", "HDEL h f g f", "HDEL h f g"},
			Verdict{Echo: true, Mark: mark},
			[]string{"UNLINK e", "HDEL h f", "HDEL h f g"},
		},
		{"a deleted mark", []string{"DEL \x00:l:b-to-a:0"}, Verdict{}, []string{"DEL \x00:l:b-to-a:0"}},
		{"another link's mark", []string{"SET \x00:m:b-to-a:0 1", "SET k v"}, Verdict{}, []string{"SET \x00:m:b-to-a:0 1", "SET k v"}},
		{"a barrier", []string{"SET \x00:l:barrier id1", "DEL k"}, Verdict{Barrier: []byte("id1")}, []string{"SET \x00:l:barrier id1", "DEL k"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := unitOf(tt.commands...)
			for _, c := range u.Commands {
				for i := range c.Args {
					c.Args[i] = bytes.ReplaceAll(c.Args[i], []byte{0}, []byte("__twinlog"))
				}
			}
			got, err := NewFilter("l", "b-to-a", "0").Judge(u)
			if err != nil {
				t.Fatal(err)
			}
			var born []string
			for _, c := range got.Born {
				born = append(born, strings.ReplaceAll(string(bytes.Join(c.Args, []byte(" "))), "__twinlog", "\x00"))
			}
			got.Born = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.born, born); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFilterStopsAtAMarkThatCannotBeRead(t *testing.T) {
	u := &Unit{Commands: []Command{{Args: [][]byte{[]byte("SET"), []byte("__twinlog:l:b-to-a:0"), []byte("junk")}}}}
	if _, err := NewFilter("l", "b-to-a", "0").Judge(u); err == nil || !strings.Contains(err.Error(), "__twinlog:l:b-to-a:0") {
		t.Errorf("error = %v", err)
	}
}
