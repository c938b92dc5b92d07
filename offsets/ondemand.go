package offsets

import (
	"fmt"
	"math/bits"
	"strconv"
)

// OnDemand is how far a snapshot of chosen keys got: their values are
// published again while the stream flows. The position carries it, so that it
// goes on after a restart.
type OnDemand struct {
	ID    string `json:"id"`
	Match Glob   `json:"match"`          // as SCAN understands it
	DB    int32  `json:"db"`             // the only one; AllDatabases: all in scope
	Rate  int    `json:"rate,omitempty"` // keys a second, at most; 0: no limit

	// Changes has the values count as changes of this site: where both sites
	// changed a key, that is a conflict.
	Changes bool `json:"changes,omitempty"`

	State  OnDemandState `json:"state"`
	At     int32         `json:"at"`               // database under way; -1: none yet
	Cursor string        `json:"cursor,omitempty"` // of SCAN there; empty: At is done
	Server string        `json:"server,omitempty"` // the run_id of the Redis that gave the cursor
	Keys   int64         `json:"keys"`             // published
	Reason string        `json:"reason,omitempty"` // why it failed
}

// AllDatabases chooses all databases in scope.
const AllDatabases = int32(-1)

// OnDemandState is where a snapshot of chosen keys is.
type OnDemandState string

// The states of a snapshot of chosen keys.
const (
	OnDemandRunning OnDemandState = "RUNNING"
	OnDemandDone    OnDemandState = "DONE"
	OnDemandStopped OnDemandState = "STOPPED" // by the user
	OnDemandCovered OnDemandState = "COVERED" // a snapshot of all data came in between
	OnDemandFailed  OnDemandState = "FAILED"  // a value or the site's answer made it impossible
)

// Progress is the part of the database under way that was looked through, 0 to
// 1. SCAN counts buckets with the bits of its cursor reversed.
func (d *OnDemand) Progress() float64 {
	cursor, err := strconv.ParseUint(d.Cursor, 10, 64)
	if err != nil || d.State != OnDemandRunning {
		return 0
	}
	return float64(bits.Reverse64(cursor)) / (1 << 63) / 2
}

// Glob is a pattern of keys. Keys are bytes, so in text it is quoted, as in Go,
// without the quotes around it.
type Glob string

// MarshalText quotes.
func (g Glob) MarshalText() ([]byte, error) {
	quoted := strconv.QuoteToASCII(string(g))
	return []byte(quoted[1 : len(quoted)-1]), nil
}

// UnmarshalText undoes MarshalText.
func (g *Glob) UnmarshalText(text []byte) error {
	s, err := strconv.Unquote(`"` + string(text) + `"`)
	if err != nil {
		return fmt.Errorf("the pattern %q is not quoted as it must be: %w", text, err)
	}
	*g = Glob(s)
	return nil
}
