package offsets

import (
	"strings"
	"testing"

	"twinlog/internal/scope"
)

// Emptying a whole database would take what other links go by.
func TestOtherLinksAreNotEmptied(t *testing.T) {
	other := []string{Reserved + "mine:a-to-b:0", Nothing, Reserved + "yours:a-to-b:0"}
	for name, tt := range map[string]struct {
		scope   scope.Scope
		keys    []string
		refused bool
	}{
		"all data":             {scope.Scope{}, other, true},
		"no other link":        {scope.Scope{}, other[:2], false},
		"database 0":           {scope.Scope{Databases: []int32{0, 1}}, other, true},
		"database 1":           {scope.Scope{Databases: []int32{1}}, other, false},
		"keys by their names":  {scope.Scope{Include: []string{"in:*"}}, other, false},
		"a name that is alike": {scope.Scope{}, []string{Reserved + "mine2:a-to-b:0"}, true},
	} {
		err := RefuseOtherLinks(&tt.scope, "mine", "b", func(_ string, visit func(key []byte) error) error {
			for _, key := range tt.keys {
				if err := visit([]byte(key)); err != nil {
					return err
				}
			}
			return nil
		})
		if (err != nil) != tt.refused || err != nil && !strings.Contains(err.Error(), "site b carries the mark") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
