package offsets

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// positionVersion is the version of the position's JSON form.
const positionVersion = 1

// Phase says what a source was doing at a position.
type Phase string

// The phases of a source.
const (
	PhaseSnapshot Phase = "snapshot" // between SNAPSHOT_BEGIN and SNAPSHOT_END: a restart begins a new epoch
	PhaseStream   Phase = "stream"   // at the end of a unit: a restart resumes with PSYNC
)

// Position is where a source stands in a Redis replication stream, at the
// end of a unit. The last record of each Kafka transaction carries it in the
// header twinlog-position, as JSON.
type Position struct {
	Version    int    `json:"version"`
	Replid     string `json:"replid"`      // 40 hex digits
	ReplOffset int64  `json:"repl_offset"` // of the last byte read; PSYNC asks for the next one
	Database   int    `json:"database"`    // selected at that byte
	Epoch      int64  `json:"epoch"`       // counts full synchronisations
	Seq        int64  `json:"seq"`         // of the last event published
	Seen       int64  `json:"seen"`        // stamped on the next events
	Mark       Mark   `json:"mark"`        // last mark read in the stream; zero: none
	Settled    int64  `json:"settled"`     // peer seq up to which conflicts are settled
	Phase      Phase  `json:"phase"`
	Instance   string `json:"instance"` // which process published it

	// UnfinishedSeq is the seq of the SNAPSHOT_BEGIN of the oldest epoch that
	// was interrupted since the last finished one; 0: none. The next
	// SNAPSHOT_END carries it, so that sinks find what the interrupted
	// snapshots wrote.
	UnfinishedSeq int64 `json:"unfinished_seq,omitempty"`

	// Gap tells that changes before the snapshot under way may be missing, so
	// that its SNAPSHOT_END must tell what was deleted meanwhile.
	Gap bool `json:"gap,omitempty"`
	// OnDemand is the last snapshot of chosen keys; zero: there was none.
	OnDemand OnDemand `json:"on_demand,omitzero"`

	Due int64 `json:"due,omitempty"` // seq of the oldest VALUE_DUE whose value has not followed; 0: none

	// Of a direction with a scope.
	Rescan Databases `json:"rescan,omitempty"` // those whose content is to be copied anew; nothing of them is published before
	Scope  string    `json:"scope,omitempty"`  // fingerprint of the scope that it was published with
}

// IsZero tells whether nothing was ever published.
func (p Position) IsZero() bool { return p.Seq == 0 }

// AppendPosition appends p in its JSON form.
func AppendPosition(b []byte, p Position) ([]byte, error) {
	p.Version = positionVersion
	j, err := json.Marshal(p)
	if err != nil {
		return b, fmt.Errorf("encoding position: %w", err)
	}
	return append(b, j...), nil
}

// ParsePosition reads what AppendPosition wrote.
func ParsePosition(b []byte) (Position, error) {
	var p Position
	if err := json.Unmarshal(b, &p); err != nil {
		return Position{}, fmt.Errorf("decoding position %q: %w", b, err)
	}
	if p.Version != positionVersion {
		return Position{}, fmt.Errorf("decoding position %q: version %d is not known to this program; run the newer twinlog that wrote it", b, p.Version)
	}
	if p.Phase != PhaseSnapshot && p.Phase != PhaseStream {
		return Position{}, fmt.Errorf("decoding position %q: unknown phase %q", b, p.Phase)
	}
	if _, err := p.Rescan.parse(); err != nil {
		return Position{}, fmt.Errorf("decoding position %q: %w", b, err)
	}
	return p, nil
}

// Databases are numbers of databases, as in "0,3".
type Databases string

// With adds a database.
func (d Databases) With(db int32) Databases {
	n := strconv.Itoa(int(db))
	if d == "" {
		return Databases(n)
	}
	return d + "," + Databases(n)
}

// All returns the numbers.
func (d Databases) All() []int32 {
	all, _ := d.parse() // ParsePosition has checked it
	return all
}

// Has tells whether a database is one of them.
func (d Databases) Has(db int32) bool { return d != "" && slices.Contains(d.All(), db) }

func (d Databases) parse() ([]int32, error) {
	if d == "" {
		return nil, nil
	}
	var all []int32
	for text := range strings.SplitSeq(string(d), ",") {
		db, err := strconv.ParseInt(text, 10, 32)
		if err != nil || db < 0 {
			return nil, fmt.Errorf("%q is not a database", text)
		}
		all = append(all, int32(db))
	}
	return all, nil
}
