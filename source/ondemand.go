package source

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinlog/internal/redis"
	"twinlog/offsets"
)

// A snapshot on demand publishes the values of chosen keys again while the
// stream flows: SCAN finds them, and each value is read at a barrier, so it
// stands in the topic where it stood in the stream. No fork, no full
// synchronisation. The position tells how far it is.

// KeysRequest says which keys are published again.
type KeysRequest struct {
	Match string // as SCAN understands it; without special characters: one key, also if it does not exist
	DB    int32  // offsets.AllDatabases: all in scope
	Rate  int    // keys a second, at most; 0: no limit

	// Changes has the values count as changes, which the ledgers know of: so that
	// keys in quarantine at the target of a two-way link end equal, whatever
	// became of them there.
	Changes bool
}

// ErrNotStreaming tells that chosen keys cannot be published at the moment.
var ErrNotStreaming = errors.New("the source does not follow the replication stream yet: all values are being copied anyway, or the site is away; ask again later")

// BusyError tells that a snapshot of chosen keys is under way.
type BusyError struct{ Running offsets.OnDemand }

func (e *BusyError) Error() string {
	return fmt.Sprintf("a snapshot of the keys that match %q is under way: wait until it is done, or stop it", string(e.Running.Match))
}

// demand is the snapshot on demand on its way through values.
type demand struct {
	// Guarded by values.mu.
	passed   offsets.OnDemand  // by the capture
	wanted   *offsets.OnDemand // by the user, and not passed yet; nil: nothing
	rewound  bool              // reading begins again where passed stands
	followed bool              // the capture follows the stream, or did: nothing is read before

	// Of the goroutine that reads. A restart goes on from state: it moves when
	// all of pending is read.
	state   offsets.OnDemand
	after   offsets.OnDemand   // what it will be then
	pending []offsets.DirtyKey // found, not read
	untold  bool               // no barrier carries state yet
	told    time.Time          // when one did last
	next    time.Time          // nothing is read before, for the rate
	conn    *redis.Conn        // on which the server was asked who it is
}

const (
	scanCount  = 1000        // buckets that one SCAN looks at
	toldPause  = time.Second // progress without keys is told so often
	rateSlices = 20          // a rate is kept in so many steps a second
)

// SnapshotKeys begins to publish chosen keys again and returns the id under
// which Status shows it.
func (s *Source) SnapshotKeys(r KeysRequest) (string, error) {
	if r.Match == "" {
		r.Match = "*"
	}
	switch {
	case r.DB != offsets.AllDatabases && !s.cfg.Scope.HasDB(r.DB):
		return "", fmt.Errorf("database %d is not in the scope of %s", r.DB, s.cfg.Direction)
	case isLiteral(r.Match) && !s.carries([]byte(r.Match)):
		return "", fmt.Errorf("key %q is not in the scope of %s", shown([]byte(r.Match)), s.cfg.Direction)
	case s.lane.position().Phase != offsets.PhaseStream:
		return "", ErrNotStreaming
	}
	v := s.values
	v.mu.Lock()
	defer v.mu.Unlock()
	if running := v.running(); running != nil {
		return "", &BusyError{*running}
	}
	v.demand.wanted = &offsets.OnDemand{
		ID: strconv.FormatUint(rand.Uint64(), 36), Match: offsets.Glob(r.Match), DB: r.DB, Rate: r.Rate, Changes: r.Changes, State: offsets.OnDemandRunning, At: -1,
	}
	v.wake()
	return v.demand.wanted.ID, nil
}

// StopKeys ends a snapshot of chosen keys. It tells whether there was one.
func (s *Source) StopKeys() bool {
	v := s.values
	v.mu.Lock()
	defer v.mu.Unlock()
	running := v.running()
	if running == nil {
		return false
	}
	stopped := *running
	stopped.State = offsets.OnDemandStopped
	v.demand.wanted = &stopped
	v.wake()
	return true
}

// running returns what is under way, nil for nothing. The caller holds the
// lock.
func (v *values) running() *offsets.OnDemand {
	switch d := &v.demand; {
	case d.wanted != nil && d.wanted.State == offsets.OnDemandRunning:
		return d.wanted
	case d.wanted == nil && d.passed.State == offsets.OnDemandRunning:
		return &d.passed
	}
	return nil
}

