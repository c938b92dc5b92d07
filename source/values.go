package source

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/rdb"
)

// values reads the values of keys in conflict, each at a barrier: a small
// write in the same MULTI, at whose place in the stream the capture publishes
// them (DESIGN.md 3).
type values struct {
	source *Source
	wanted wanted
	queue  []asked          // keys to read, the soonest due first
	pace   map[string]pacer // of keys read lately
	nonce  string           // barriers of a source before this one are not its own
	number int
	conn   *redis.Conn
	unmet  time.Duration // how long the capture may take to meet a barrier
	// fieldsLast tells that the server does not know expiries of fields.
	fieldsLast bool

	demand demand

	mu      sync.Mutex
	reading map[string]*barrierRead // by barrier
	lost    []offsets.DirtyKey      // read at barriers that the capture will not meet
	missed  chan struct{}           // signalled when lost grows, or something is demanded
}

// wanted tells which values are to be read: a ledger, or a stream.Due.
type wanted interface {
	TakeDirty() []offsets.DirtyKey
	Woken() <-chan struct{}
	IsDirty(db int32, name []byte) bool
	Fencing() bool
}

// asked is a key whose value is wanted.
type asked struct {
	offsets.DirtyKey
	due time.Time
}

// pacer bounds how often one key's value is read.
type pacer struct {
	last time.Time
	wait time.Duration
}

// barrierRead is what one barrier brings.
type barrierRead struct {
	begun  time.Time
	keys   []offsets.DirtyKey
	done   chan struct{} // closed when values or err is set
	values [][]schema.Event
	err    error
	big    *bigRead          // a value that comes while the capture waits; nil: none
	demand *offsets.OnDemand // how far this brings a snapshot on demand; nil: nowhere
}

const (
	barrierKeys  = 256     // most keys of one barrier
	barrierBytes = 4 << 20 // about what one barrier reads
	barrierPause = 2 * time.Millisecond
	mostBarriers = 4 // read, but not met by the capture yet
	slowestPace  = 250 * time.Millisecond
	quiet        = time.Second // a key that was clean for so long is read at once
	mostPaced    = 10_000
	barrierWait  = time.Minute // for the answer of one barrier
)

func newValues(s *Source, w wanted) *values {
	return &values{source: s, wanted: w, unmet: barrierWait, pace: map[string]pacer{}, reading: map[string]*barrierRead{}, missed: make(chan struct{}, 1), nonce: strconv.FormatUint(rand.Uint64(), 36)}
}

