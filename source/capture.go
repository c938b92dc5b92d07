package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/rdb"
	"twinlog/source/replica"
	"twinlog/source/stream"
)

// capture follows the Redis until ctx is done: connect, synchronise, read,
// and again when the link is cut.
func (s *Source) capture(ctx context.Context, p *publisher) error {
	looked, asked := s.lookAtPeer(ctx), s.askApplied(ctx)
	ready := p.ready(ctx)
	looked()
	s.applied = asked()
	if !ready {
		return nil
	}
	if err := s.checkScope(); err != nil {
		return err
	}
	if err := s.remember(ctx); err != nil {
		return err
	}
	s.turner.Peer = func(first, last int64, visit func(*schema.Event) error) error {
		return s.peerEvents(ctx, first, last, visit)
	}
	s.full = s.cfg.Snapshot == SnapshotAlways || s.cfg.NewEpoch
	s.turner.Values = func(id []byte, pos *offsets.Position, publish func([]schema.Event) error) error {
		return s.values.at(ctx, id, pos, publish)
	}
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := s.follow(ctx)
		s.setConn(nil)
		var behind *behindError
		switch {
		case errors.Is(err, ErrBegunAnew):
			return err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped: an orderly end
		case errors.Is(err, errSnapshotDue):
			s.full = true
			continue
		case err == nil, errors.Is(err, ErrSnapshotDone):
			return err
		case !replica.Retryable(err) && !notNow(err) && !later(err) && !errors.As(err, &behind):
			return err
		}
		if time.Since(started) > 10*time.Second {
			attempt = 0
		}
		s.setWaiting("Redis at site " + s.cfg.Site + ": " + err.Error())
		s.cfg.Log.Warn("replication link lost, connecting again", "site", s.cfg.Site, "error", err)
		if retry.Wait(ctx, attempt) != nil {
			return nil //nolint:nilerr // stopped while it waited: an orderly end
		}
	}
}

// errSnapshotDue tells that the data set must be published anew: the Redis does
// not go on from the position, or the peer has asked for it.
var errSnapshotDue = errors.New("a snapshot is due")

