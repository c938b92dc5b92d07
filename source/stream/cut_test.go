package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"twinlog/internal/command"
	"twinlog/schema"
)

func TestFragmentsFitAndAreTheCommand(t *testing.T) {
	const limit = 1024
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		argv := [][]byte{[]byte("RPUSH"), bytes.Repeat([]byte("k"), 1+r.IntN(100))}
		for range 1 + r.IntN(80) {
			argv = append(argv, bytes.Repeat([]byte{byte('a' + r.IntN(26))}, r.IntN(1+[]int{3, 60, 5000}[r.IntN(3)])))
		}
		events, err := command.AppendChanges(nil, 3, argv)
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		fragments := Cut(nil, &events[0], limit)
		var args [][]byte
		for i := range fragments {
			e := fragments[i]
			e.Seq, e.Seen, e.TsMs = 1<<60, 1<<60, 1<<41
			if got := len(schema.AppendEvent(nil, &e)); got > limit {
				t.Errorf("seed %d, fragment %d has %d bytes", seed, i, got)
			}
			if len(fragments) == 1 {
				args = e.Args
				break
			}
			if want := (schema.OptPart{Set: true, Part: schema.Part{Index: int32(i), Last: i == len(fragments)-1, Arg: e.Part.Arg}}); e.Part != want {
				t.Errorf("seed %d, fragment %d: %+v", seed, i, e.Part)
			}
			for j, a := range e.Args {
				switch at := int(e.Part.Arg) + j; at {
				case len(args):
					args = append(args, bytes.Clone(a))
				case len(args) - 1:
					if args[at] = append(args[at], a...); len(args[at]) < limit/3 {
						t.Errorf("seed %d: a short argument was cut", seed)
					}
				default:
					t.Fatalf("seed %d, fragment %d: argument %d behind %d", seed, i, at, len(args))
				}
			}
		}
		if !slices.EqualFunc(argv[1:], args, bytes.Equal) { // cmp.Diff takes long for so many bytes
			t.Fatalf("seed %d: %d fragments are another command", seed, len(fragments))
		}
	}
}

func TestWhatIsNotCut(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 2000))
	many := []string{"HSET", "k"}
	for i := range 4000 {
		many = append(many, fmt.Sprint(i), "v")
	}
	for name, tt := range map[string]struct {
		argv []string
		cut  bool
	}{
		"a small command":                          {[]string{"SET", "k", "v"}, false},
		"a large value":                            {[]string{"SET", "k", long}, true},
		"a message":                                {[]string{"PUBLISH", "channel", long}, true},
		"a large key":                              {[]string{"SET", long, long}, false},
		"keys that are only read":                  {[]string{"ZUNIONSTORE", "d", "1", long}, false},
		"many small arguments":                     {many, true},
		"many arguments of which one is large":     {append(append([]string{}, many...), "large", long), false},
		"a removal of many of which one is large":  {append(append([]string{"SREM"}, many[1:]...), long), true},
		"a deletion, which has no other arguments": {[]string{"DEL", long}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var argv [][]byte
			for _, a := range tt.argv {
				argv = append(argv, []byte(a))
			}
			events, err := command.AppendChanges(nil, 0, argv)
			if err != nil {
				t.Fatal(err)
			}
			if got := Cut(nil, &events[0], 1024); (len(got) > 1) != tt.cut || !tt.cut && got[0].Part.Set {
				t.Errorf("%d events", len(got))
			}
		})
	}
}
