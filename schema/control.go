package schema

import (
	"fmt"
	"strconv"
)

// End is what a SNAPSHOT_END says, as its arguments in this order.
type End struct {
	Keys        int64 // value and function events of its epoch
	Begin       int64 // seq of its SNAPSHOT_BEGIN
	Interrupted int64 // seq of the SNAPSHOT_BEGIN of the oldest epoch that was interrupted since the last finished one; 0: none
	Gap         bool  // changes before Begin may be missing, deletions too; only written if so
}

// Args are the arguments of a SNAPSHOT_END.
func (n End) Args() [][]byte {
	args := [][]byte{strconv.AppendInt(nil, n.Keys, 10), strconv.AppendInt(nil, n.Begin, 10), strconv.AppendInt(nil, n.Interrupted, 10)}
	if n.Gap {
		args = append(args, []byte("gap"))
	}
	return args
}

// ParseEnd reads the arguments of a SNAPSHOT_END.
func ParseEnd(args [][]byte) (End, error) {
	var n End
	if len(args) != 3 && len(args) != 4 {
		return n, fmt.Errorf("SNAPSHOT_END with %d arguments", len(args))
	}
	for i, to := range []*int64{&n.Keys, &n.Begin, &n.Interrupted} {
		v, err := strconv.ParseInt(string(args[i]), 10, 64)
		if err != nil || v < 0 {
			return n, fmt.Errorf("SNAPSHOT_END: %q is not a count", args[i])
		}
		*to = v
	}
	if len(args) == 4 && string(args[3]) != "gap" {
		return n, fmt.Errorf("SNAPSHOT_END: %q is not known to this program; run the newer twinlog that wrote it", args[3])
	}
	n.Gap = len(args) == 4
	return n, nil
}
