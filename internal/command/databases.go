package command

import (
	"fmt"
	"slices"
	"strconv"

	"twinlog/schema"
)

// RenameDatabases gives every database that e names the number that to says:
// its own, and those in the arguments of MOVE, COPY and SWAPDB.
func RenameDatabases(e *schema.Event, to func(int32) int32) error {
	if e.DB != schema.NoDB {
		e.DB = to(e.DB)
	}
	var named []int
	switch e.Command {
	case "MOVE":
		named = []int{1}
	case "SWAPDB":
		named = []int{0, 1}
	case "COPY":
		for i := 2; i+1 < len(e.Args); i++ {
			if is(e.Args[i], "DB") {
				named = append(named, i+1)
			}
		}
	}
	if named == nil {
		return nil
	}
	e.Args = slices.Clone(e.Args) // what they alias is not ours
	for _, i := range named {
		if i >= len(e.Args) {
			return fmt.Errorf("%s: %w", e.Command, errArgs)
		}
		db, err := strconv.ParseInt(string(e.Args[i]), 10, 32)
		if err != nil {
			return fmt.Errorf("%s: %q is not a database", e.Command, shown(e.Args[i]))
		}
		e.Args[i] = strconv.AppendInt(nil, int64(to(int32(db))), 10)
	}
	return nil
}

// TakesAway tells that nothing is left of the first key that e names: it was
// moved to another name or database.
func TakesAway(e *schema.Event) bool {
	return e.Op == schema.OpWrite && (e.Command == "RENAME" || e.Command == "MOVE")
}
