//go:build !failpoints

package app

import "twinlog/offsets"

// rules are those of the ledgers: all of them.
func rules() offsets.Rules { return offsets.Rules{} }
