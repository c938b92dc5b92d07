package command

import (
	"fmt"
	"math"
	"strconv"
)

// Words that effects put into arguments. Nobody writes to them.
var (
	wordDelete  = []byte("DELETE")
	wordFlush   = []byte("FLUSH")
	wordKeepTTL = []byte("KEEPTTL")
	wordLeft    = []byte("LEFT")
	wordLoad    = []byte("LOAD")
	wordPXAT    = []byte("PXAT")
	wordReplace = []byte("REPLACE")
	wordRestore = []byte("RESTORE")
	wordRight   = []byte("RIGHT")
)

// ExpiryArg tells where in the arguments of a command in effect form the
// expiry stands: an absolute time in Unix milliseconds. It answers false for
// commands that set none.
func ExpiryArg(command string, args [][]byte) (index int, ok bool) {
	switch command {
	case "SET":
		return 3, len(args) == 4 && is(args[2], "PXAT")
	case "PEXPIREAT", "HPEXPIREAT":
		return 1, len(args) > 1
	case "HSETEX":
		return 2, len(args) > 2 && is(args[1], "PXAT")
	case "RESTORE":
		return 1, len(args) > 3 && !isZero(args[1]) && hasAbsTTL(args[3:])
	}
	return 0, false
}

func hasAbsTTL(options [][]byte) bool {
	for _, w := range options {
		if is(w, "ABSTTL") {
			return true
		}
	}
	return false
}

func isZero(number []byte) bool {
	n, err := strconv.ParseInt(string(number), 10, 64)
	return err == nil && n == 0
}

// milliseconds turns seconds into milliseconds.
func milliseconds(seconds []byte) ([]byte, error) {
	s, err := strconv.ParseInt(string(seconds), 10, 64)
	if err != nil || s < 0 || s > math.MaxInt64/1000 {
		return nil, fmt.Errorf("%q is not a time in seconds", shown(seconds))
	}
	return strconv.AppendInt(nil, s*1000, 10), nil
}