// onDemand is what Status shows: what Kafka holds, or what it does not hold
// yet, as under way.
func (v *values) onDemand(committed offsets.OnDemand) offsets.OnDemand {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.demand.passed
	if v.demand.wanted != nil {
		last = *v.demand.wanted
	}
	switch {
	case last.State == offsets.OnDemandFailed, last.State == offsets.OnDemandStopped && v.demand.wanted == nil:
		return last
	case last.ID == committed.ID, last.ID == "":
		return committed
	}
	last.State = offsets.OnDemandRunning
	return last
}

// rememberDemand takes over what was under way when the source ended: it can be
// stopped before the stream is followed and it goes on.
func (v *values) rememberDemand(d offsets.OnDemand) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.demand.passed = d
}

// covered ends a snapshot of chosen keys where one of all data begins.
func covered(d offsets.OnDemand) offsets.OnDemand {
	if d.State == offsets.OnDemandRunning {
		d.State, d.Cursor = offsets.OnDemandCovered, ""
	}
	return d
}

// advance notes that the capture passes a barrier that brings demanded values.
func (v *values) advance(pos *offsets.Position, d *offsets.OnDemand) {
	if d == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	pos.OnDemand, v.demand.passed = *d, *d
	if w := v.demand.wanted; w != nil && w.ID == d.ID && (d.State == w.State || d.State != offsets.OnDemandRunning) {
		v.demand.wanted = nil
	}
}

// demanded takes over what is wanted, or where reading has to begin again, and
// tells from when on there is something to do.
func (v *values) demanded() (at time.Time, on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := &v.demand
	if d.rewound {
		d.state, d.pending, d.untold, d.conn, d.rewound = d.passed, nil, false, nil, false
	}
	switch w := d.wanted; {
	case w == nil:
	case w.ID != d.state.ID:
		d.state, d.pending, d.untold, d.conn, d.next = *w, nil, true, nil, time.Time{}
	case w.State != d.state.State && d.state.State == offsets.OnDemandRunning:
		d.state.State, d.pending, d.untold = w.State, nil, true
	}
	return d.next, d.followed && (d.untold || d.state.State == offsets.OnDemandRunning)
}

