// Package admin is the worker's HTTP listener: metrics, health, the link's
// status, the console, and the part of Kafka Connect's REST interface that
// fits, so that tools made for Connect can show and steer a worker. What it
// shows and steers is behind the interface Worker.
package admin

import (
	"context"
	"errors"
)

// Worker is what the listener shows and steers. Its methods are called from
// many goroutines at once. Status and Ready are asked every second
// by each open console and probe: they answer from memory, at once.
type Worker interface {
	Status() Status
	// Ready returns why the worker does not do its work yet; nothing if it does.
	Ready() []string

	// Pause stops a connector's work and keeps its place; Resume ends Pause and
	// Stop and starts a failed connector, a sink behind the event that stopped
	// it; Stop frees what the connector holds; Restart ends it and starts it
	// again where it was. They return when that is done. A name that no
	// connector has is ErrUnknownConnector; what is impossible at the moment but
	// may be asked again is ErrNotNow.
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	// Snapshot is Resume of a source that begins with a snapshot of all data.
	Snapshot(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error

	// Resync empties a site and has it filled again by the other one. It
	// returns when that has begun; Status tells how it goes on.
	Resync(ctx context.Context, site string) error

	// SnapshotKeys begins to publish chosen keys of a direction again and returns
	// the id under which Status shows it, and whether it has begun: before that, a
	// restart forgets it. StopKeys ends it. What can never be is ErrInvalid.
	SnapshotKeys(ctx context.Context, direction string, keys Keys) (id string, begun bool, err error)
	StopKeys(ctx context.Context, direction string) error

	// Validate runs the pre-check. What it finds is in the Validation; an error
	// means that the pre-check itself could not be made.
	Validate(ctx context.Context) (Validation, error)
	// Offsets tells how far a connector got, as recorded in Kafka (a source's
	// position) or at the target (a sink's mark). A connector that has recorded
	// nothing yet has none.
	Offsets(ctx context.Context, name string) (ConnectorOffsets, error)
}

// ErrUnknownConnector tells that no connector of this worker has the name.
var ErrUnknownConnector = errors.New("unknown connector")

// ErrNotNow tells that a request is impossible at the moment, because the
// worker starts or ends.
var ErrNotNow = errors.New("not possible now")

// ErrInvalid tells that a request asks for what cannot be.
var ErrInvalid = errors.New("not possible")

// Keys chooses keys of a site.
type Keys struct {
	Match string // pattern, as SCAN understands it; empty: all
	DB    int32  // -1: every database
	Rate  int    // keys a second, at most; 0: no limit
}

// Validation is what a pre-check found.
type Validation struct {
	Items []ValidationItem
}

// ValidationItem is one check with its outcome. It has passed if it has no
// errors.
type ValidationItem struct {
	Name          string   // as --ignore names it
	Documentation string   // what is checked, and why
	Value         string   // what was found
	Remedies      []string // what to do about it, also when it is but a warning
	Errors        []string
}

// ConnectorOffsets is how far a connector got: Source for a source, Sink for
// a sink, one element for each order of events.
type ConnectorOffsets struct {
	Source []SourceOffset
	Sink   []SinkOffset
}

// SourceOffset is a position in a site's replication stream.
type SourceOffset struct {
	Site, Lane string
	Replid     string
	ReplOffset int64
	Seq        int64
}

// SinkOffset is the offset of the next record that a sink will apply.
type SinkOffset struct {
	Topic     string
	Partition int32
	Offset    int64
}
