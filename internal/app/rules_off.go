//go:build failpoints

package app

import (
	"os"

	"twinlog/offsets"
)

// rules are those of the ledgers. A test can switch them off, to show what
// happens without them.
func rules() offsets.Rules {
	if os.Getenv("TWINLOG_RULES") != "off" {
		return offsets.Rules{}
	}
	return offsets.Rules{NoD: true, NoR: true, NoH: true, NoHidden: true}
}