// run reads values until ctx is done.
func (v *values) run(ctx context.Context) error {
	defer v.disconnect()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for attempt := 0; ; {
		v.enqueue(time.Now())
		wait := time.Hour
		if len(v.queue) > 0 {
			wait = max(time.Until(v.queue[0].due), barrierPause)
		}
		if at, on := v.demanded(); on {
			wait = min(wait, max(time.Until(at), barrierPause))
		}
		if at, some := v.overdueAt(); some {
			wait = min(wait, max(time.Until(at), barrierPause))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-v.missed:
			continue
		case <-v.wanted.Woken():
			timer.Reset(barrierPause)
			select { // what becomes dirty together is read together
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		case <-timer.C:
		}
		v.forgetOverdue(time.Now())
		v.enqueue(time.Now())
		if v.outstanding() >= mostBarriers || v.wanted.Fencing() {
			continue
		}
		keys := v.take(time.Now())
		var err error
		if len(keys) > 0 {
			err = v.read(ctx, keys)
		} else {
			err = v.serve(ctx)
		}
		switch {
		case err == nil:
			if attempt > 0 {
				v.source.setWaiting("")
			}
			attempt = 0
			continue
		case ctx.Err() != nil:
			return nil
		case !notNow(err):
			return err
		}
		v.disconnect()
		v.again(keys)
		v.source.setWaiting("reading values at site " + v.source.cfg.Site + ": " + err.Error())
		v.source.cfg.Log.Warn("reading values, trying again", "site", v.source.cfg.Site, "keys", len(keys), "error", err)
		if retry.Wait(ctx, attempt) != nil {
			return nil
		}
		attempt++
	}
}

// notNow tells whether err may be another answer later: the connection was
// cut, or the server refuses to write for the moment.
func notNow(err error) bool {
	var server *redis.ServerError
	return redis.Retryable(err) || errors.As(err, &server) && refusals[server.Code]
}

// refusals are the replies of a server that does not write at the moment.
var refusals = map[string]bool{"OOM": true, "READONLY": true, "MISCONF": true, "NOREPLICAS": true, "EXECABORT": true}

// enqueue takes over what has become dirty. A key that was read a moment ago
// waits, longer each time, so that a hot key costs a bounded rate.
func (v *values) enqueue(now time.Time) {
	for _, k := range v.wanted.TakeDirty() {
		id := keyID(k)
		if now.Sub(v.pace[id].last) > quiet {
			delete(v.pace, id)
		}
		p := v.pace[id]
		v.queue = append(v.queue, asked{k, p.last.Add(p.wait)})
	}
	v.mu.Lock()
	lost := v.lost
	v.lost = nil
	v.mu.Unlock()
	v.again(lost)
	slices.SortStableFunc(v.queue, func(a, b asked) int { return a.due.Compare(b.due) })
}

// take takes the keys that are due, as many as one barrier reads.
func (v *values) take(now time.Time) []offsets.DirtyKey {
	var keys []offsets.DirtyKey
	for len(v.queue) > 0 && len(keys) < barrierKeys && !v.queue[0].due.After(now) {
		k := v.queue[0].DirtyKey
		v.queue = v.queue[1:]
		if !v.wanted.IsDirty(k.DB, k.Name) { // its value came otherwise
			continue
		}
		id := keyID(k)
		p := v.pace[id]
		if len(v.pace) > mostPaced {
			clear(v.pace)
		}
		v.pace[id] = pacer{now, min(max(2*p.wait, 4*barrierPause), slowestPace)}
		keys = append(keys, k)
	}
	return keys
}

func (v *values) again(keys []offsets.DirtyKey) {
	for _, k := range keys {
		v.queue = append(v.queue, asked{k, time.Now()})
	}
}

func keyID(k offsets.DirtyKey) string { return strconv.Itoa(int(k.DB)) + ":" + string(k.Name) }

// read reads keys at one barrier, as many of them as one may bring; the others
// wait for the next one.
func (v *values) read(whole context.Context, keys []offsets.DirtyKey) error {
	ctx, cancel := context.WithTimeout(whole, barrierWait)
	defer cancel()
	if err := v.connect(ctx); err != nil {
		return err
	}
	n, big, err := v.fitting(ctx, keys)
	if err != nil {
		return err
	}
	if big {
		err = v.readBig(whole, keys[0], nil)
	} else {
		err = v.readAtOnce(ctx, keys[:n], nil)
	}
	if err != nil {
		return err
	}
	v.again(keys[n:])
	return nil
}

// fitting tells how many of keys one barrier may read, at least one, and
// whether the first one is so big that it is read in parts.
func (v *values) fitting(ctx context.Context, keys []offsets.DirtyKey) (n int, big bool, err error) {
	db := int32(-1)
	for _, k := range keys {
		v.selectDB(k.DB, &db)
		v.conn.Command("MEMORY", "USAGE", string(k.Name))
	}
	if err := v.conn.Flush(ctx); err != nil {
		return 0, false, err
	}
	bytes, most, full := int64(0), min(bigValue, v.source.cfg.MaxTransactionBytes), false
	db = -1
	for i, k := range keys {
		reply, err := v.sized(ctx, k, &db)
		if err != nil {
			return 0, false, err
		}
		bytes += reply
		switch {
		case i == 0:
			n, big, full = 1, reply > most, reply > most
		case full:
		case bytes > barrierBytes || reply > most:
			full = true
		default:
			n = i + 1
		}
	}
	return n, big, nil
}

// selectDB adds SELECT if the database is not the last one's.
func (v *values) selectDB(db int32, last *int32) {
	if db != *last {
		*last = db
		v.conn.Command("SELECT", strconv.Itoa(int(db)))
	}
}

// sized reads the replies to selectDB and MEMORY USAGE.
func (v *values) sized(ctx context.Context, k offsets.DirtyKey, last *int32) (int64, error) {
	if k.DB != *last {
		*last = k.DB
		reply, err := v.conn.Receive(ctx)
		if err := errors.Join(err, reply.Err()); err != nil {
			return 0, fmt.Errorf("selecting db %d at site %s: %w", k.DB, v.source.cfg.Site, err)
		}
	}
	reply, err := v.conn.Receive(ctx)
	if err := errors.Join(err, reply.Err()); err != nil {
		return 0, fmt.Errorf("asking site %s for the size of key %q in db %d: %w", v.source.cfg.Site, shown(k.Name), k.DB, err)
	}
	return reply.Int, nil
}

func (v *values) nextBarrier() string {
	v.number++
	return v.source.cfg.Instance + "-" + v.nonce + "-" + strconv.Itoa(v.number)
}

// readAtOnce reads keys at one barrier. The capture learns what it brought
// when it meets the barrier.
func (v *values) readAtOnce(ctx context.Context, keys []offsets.DirtyKey, demand *offsets.OnDemand) error {
	id := v.nextBarrier()
	read := &barrierRead{begun: time.Now(), keys: keys, done: make(chan struct{}), demand: demand}
	v.mu.Lock()
	if demand != nil && v.demand.rewound { // it begins again before these keys
		v.mu.Unlock()
		return nil
	}
	v.reading[id] = read
	v.mu.Unlock()
	values, err := v.ask(ctx, id, keys)
	v.source.hook("values-read")
	read.values, read.err = values, err
	close(read.done)
	if err != nil { // the barrier may not be in the stream
		v.mu.Lock()
		delete(v.reading, id)
		v.mu.Unlock()
	}
	return err
}

// ask runs MULTI; SET barrier; DUMP and PEXPIRETIME of each key; EXEC.
func (v *values) ask(ctx context.Context, id string, keys []offsets.DirtyKey) ([][]schema.Event, error) {
	c, cfg := v.conn, &v.source.cfg
	c.Command("SELECT", "0")
	c.Command("MULTI")
	c.Command("SET", offsets.BarrierKey(cfg.Link), id)
	queued, db := 1, int32(0)
	for _, k := range keys {
		if k.DB != db {
			db = k.DB
			c.Command("SELECT", strconv.Itoa(int(db)))
			queued++
		}
		c.Command("DUMP", string(k.Name))
		c.Command("PEXPIRETIME", string(k.Name))
		queued += 2
	}
	c.Command("EXEC")
	if err := c.Flush(ctx); err != nil {
		return nil, err
	}
	for range 2 + queued {
		reply, err := c.Receive(ctx)
		if err == nil {
			err = reply.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("reading values at a barrier at site %s: %w", cfg.Site, err)
		}
	}
	exec, err := c.Receive(ctx)
	if err == nil {
		err = exec.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("reading values at a barrier at site %s: %w", cfg.Site, err)
	}
	return v.events(keys, &exec)
}

// events makes r events of what EXEC answered.
func (v *values) events(keys []offsets.DirtyKey, exec *redis.Reply) ([][]schema.Event, error) {
	all := make([][]schema.Event, 0, len(keys))
	at, db := 1, int32(0)
	for _, k := range keys {
		if k.DB != db {
			db = k.DB
			at++
		}
		if at+1 >= len(exec.Elems) {
			return nil, fmt.Errorf("site %s answers %d replies to the EXEC of a barrier", v.source.cfg.Site, len(exec.Elems))
		}
		dump, expiry := &exec.Elems[at], &exec.Elems[at+1]
		at += 2
		if err := errors.Join(dump.Err(), expiry.Err()); err != nil {
			return nil, fmt.Errorf("reading key %q of db %d at site %s: %w", shown(k.Name), k.DB, v.source.cfg.Site, err)
		}
		parts, err := v.parts(k, dump, expiry.Int)
		if err != nil {
			return nil, err
		}
		all = append(all, parts)
	}
	return all, nil
}

// parts makes the r event of one value, in parts if it is big. They are one
// group, so the peer applies them at once.
func (v *values) parts(k offsets.DirtyKey, dump *redis.Reply, expireAt int64) ([]schema.Event, error) {
	cfg := &v.source.cfg
	one := schema.Event{Op: schema.OpValue, DB: k.DB, Key: k.Name, Source: schema.Source{Snapshot: "incremental"}}
	if dump.Null {
		return []schema.Event{one}, nil
	}
	if size := len(dump.Str); int64(size) > cfg.MaxTransactionBytes {
		return nil, v.tooBig(k, size)
	}
	if expireAt > 0 {
		one.ExpireAt = schema.OptInt64{Set: true, Int64: expireAt}
	}
	var events []schema.Event
	value := parts{}
	options := rdb.Options{ChunkBytes: cfg.chunkBytes(), MaxElementBytes: cfg.MaxTransactionBytes}
	err := rdb.ReadDump(dump.Str, k.DB, k.Name, options, func(e *rdb.Entry) error {
		part := one
		return value.each(cfg, &part, e, func() error {
			events = append(events, part)
			events[len(events)-1].Value = part.Value.Clone()
			return nil
		})
	})
	var limit *rdb.LimitError
	switch {
	case errors.As(err, &limit): // compressed it was small enough
		return nil, v.tooBig(k, int(limit.Size))
	case err != nil:
		return nil, fmt.Errorf("site %s: %w", cfg.Site, err)
	}
	return events, nil
}

func (v *values) tooBig(k offsets.DirtyKey, size int) error {
	return &TooBigError{Type: "conflicting", DB: k.DB, Key: shown(k.Name), Size: size, Limit: int(v.source.cfg.MaxTransactionBytes), Group: true}
}

// at publishes what the barrier id brought, once; nothing for a barrier of
// somebody else, or one whose answer was lost.
func (v *values) at(ctx context.Context, id []byte, pos *offsets.Position, publish func([]schema.Event) error) error {
	v.mu.Lock()
	read := v.reading[string(id)]
	delete(v.reading, string(id))
	v.mu.Unlock()
	if read == nil {
		return nil
	}
	if read.big != nil {
		return v.bigAt(ctx, read.big, publish)
	}
	<-read.done
	v.source.hook("barrier-met")
	if read.err != nil {
		return nil //nolint:nilerr // run tries again, at another barrier
	}
	for i, parts := range read.values {
		if read.demand != nil && !read.demand.Changes {
			v.refreshes(parts)
		}
		if i == len(read.values)-1 {
			v.advance(pos, read.demand)
		}
		if err := publish(parts); err != nil {
			return err
		}
	}
	v.advance(pos, read.demand)
	return nil
}

// refreshes marks events that only send again what the key holds. A key in
// conflict, or due, is none: its value is wanted anyway, and settles it.
func (v *values) refreshes(parts []schema.Event) {
	if v.wanted.IsDirty(parts[0].DB, parts[0].Key) {
		return
	}
	for i := range parts {
		parts[i].Source.Snapshot = schema.Refresh
	}
}

func (v *values) outstanding() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.reading)
}