// follow holds one replication link: it synchronises as the position asks
// and reads until the link is cut.
func (s *Source) follow(ctx context.Context) error {
	if err := s.tellLost(ctx); err != nil {
		return err
	}
	pos := s.lane.position()
	fresh := pos.IsZero()
	switch {
	case s.cfg.Reseed:
		return s.reseed(ctx, pos)
	case fresh && s.cfg.Snapshot == SnapshotNoData:
		begin := place{epoch: 1, publish: s.lane.heartbeatAt}
		if s.cfg.Ledger != nil {
			begin.with = [][]string{{"SET", offsets.WitnessKey(s.cfg.Link), s.cfg.Site}}
		}
		return s.attach(ctx, begin)
	case !fresh:
		if err := s.check(ctx, pos); err != nil {
			return err
		}
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if fresh || pos.Phase == offsets.PhaseSnapshot || s.full || s.requested() {
		return s.synchronise(ctx, conn)
	}
	if s.cfg.Snapshot == SnapshotInitialOnly {
		return ErrSnapshotDone
	}
	sync, err := conn.Psync(ctx, pos.Replid, pos.ReplOffset+1)
	if err != nil {
		return fmt.Errorf("resuming the replication of site %s from %s:%d: %w", s.cfg.Site, pos.Replid, pos.ReplOffset, err)
	}
	if sync.Full {
		return s.gap(pos)
	}
	pos.Replid = sync.Replid
	s.cfg.Log.Info("resumed the replication stream", "site", s.cfg.Site, "replid", pos.Replid, "repl_offset", pos.ReplOffset)
	return s.stream(ctx, conn, pos, nil)
}

// gap does as on_gap says when the Redis does not go on from pos.
func (s *Source) gap(pos offsets.Position) error {
	gap := &GapError{Site: s.cfg.Site, Topic: s.cfg.Topic, Replid: pos.Replid, ReplOffset: pos.ReplOffset}
	s.cfg.Metrics.gaps.Inc()
	if s.cfg.OnGap != "snapshot" {
		return gap
	}
	s.cfg.Log.Warn("changes were missed: beginning a new epoch with a snapshot", "site", s.cfg.Site, "replid", pos.Replid, "repl_offset", pos.ReplOffset)
	return errSnapshotDue
}

func (s *Source) connect(ctx context.Context) (*replica.Conn, error) {
	conn, err := replica.Connect(ctx, replica.Options{Redis: s.cfg.Redis, Log: s.cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("joining site %s as a replica: %w", s.cfg.Site, err)
	}
	s.setConn(conn)
	return conn, nil
}

// synchronise makes a full synchronisation: a new epoch, its snapshot, and
// then the stream.
func (s *Source) synchronise(ctx context.Context, conn *replica.Conn) error {
	before := s.lane.position()
	reached, err := s.reaches(ctx, before)
	if err != nil {
		return err
	}
	var mark offsets.Mark
	if s.cfg.Ledger != nil {
		if mark, err = s.prepareSnapshot(ctx, before); err != nil {
			return err
		}
	}
	full, err := conn.Psync(ctx, "?", -1)
	if err != nil {
		return fmt.Errorf("asking site %s for a full synchronisation: %w", s.cfg.Site, err)
	}
	if reached && full.Replid == before.Replid && full.Offset < before.ReplOffset {
		return s.sharedSave(full.Offset, before.ReplOffset)
	}
	s.cfg.Metrics.fullSyncs.Inc()
	pos := offsets.Position{
		Replid: full.Replid, ReplOffset: full.Offset, Epoch: before.Epoch + 1, Phase: offsets.PhaseSnapshot,
		Mark: before.Mark, Seen: before.Seen, Settled: before.Settled, UnfinishedSeq: before.UnfinishedSeq,
		Due: before.Due, Rescan: before.Rescan, Scope: s.cfg.Scope.Fingerprint(), OnDemand: covered(before.OnDemand),
		Gap: before.Gap || before.Phase == offsets.PhaseStream,
	}
	if !mark.IsZero() {
		if err := s.turner.Pass(&pos, mark); err != nil {
			return fmt.Errorf("snapshot of site %s: %w", s.cfg.Site, err)
		}
	}
	pos, err = s.snapshot(ctx, conn, pos)
	if err != nil {
		return err
	}
	if s.cfg.Snapshot == SnapshotInitialOnly {
		return ErrSnapshotDone
	}
	return s.stream(ctx, conn, pos, nil)
}

// reaches tells whether the site's replication stream reaches up to pos.
func (s *Source) reaches(ctx context.Context, pos offsets.Position) (reached bool, err error) {
	if pos.IsZero() {
		return false, nil
	}
	err = s.ask(ctx, func(c *redis.Conn) error {
		info, err := redis.Info(ctx, c, "replication")
		if err != nil {
			return fmt.Errorf("asking site %s where its stream is: %w", s.cfg.Site, err)
		}
		replid, offset, err := streamEnd(info)
		reached = replid == pos.Replid && offset >= pos.ReplOffset
		return err
	})
	return reached, err
}

// prepareSnapshot makes a site of a two-way link ready for a snapshot, if it
// is still the one that was followed: it may have come back without its data
// just before the link was up; if it does so later, the link is cut. The
// barrier voids what the sink has decided without the snapshot's values, so
// that it does not take effect behind them. What the mark says has been seen by
// all that the snapshot holds, also by what stands there before the mark.
func (s *Source) prepareSnapshot(ctx context.Context, before offsets.Position) (mark offsets.Mark, err error) {
	if before.IsZero() {
		return mark, s.witness(ctx)
	}
	if err := s.check(ctx, before); err != nil {
		return mark, err
	}
	if err := s.dropBarrier(ctx, &place{}); err != nil {
		return mark, err
	}
	h, err := s.inspect(ctx)
	return h.mark, err
}

// attach begins at the present, without a snapshot: a barrier marks the
// place in the stream, since the database selected there is not known
// otherwise (apply-rules 6). Without a backlog a full synchronisation, whose
// RDB is read and dropped, comes first, and another barrier behind it: what was
// written between the first one and the RDB is in no stream.
func (s *Source) attach(ctx context.Context, at place) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.dropBarrier(ctx, &at); err != nil {
		return err
	}
	sync, err := conn.Psync(ctx, at.replid, at.next)
	if err != nil {
		return fmt.Errorf("attaching to site %s at %s:%d: %w", s.cfg.Site, at.replid, at.next, err)
	}
	pos := offsets.Position{Replid: sync.Replid, ReplOffset: sync.Offset, Epoch: at.epoch, Phase: offsets.PhaseStream, Scope: s.cfg.Scope.Fingerprint()}
	if sync.Full {
		s.cfg.Metrics.fullSyncs.Inc()
		s.cfg.Log.Info("no backlog to attach to: reading a snapshot only to find its end", "site", s.cfg.Site)
		if pos, err = s.skipSnapshot(ctx, conn, pos); err != nil {
			return err
		}
		if err := s.dropBarrier(ctx, &at); err != nil {
			return err
		}
	}
	return s.stream(ctx, conn, pos, &at)
}

// peerRest is how long the peer's topic stays open when nothing is read there.
const peerRest = 5 * time.Second

// place is where a source attaches: next is the first byte to read, and the
// barrier is written somewhere behind it.
type place struct {
	epoch   int64
	with    [][]string                      // commands that run with the barrier, in one transaction
	publish func(at offsets.Position) error // the first event, behind the barrier

	replid  string
	next    int64
	barrier string
}

// dropBarrier writes a barrier and completes the place.
func (s *Source) dropBarrier(ctx context.Context, p *place) error {
	return s.ask(ctx, func(c *redis.Conn) error {
		info, err := redis.Info(ctx, c, "replication")
		if err != nil {
			return fmt.Errorf("attaching to site %s: %w", s.cfg.Site, err)
		}
		replid, at, err := streamEnd(info)
		if err != nil {
			return fmt.Errorf("attaching to site %s: %w", s.cfg.Site, err)
		}
		p.replid, p.next, p.barrier = replid, at+1, s.cfg.Instance+"-"+strconv.FormatInt(at, 10)
		commands := slices.Concat([][]string{{"MULTI"}}, p.with, [][]string{{"SET", offsets.BarrierKey(s.cfg.Link), p.barrier}, {"EXEC"}})
		for _, args := range commands {
			reply, err := c.Do(ctx, args...)
			if err := errors.Join(err, reply.Err()); err != nil {
				return fmt.Errorf("writing the barrier at site %s: %s: %w", s.cfg.Site, args[0], err)
			}
			for i := range reply.Elems { // of EXEC
				if err := reply.Elems[i].Err(); err != nil {
					return fmt.Errorf("writing the barrier at site %s: %s: %w", s.cfg.Site, commands[i+1][0], err)
				}
			}
		}
		return nil
	})
}

// appliedBytes is what a batch of the link's own sink may have besides the
// peer's unit: the events before it, marks, a part of a value.
const appliedBytes = 4 << 20

// stream publishes the replication stream from pos on. With a place,
// everything up to the unit that writes its barrier is dropped, and the source
// begins there, in database 0. When databases are to be copied anew, it goes on
// behind their copy, on the link that brought it.
func (s *Source) stream(ctx context.Context, conn *replica.Conn, pos offsets.Position, at *place) error {
	defer func() { conn.Close() }() // the last one
	for {
		next, err := s.streamOn(ctx, conn, &pos, at)
		if err != nil {
			return err
		}
		conn.Close()
		conn, at = next, nil
		if err := s.rescan(ctx, conn, &pos); err != nil {
			return err
		}
		s.setConn(conn)
	}
}

// streamOn publishes the replication stream from pos on and moves pos. It
// returns where databases are to be copied anew: with the link that brings
// their content as of pos.
func (s *Source) streamOn(ctx context.Context, conn *replica.Conn, pos *offsets.Position, at *place) (next *replica.Conn, err error) {
	socket := &socket{conn: conn, source: s}
	defer socket.close()
	r := stream.NewReader(socket, pos.ReplOffset, int32(pos.Database), s.cfg.MaxTransactionBytes)
	r.Applied(s.filter.MarkKey(), 2*s.cfg.MaxTransactionBytes+appliedBytes)
	if at != nil {
		if err := s.passBarrier(r, pos, at); err != nil {
			return nil, err
		}
	}
	s.values.forget(pos.OnDemand)
	s.lane.resume(*pos)
	s.setRead(*pos)
	if err := s.acknowledge(false); err != nil { // what Kafka has taken before
		return nil, fmt.Errorf("acknowledging to site %s: %w", s.cfg.Site, err)
	}
	s.setWaiting("")
	s.cfg.Log.Info("following the replication stream", "site", s.cfg.Site, "replid", pos.Replid, "repl_offset", pos.ReplOffset)
	var copied int64 // where the content on next stands in the stream
	defer func() {
		if err != nil && next != nil {
			next.Close()
		}
	}()
	for {
		if pos.Rescan != "" && next == nil {
			if next, copied, err = s.copyAnew(ctx, pos); err != nil {
				return next, err
			}
		}
		if next != nil && pos.ReplOffset >= copied {
			return next, nil
		}
		if err := s.lane.waitForRoom(ctx); err != nil {
			return next, err
		}
		unit, err := r.Next()
		if err != nil {
			return next, fmt.Errorf("reading the replication stream of site %s: %w", s.cfg.Site, err)
		}
		if err := s.publish(unit, pos); err != nil {
			return next, err
		}
		s.setRead(*pos)
		s.restPeer(peerRest)
		if unit.GetAck {
			if err := s.acknowledge(true); err != nil {
				return next, fmt.Errorf("acknowledging to site %s: %w", s.cfg.Site, err)
			}
		}
		if unit.Bytes > batchBytes {
			r.Release()
		}
	}
}

// passBarrier reads up to the barrier of a place and begins there.
func (s *Source) passBarrier(r *stream.Reader, pos *offsets.Position, at *place) error {
	r.Skim(true)
	defer r.Skim(false)
	for {
		unit, err := r.Next()
		if err != nil {
			return fmt.Errorf("reading up to the barrier at site %s: %w", s.cfg.Site, err)
		}
		v, err := s.filter.Judge(unit)
		if err != nil {
			return err
		}
		if v.Echo {
			pos.Mark, pos.Seen = v.Mark, v.Mark.Seq
		}
		if string(v.Barrier) != at.barrier {
			continue
		}
		r.SelectDB(0)
		pos.ReplOffset, pos.Database = unit.Offset, 0
		return at.publish(*pos)
	}
}

// publish turns one unit into events and appends them; pos moves behind it.
func (s *Source) publish(unit *stream.Unit, pos *offsets.Position) error {
	s.lane.numbering.Lock() // no HEARTBEAT takes a seq in between
	defer s.lane.numbering.Unlock()
	pos.Seq = s.lane.seq()
	s.plumbing = len(unit.Commands) == 0
	if unit.Bytes > batchBytes && !s.cfg.Scope.Partial() {
		s.lane.expect(unit.Bytes)
		defer s.lane.expect(0) // an echo has no events
	}
	echo, err := s.turner.Turn(unit, pos, s.emitted)
	if err != nil {
		s.lane.undo()
	}
	var foreign *stream.ForeignMarkError
	if errors.As(err, &foreign) {
		return fmt.Errorf("%w. %s", err, s.cfg.anew())
	}
	if !echo || err != nil {
		return err
	}
	s.cfg.Metrics.echoes.Inc()
	if s.requested() {
		return errSnapshotDue
	}
	return nil
}

// requested tells whether the peer waits for all values of this site (rule W).
func (s *Source) requested() bool { return s.cfg.Ledger != nil && s.cfg.Ledger.Requested() }

// emit appends one group of a unit's events, or moves the position.
func (s *Source) emit(events []schema.Event, at offsets.Position, goesOn bool) error {
	if len(events) == 0 {
		s.lane.move(at, s.plumbing)
		return nil
	}
	s.captured += len(events)
	if goesOn {
		return s.lane.begin(events, at)
	}
	return s.lane.append(events, at)
}

// skipSnapshot reads a snapshot to its end and drops it.
func (s *Source) skipSnapshot(ctx context.Context, conn *replica.Conn, pos offsets.Position) (offsets.Position, error) {
	err := s.readSnapshot(ctx, conn, func(e *rdb.Entry) error {
		return s.noteSnapshotEntry(e, &pos)
	})
	return pos, err
}