// serve reads some of the keys that are demanded, if it is time. What cannot go
// on ends the demand, not the source.
func (v *values) serve(ctx context.Context) error {
	d := &v.demand
	if at, on := v.demanded(); !on || time.Now().Before(at) {
		return nil
	}
	before := d.state.Keys
	err := v.serveSome(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case !notNow(err) && d.state.State == offsets.OnDemandFailed, d.state.State == offsets.OnDemandStopped:
		v.endUntold()
		return nil
	case !notNow(err) && d.state.State == offsets.OnDemandRunning:
		v.source.cfg.Log.Error("the snapshot of chosen keys ends", "site", v.source.cfg.Site, "match", d.state.Match, "error", err)
		v.disconnect() // replies may be left
		d.state.State, d.state.Reason, d.pending, d.untold = offsets.OnDemandFailed, err.Error(), nil, true
		d.state.Keys = before
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	d.rewound = true // to where the capture is
	return err
}

// endUntold ends a demand of which no barrier can be written: the position does
// not tell its end.
func (v *values) endUntold() {
	v.disconnect()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.demand.untold = false
	v.demand.passed, v.demand.wanted = v.demand.state, nil
}

func (v *values) serveSome(whole context.Context) error {
	d := &v.demand
	ctx, cancel := context.WithTimeout(whole, barrierWait)
	defer cancel()
	if err := v.connect(ctx); err != nil {
		return err
	}
	if d.state.State == offsets.OnDemandRunning && len(d.pending) == 0 {
		if err := v.find(ctx); err != nil {
			return err
		}
	}
	if len(d.pending) == 0 {
		if d.state.State == offsets.OnDemandRunning && time.Since(d.told) < toldPause {
			return nil
		}
		return v.tell(ctx, nil)
	}
	n, big, err := v.fitting(ctx, d.pending[:min(len(d.pending), d.atOnce())])
	switch {
	case err != nil:
		return err
	case big:
		key := d.pending[0]
		state := d.state // as it was: what it may bring is told later
		d.took(1)
		return v.readBig(whole, key, &state)
	}
	keys := d.pending[:n]
	d.took(n)
	return v.tell(ctx, keys)
}

// tell reads keys at a barrier that carries how far that is.
func (v *values) tell(ctx context.Context, keys []offsets.DirtyKey) error {
	state := v.demand.state
	v.demand.untold, v.demand.told = false, time.Now()
	return v.readAtOnce(ctx, keys, &state)
}

// atOnce is how many keys are read at a time.
func (d *demand) atOnce() int {
	if d.state.Rate == 0 {
		return barrierKeys
	}
	return max(min(d.state.Rate/rateSlices, barrierKeys), 1)
}

// took moves behind the first n keys that are pending.
func (d *demand) took(n int) {
	d.pending = d.pending[n:]
	d.state.Keys += int64(n)
	if len(d.pending) == 0 {
		keys := d.state.Keys
		d.state = d.after
		d.state.Keys = keys
	}
	d.untold = true
	if d.state.Rate > 0 {
		now := time.Now()
		if d.next.Before(now) {
			d.next = now
		}
		d.next = d.next.Add(time.Duration(n) * time.Second / time.Duration(d.state.Rate))
	}
}

// find looks for the next keys. Without any it moves on at once.
func (v *values) find(ctx context.Context) error {
	d := &v.demand
	d.after = d.state
	var err error
	if match := string(d.state.Match); isLiteral(match) {
		err = v.findOne(ctx, match)
	} else {
		err = v.scan(ctx, match)
	}
	if err == nil && len(d.pending) == 0 {
		d.state, d.untold = d.after, true
	}
	return err
}

// findOne finds one key, in each database, whether it exists or not: what the
// target holds in its place is replaced or removed.
func (v *values) findOne(ctx context.Context, name string) error {
	databases, err := v.databases(ctx)
	if err != nil {
		return err
	}
	for _, db := range databases {
		v.demand.pending = append(v.demand.pending, offsets.DirtyKey{DB: db, Name: []byte(name)})
	}
	v.demand.after.State = offsets.OnDemandDone
	return nil
}

// scan finds the keys of some buckets.
func (v *values) scan(ctx context.Context, match string) error {
	d := &v.demand
	if err := v.sameServer(ctx); err != nil {
		return err
	}
	if d.after.Cursor == "" {
		databases, err := v.databases(ctx)
		if err != nil {
			return err
		}
		next := slices.IndexFunc(databases, func(db int32) bool { return db > d.after.At })
		if next < 0 {
			d.after.State = offsets.OnDemandDone
			return nil
		}
		d.after.At, d.after.Cursor = databases[next], "0"
	}
	replies, err := v.all(ctx, []string{"SELECT", strconv.Itoa(int(d.after.At))}, []string{"SCAN", d.after.Cursor, "MATCH", match, "COUNT", strconv.Itoa(scanCount)})
	if err != nil {
		return err
	}
	reply := &replies[1]
	if len(reply.Elems) != 2 {
		return fmt.Errorf("site %s answers SCAN with %d elements", v.source.cfg.Site, len(reply.Elems))
	}
	if d.after.Cursor = string(reply.Elems[0].Str); d.after.Cursor == "0" {
		d.after.Cursor = ""
	}
	for _, key := range reply.Elems[1].Elems {
		if v.source.carries(key.Str) {
			d.pending = append(d.pending, offsets.DirtyKey{DB: d.after.At, Name: slices.Clone(key.Str)})
		}
	}
	return nil
}

// sameServer begins the database under way again if another server, or the
// same one started again, gave its cursor: it means nothing there.
func (v *values) sameServer(ctx context.Context) error {
	d := &v.demand
	if d.conn == v.conn {
		return nil
	}
	info, err := redis.Info(ctx, v.conn, "server")
	if err != nil {
		return fmt.Errorf("asking site %s which server it is: %w", v.source.cfg.Site, err)
	}
	if id := info["run_id"]; d.after.Server != id || id == "" {
		d.after.Server = id
		if d.after.Cursor != "" {
			d.after.Cursor = "0"
		}
	}
	d.conn = v.conn
	return nil
}

// databases returns the databases that are demanded, ascending. Database 0
// always is one, and those without keys otherwise are not.
func (v *values) databases(ctx context.Context) ([]int32, error) {
	if db := v.demand.state.DB; db != offsets.AllDatabases {
		return []int32{db}, nil
	}
	if in := v.source.cfg.Scope.Databases; in != nil {
		return in, nil
	}
	info, err := redis.Info(ctx, v.conn, "keyspace")
	if err != nil {
		return nil, fmt.Errorf("asking site %s for its databases: %w", v.source.cfg.Site, err)
	}
	all := []int32{0}
	for _, db := range redis.Keyspace(info) {
		all = append(all, int32(db.Number))
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// carries tells whether a key of this name is published at all.
func (s *Source) carries(name []byte) bool {
	return !offsets.IsReserved(name) && s.cfg.Scope.HasName(name)
}

// isLiteral tells whether a pattern matches one name only, itself.
func isLiteral(pattern string) bool { return !strings.ContainsAny(pattern, "*?[\\") }
