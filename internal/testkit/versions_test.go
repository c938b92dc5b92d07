//go:build matrix

package testkit

import (
	"strings"
	"testing"
)

func TestServersAreOfTheirVersion(t *testing.T) {
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
