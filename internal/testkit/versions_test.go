//go:build matrix

package testkit

import (
	"fmt"
	"strings"
	"testing"

	"twinlog/internal/command"
)

// The table of commands has every command of every version, and says of the
// same ones as the server that they write.
func TestMatrixEveryCommandIsKnown(t *testing.T) {
	for s := range recipes {
		if s == Redis62 {
			continue // no origin
		}
		t.Run(string(s), func(t *testing.T) {
			reply, err := StartServer(t, s).Client().Do(t.Context(), "COMMAND").Slice()
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range reply {
				fields := row.([]any)
				name, flags := strings.ToUpper(fields[0].(string)), fmt.Sprint(fields[2])
				c := command.Lookup([]byte(name))
				if c == nil {
					t.Errorf("%s is not known", name)
					continue
				}
				changes := c.Class == command.Write || c.Class == command.Delete || c.Class == command.Truncate || c.Class == command.Function
				if container := name == "XGROUP" || name == "FUNCTION"; !container && strings.Contains(flags, "write") != changes && c.Class != command.Migration {
					t.Errorf("%s: class %d, but the server's flags are %s", name, c.Class, flags)
				}
			}
		})
	}
}

func TestMatrixServersAreOfTheirVersion(t *testing.T) {
	for s := range recipes {
		t.Run(string(s), func(t *testing.T) {
			r := StartServer(t, s)
			info, err := r.Client().Info(t.Context(), "server").Result()
			if err != nil {
				t.Fatal(err)
			}
			if want := s.product() + "_version:" + s.release() + "."; !strings.Contains(info, want) {
				t.Errorf("INFO does not tell %s:\n%s", want, info)
			}
		})
	}
}
