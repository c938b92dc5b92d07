package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	looked := s.lookAtPeer(ctx)
	ready := p.ready(ctx)
	looked()
	if !ready {
		return nil
	}
	if err := s.remember(ctx); err != nil {
		return err
	}
	s.turner.Peer = func(first, last int64, visit func(*schema.Event) error) error {
		return s.peerEvents(ctx, first, last, visit)
	}
	always := s.cfg.Snapshot == SnapshotAlways
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := s.follow(ctx, &always)
		s.setConn(nil)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped: an orderly end
		case err == nil, errors.Is(err, ErrSnapshotDone):
			return err
		case !replica.Retryable(err) && !notNow(err):
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

// follow holds one replication link: it synchronises as the position asks
// and reads until the link is cut.
func (s *Source) follow(ctx context.Context, always *bool) error {
	pos := s.lane.position()
	fresh := pos.IsZero()
	if fresh && s.cfg.Snapshot == SnapshotNoData {
		return s.attach(ctx)
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if fresh || pos.Phase == offsets.PhaseSnapshot || *always {
		*always = false
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
		return &GapError{Link: s.cfg.Link, Site: s.cfg.Site, Topic: s.cfg.Topic, Replid: pos.Replid, ReplOffset: pos.ReplOffset, Mode: s.cfg.OnGap}
	}
	pos.Replid = sync.Replid
	s.cfg.Log.Info("resumed the replication stream", "site", s.cfg.Site, "replid", pos.Replid, "repl_offset", pos.ReplOffset)
	return s.stream(ctx, conn, pos, nil)
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
	if s.cfg.Ledger != nil && !before.IsZero() { // what the sink decided without the snapshot's values must not take effect behind them
		if _, err := s.dropBarrier(ctx); err != nil {
			return err
		}
	}
	full, err := conn.Psync(ctx, "?", -1)
	if err != nil {
		return fmt.Errorf("asking site %s for a full synchronisation: %w", s.cfg.Site, err)
	}
	s.cfg.Metrics.fullSyncs.Inc()
	pos := offsets.Position{
		Replid: full.Replid, ReplOffset: full.Offset, Epoch: before.Epoch + 1, Phase: offsets.PhaseSnapshot,
		Mark: before.Mark, Seen: before.Seen, Settled: before.Settled, UnfinishedSeq: before.UnfinishedSeq,
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

// attach begins at the present, without a snapshot: a barrier marks the
// place in the stream, since the database selected there is not known
// otherwise (apply-rules 6). Without a backlog a full synchronisation whose
// RDB is read and dropped serves instead.
func (s *Source) attach(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	place, err := s.dropBarrier(ctx)
	if err != nil {
		return err
	}
	sync, err := conn.Psync(ctx, place.replid, place.next)
	if err != nil {
		return fmt.Errorf("attaching to site %s at %s:%d: %w", s.cfg.Site, place.replid, place.next, err)
	}
	pos := offsets.Position{Replid: sync.Replid, ReplOffset: sync.Offset, Epoch: 1, Phase: offsets.PhaseStream}
	if !sync.Full {
		return s.stream(ctx, conn, pos, []byte(place.barrier))
	}
	s.cfg.Metrics.fullSyncs.Inc()
	s.cfg.Log.Info("no backlog to attach to: reading a snapshot only to find its end", "site", s.cfg.Site)
	pos, err = s.skipSnapshot(ctx, conn, pos)
	if err != nil {
		return err
	}
	if err := s.lane.heartbeatAt(pos); err != nil {
		return err
	}
	return s.stream(ctx, conn, pos, nil)
}

// peerRest is how long the peer's topic stays open when nothing is read there.
const peerRest = 5 * time.Second

// place is where a source attaches: next is the first byte to read, and the
// barrier is written somewhere behind it.
type place struct {
	replid  string
	next    int64
	barrier string
}

func (s *Source) dropBarrier(ctx context.Context) (place, error) {
	c, err := redis.Dial(ctx, s.cfg.Redis)
	if err != nil {
		return place{}, fmt.Errorf("attaching to site %s: %w", s.cfg.Site, err)
	}
	defer c.Close()
	info, err := redis.Info(ctx, c, "replication")
	if err != nil {
		return place{}, fmt.Errorf("attaching to site %s: %w", s.cfg.Site, err)
	}
	at, err := strconv.ParseInt(info["master_repl_offset"], 10, 64)
	if err != nil {
		return place{}, fmt.Errorf("attaching to site %s: INFO has no master_repl_offset: %w", s.cfg.Site, err)
	}
	p := place{replid: info["master_replid"], next: at + 1, barrier: s.cfg.Instance + "-" + strconv.FormatInt(at, 10)}
	reply, err := c.Do(ctx, "SET", offsets.BarrierKey(s.cfg.Link), p.barrier)
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		return place{}, fmt.Errorf("writing the barrier at site %s: %w", s.cfg.Site, err)
	}
	return p, nil
}

// stream publishes the replication stream from pos on. With a barrier,
// everything up to the unit that writes it is dropped, and the source begins
// there, in database 0.
func (s *Source) stream(ctx context.Context, conn *replica.Conn, pos offsets.Position, barrier []byte) error {
	socket := &socket{conn: conn, source: s}
	defer socket.close()
	r := stream.NewReader(socket, pos.ReplOffset, int32(pos.Database), s.cfg.MaxTransactionBytes)
	if barrier != nil {
		if err := s.passBarrier(r, &pos, barrier); err != nil {
			return err
		}
	}
	if s.values != nil {
		s.values.forget()
	}
	s.lane.resume(pos)
	s.setRead(pos)
	s.setWaiting("")
	s.cfg.Log.Info("following the replication stream", "site", s.cfg.Site, "replid", pos.Replid, "repl_offset", pos.ReplOffset)
	for {
		if err := s.lane.waitForRoom(ctx); err != nil {
			return err
		}
		unit, err := r.Next()
		if err != nil {
			return fmt.Errorf("reading the replication stream of site %s: %w", s.cfg.Site, err)
		}
		if err := s.publish(unit, &pos); err != nil {
			return err
		}
		s.setRead(pos)
		s.restPeer(peerRest)
		if unit.GetAck {
			if err := s.acknowledge(true); err != nil {
				return fmt.Errorf("acknowledging to site %s: %w", s.cfg.Site, err)
			}
		}
	}
}

func (s *Source) passBarrier(r *stream.Reader, pos *offsets.Position, barrier []byte) error {
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
		if !bytes.Equal(v.Barrier, barrier) {
			continue
		}
		r.SelectDB(0)
		pos.ReplOffset, pos.Database = unit.Offset, 0
		return s.lane.heartbeatAt(*pos)
	}
}

// publish turns one unit into events and appends them; pos moves behind it.
func (s *Source) publish(unit *stream.Unit, pos *offsets.Position) error {
	s.lane.numbering.Lock() // no HEARTBEAT takes a seq in between
	defer s.lane.numbering.Unlock()
	pos.Seq = s.lane.seq()
	s.plumbing = len(unit.Commands) == 0
	echo, err := s.turner.Turn(unit, pos, s.emitted)
	var foreign *stream.ForeignMarkError
	if errors.As(err, &foreign) {
		return fmt.Errorf("%w. %s", err, s.cfg.anew())
	}
	if !echo || err != nil {
		return err
	}
	s.cfg.Metrics.echoes.Inc()
	if s.cfg.Ledger != nil && s.cfg.Ledger.Requested() {
		return &SnapshotWantedError{Link: s.cfg.Link, Site: s.cfg.Site}
	}
	return nil
}

// emit appends one group of a unit's events, or moves the position.
func (s *Source) emit(events []schema.Event, at offsets.Position) error {
	if len(events) == 0 {
		s.lane.move(at, s.plumbing)
		return nil
	}
	s.captured += len(events)
	return s.lane.append(events, at)
}

// skipSnapshot reads a snapshot to its end and drops it.
func (s *Source) skipSnapshot(ctx context.Context, conn *replica.Conn, pos offsets.Position) (offsets.Position, error) {
	err := s.readSnapshot(ctx, conn, func(e *rdb.Entry) error {
		return s.noteSnapshotEntry(e, &pos)
	})
	return pos, err
}