// forget drops the barriers so far, since the capture may not meet them: it
// follows the stream on another link. Their keys are read again, if they are
// still dirty, and what is demanded from where the position stands.
func (v *values) forget(demanded offsets.OnDemand) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.demand.followed = true
	v.forgetAll(demanded)
}

// forgetAll is forget for who holds the lock.
func (v *values) forgetAll(demanded offsets.OnDemand) {
	v.demand.passed, v.demand.rewound = demanded, true
	for _, read := range v.reading {
		if read.big != nil { // who reads it asks again
			close(read.big.missed)
			continue
		}
		v.lost = append(v.lost, read.keys...)
	}
	clear(v.reading)
	v.wake()
}

// overdueAt is when the oldest barrier will have waited too long; some is false
// if none waits.
func (v *values) overdueAt() (at time.Time, some bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, read := range v.reading {
		if due := read.begun.Add(v.unmet); !some || due.Before(at) {
			at, some = due, true
		}
	}
	return at, some
}

// forgetOverdue drops all barriers if one has waited too long: they may have
// been written at a server that the capture does not follow (a failover). The
// next ones are written on another connection.
func (v *values) forgetOverdue(now time.Time) {
	if at, some := v.overdueAt(); !some || now.Before(at) {
		return
	}
	v.source.cfg.Log.Warn("the replication stream does not bring the barriers at which values were read: reading them again", "site", v.source.cfg.Site)
	v.disconnect()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forgetAll(v.demand.passed)
}

// wake makes run look for what there is to do.
func (v *values) wake() {
	select {
	case v.missed <- struct{}{}:
	default:
	}
}

func (v *values) connect(ctx context.Context) error {
	if v.conn != nil {
		return nil
	}
	conn, err := redis.Dial(ctx, v.source.cfg.Redis)
	if err != nil {
		return fmt.Errorf("connecting to site %s: %w", v.source.cfg.Site, err)
	}
	v.conn = conn
	return nil
}

func (v *values) disconnect() {
	if v.conn != nil {
		v.conn.Close()
		v.conn = nil
	}
}
