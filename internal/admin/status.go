package admin

import "strings"

// State is a connector's state, in Kafka Connect's words.
type State string

// The states of a connector.
const (
	StateUnassigned State = "UNASSIGNED" // not started yet
	StateRunning    State = "RUNNING"
	StatePaused     State = "PAUSED"
	StateStopped    State = "STOPPED"
	StateFailed     State = "FAILED" // and stays so until someone resumes or restarts it
)

// The phases of a direction.
const (
	PhaseCreated       = "CREATED"       // not in the topic yet
	PhasePrecheck      = "PRECHECK"      // checking both sites and Kafka
	PhaseSnapshot      = "SNAPSHOT"      // copying the data that is there
	PhaseSynchronizing = "SYNCHRONIZING" // following changes as they are made
)

// Status is the answer of /status. Its JSON form is fixed: names are added,
// never changed.
type Status struct {
	Link       string          `json:"link"`
	Home       string          `json:"home"`
	Sites      map[string]Site `json:"sites"`
	Directions []Direction     `json:"directions"`
	Conflicts  []Conflict      `json:"conflicts"` // the last hundred of both sites, oldest first
}

// Site is a Redis deployment of the link.
type Site struct {
	State     string `json:"state"`     // CONNECTED, DISCONNECTED, or UNKNOWN where no source runs
	Conflicts int64  `json:"conflicts"` // decided there since the worker was started
	Repaired  int64  `json:"repaired"`  // keys in conflict whose value was published since
	Dirty     int    `json:"dirty"`     // keys in conflict whose value is still to be published
}

// Direction is one half of the link.
type Direction struct {
	Name     string       `json:"name"`
	Phase    string       `json:"phase"`
	Reason   string       `json:"reason"` // what it waits for; empty: nothing
	Source   SourceStatus `json:"source"`
	Sink     SinkStatus   `json:"sink"`
	OnDemand *OnDemand    `json:"on_demand"` // the last snapshot of chosen keys; null: there was none
}

// OnDemand is a snapshot of chosen keys.
type OnDemand struct {
	ID       string  `json:"id"`
	Match    string  `json:"match"`    // pattern of keys, bytes that are no text as \x00
	State    string  `json:"state"`    // RUNNING, DONE, STOPPED, COVERED by a snapshot of all data, FAILED
	Reason   string  `json:"reason"`   // why it failed
	Database int32   `json:"database"` // under way
	Progress float64 `json:"progress"` // in that database, 0 to 1
	Keys     int64   `json:"keys"`     // published
}

// OnDemandRunning is the state of a snapshot of chosen keys under way.
const OnDemandRunning = "RUNNING"

// SourceStatus is the state of a source connector.
type SourceStatus struct {
	Name          string  `json:"name"`
	State         State   `json:"state"`
	Trace         string  `json:"trace"`          // why it failed
	Position      string  `json:"position"`       // replication id and offset: "<replid>:<repl_offset>"
	Seq           int64   `json:"seq"`            // of the last event captured
	Epoch         int64   `json:"epoch"`          // of its last full synchronisation
	BehindSeconds float64 `json:"behind_seconds"` // age of the oldest change that Kafka does not hold
}

// SinkStatus is the state of a sink connector.
type SinkStatus struct {
	Name       string  `json:"name"`
	State      State   `json:"state"`
	Trace      string  `json:"trace"`       // why it failed
	Seq        int64   `json:"seq"`         // of the last event applied
	Offset     int64   `json:"offset"`      // Kafka offset of the same
	LagEvents  int64   `json:"lag_events"`  // offsets between it and the topic's end; -1: unknown
	LagSeconds float64 `json:"lag_seconds"` // age of the last event applied while others wait; -1: unknown
	LeftOut    int64   `json:"left_out"`    // removals and values left out since the worker was started

	DeadLetters     int64         `json:"dead_letters"`     // records written to the dead-letter topic since the worker was started
	QuarantinedKeys int           `json:"quarantined_keys"` // keys whose events go there
	Quarantine      []Quarantined `json:"quarantine"`       // the last twenty of them, newest first
}

// Quarantined is a key whose events go to the dead-letter topic.
type Quarantined struct {
	DB     int32  `json:"db"`     // -1: any, its record does not tell
	Key    Key    `json:"key"`    // cut to 1024 bytes
	Seq    int64  `json:"seq"`    // of the first event that was not applied
	Reason string `json:"reason"` // why it was not
}

// connector is what Kafka Connect's interface knows of a source or a sink.
type connector struct {
	name      string
	kind      string // source or sink
	state     State
	trace     string
	direction string
}

// connectors lists sources and sinks in the order of the directions.
func (s Status) connectors() []connector {
	list := make([]connector, 0, 2*len(s.Directions))
	for _, d := range s.Directions {
		list = append(list,
			connector{d.Source.Name, kindSource, d.Source.State, d.Source.Trace, d.Name},
			connector{d.Sink.Name, kindSink, d.Sink.State, d.Sink.Trace, d.Name})
	}
	return list
}

const (
	kindSource = "source"
	kindSink   = "sink"
)

// oneLine keeps a text of many lines from looking like several reasons.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
