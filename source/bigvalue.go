package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/rdb"
)

// A value that DUMP would block its server for, or that memory should not
// hold, is read in parts while the capture waits at the barrier. The key is
// watched from before the barrier until the last part was read: if nobody
// wrote it, the parts are what it held at the barrier. If somebody did, the
// parts so far are void and it begins again, at another barrier.

const (
	// bigValue is the size from which on a value is read in parts.
	bigValue = int64(64 << 20)
	// bigTries is how often it begins in parts before it is read at once.
	bigTries = 3
	// inMemory is how many times larger than its DUMP a value may be in memory.
	inMemory = 8
	// bigElements is how many elements one command reads, at most.
	bigElements = 10_000
)

// bigRead is a value that is handed to the capture part by part.
type bigRead struct {
	met     chan struct{} // closed when the capture waits at the barrier
	missed  chan struct{} // closed when it will not come there
	events  chan *schema.Event
	taken   chan struct{} // one for each event: its memory may be used again
	refresh bool          // unless the key is dirty
}

var (
	errWritten = errors.New("the key was written while its value was read in parts")
	errUnmet   = errors.New("the replication link was cut before the barrier was met")
)

// readBig reads one value in parts, or at one barrier where that cannot be.
func (v *values) readBig(ctx context.Context, k offsets.DirtyKey, demand *offsets.OnDemand) error {
	log := v.source.cfg.Log
	for try := 1; try <= bigTries; try++ {
		started := time.Now()
		known, err := v.inParts(ctx, k, demand != nil && !demand.Changes)
		switch {
		case err == nil && known:
			log.Info("read a big value in parts", "site", v.source.cfg.Site, "db", k.DB, "key", shown(k.Name), "seconds", time.Since(started).Seconds())
			return nil
		case errors.Is(err, errUnmet) && !notNow(err):
			v.again([]offsets.DirtyKey{k})
			return nil
		case err != nil && !errors.Is(err, errWritten):
			return err
		case err == nil: // a stream or a module's type
			try = bigTries
		}
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, barrierWait)
	defer cancel()
	replies, err := v.all(ctx, []string{"SELECT", strconv.Itoa(int(k.DB))}, []string{"MEMORY", "USAGE", string(k.Name)})
	if err != nil {
		return err
	}
	if size := replies[1].Int; size > inMemory*v.source.cfg.MaxTransactionBytes {
		return v.tooBig(k, int(size))
	}
	if err := v.readAtOnce(ctx, []offsets.DirtyKey{k}, demand); err != nil {
		return err
	}
	log.Warn("read a big value at once, which blocked its server meanwhile", "site", v.source.cfg.Site, "db", k.DB, "key", shown(k.Name), "seconds", time.Since(started).Seconds())
	return nil
}

// inParts hands the value of k to the capture; known is false if its type
// cannot be read in parts.
func (v *values) inParts(ctx context.Context, k offsets.DirtyKey, refresh bool) (known bool, err error) {
	name := string(k.Name)
	// EXISTS first: it removes what has expired, which WATCH does not notice.
	replies, err := v.all(ctx, []string{"SELECT", strconv.Itoa(int(k.DB))}, []string{"EXISTS", name}, []string{"WATCH", name}, []string{"TYPE", name}, []string{"PEXPIRETIME", name})
	if err != nil {
		return false, err
	}
	event := schema.Event{Op: schema.OpValue, DB: k.DB, Key: k.Name}
	if at := replies[4].Int; at > 0 {
		event.ExpireAt = schema.OptInt64{Set: true, Int64: at}
	}
	read := readers[string(replies[3].Str)]
	if read == nil {
		_, err := v.all(ctx, []string{"UNWATCH"})
		return false, err
	}
	entry := &rdb.Entry{Kind: rdb.Value, DB: k.DB, Key: k.Name, Type: string(replies[3].Str)}
	big := &bigRead{met: make(chan struct{}), missed: make(chan struct{}), events: make(chan *schema.Event), taken: make(chan struct{}), refresh: refresh}
	defer close(big.events) // a capture that comes to the barrier later gets nothing
	if err := v.dropBarrier(ctx, k, big); err != nil {
		return true, err
	}
	timer := time.NewTimer(v.unmet)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-timer.C:
		v.forgetOverdue(time.Now())
		v.disconnect()
		return true, errUnmet
	case <-big.missed:
		_, err := v.all(ctx, []string{"UNWATCH"})
		return true, errors.Join(err, errUnmet)
	case <-big.met:
	}
	v.source.hook("big-value-begun")
	value := parts{}
	err = read(ctx, v, entry, func() error {
		return value.each(&v.source.cfg, &event, entry, func() error {
			event.Source = schema.Source{Snapshot: "incremental"}
			if event.Part.Last {
				event.Value = event.Value.Clone() // the next reply takes its memory
				if err := v.unwritten(ctx); err != nil {
					return err
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case big.events <- &event:
			}
			<-big.taken
			return nil
		})
	})
	var server *redis.ServerError
	if errors.As(err, &server) { // of another type by now
		return true, errors.Join(v.unwritten(ctx), err)
	}
	return true, err
}

// dropBarrier writes a barrier at which the capture waits for the value.
func (v *values) dropBarrier(ctx context.Context, k offsets.DirtyKey, big *bigRead) error {
	id := v.nextBarrier()
	v.mu.Lock()
	v.reading[id] = &barrierRead{begun: time.Now(), keys: []offsets.DirtyKey{k}, big: big}
	v.mu.Unlock()
	_, err := v.all(ctx, []string{"SELECT", "0"}, []string{"SET", offsets.BarrierKey(v.source.cfg.Link), id}, []string{"SELECT", strconv.Itoa(int(k.DB))})
	if err != nil { // it may be in the stream all the same
		v.mu.Lock()
		delete(v.reading, id)
		v.mu.Unlock()
	}
	return err
}

// unwritten tells whether what is watched is as it was.
func (v *values) unwritten(ctx context.Context) error {
	v.source.hook("big-value-read")
	replies, err := v.all(ctx, []string{"MULTI"}, []string{"EXEC"})
	if err == nil && replies[1].Null {
		return errWritten
	}
	return err
}

// all sends commands and returns their replies; strings in them are copies.
func (v *values) all(ctx context.Context, commands ...[]string) ([]redis.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, barrierWait)
	defer cancel()
	for _, c := range commands {
		v.conn.Command(c...)
	}
	if err := v.conn.Flush(ctx); err != nil {
		return nil, err
	}
	replies := make([]redis.Reply, len(commands))
	var refused error
	for i := range commands {
		reply, err := v.conn.Receive(ctx)
		if err != nil {
			return nil, err
		}
		if err := reply.Err(); err != nil && refused == nil {
			refused = fmt.Errorf("site %s answers %s: %w", v.source.cfg.Site, commands[i][0], err)
		}
		reply.Str = append([]byte(nil), reply.Str...)
		replies[i] = reply
	}
	return replies, refused
}

// bigAt publishes the parts of a value as they are read.
func (v *values) bigAt(ctx context.Context, big *bigRead, publish func([]schema.Event) error) error {
	v.source.hook("barrier-met")
	close(big.met)
	one, kind := make([]schema.Event, 1), "incremental"
	var failed error
	for e := range big.events {
		if failed == nil {
			failed = v.source.lane.waitForRoom(ctx)
		}
		if failed == nil {
			one[0] = *e
			if big.refresh && e.Part.Index == 0 {
				v.refreshes(one)
				kind = one[0].Source.Snapshot
			}
			one[0].Source.Snapshot = kind
			failed = publish(one)
		}
		big.taken <- struct{}{}
	}
	return failed
}

// A reader sets the value of entry to one piece after the other, and to its
// last one with entry.Last.
type reader func(ctx context.Context, v *values, entry *rdb.Entry, piece func() error) error

var readers = map[string]reader{"string": readString, "list": readList, "zset": readZSet, "set": readScanned("SSCAN"), "hash": readScanned("HSCAN")}

// readString reads a string in ranges.
func readString(ctx context.Context, v *values, entry *rdb.Entry, piece func() error) error {
	size, err := v.count(ctx, "STRLEN", entry)
	if err != nil {
		return err
	}
	step := int64(v.source.cfg.chunkBytes())
	for from := int64(0); ; from += step {
		reply, err := v.ask1(ctx, "GETRANGE", string(entry.Key), strconv.FormatInt(from, 10), strconv.FormatInt(from+step-1, 10))
		if err != nil {
			return err
		}
		entry.Value, entry.Last = schema.Value{Kind: schema.KindString, Data: reply.Str}, from+step >= size
		if err := piece(); err != nil || entry.Last {
			return err
		}
	}
}

func readList(ctx context.Context, v *values, entry *rdb.Entry, piece func() error) error {
	return v.ranges(ctx, entry, "LLEN", []string{"LRANGE"}, func(elems []redis.Reply) error {
		entry.Value = schema.Value{Kind: schema.KindList}
		for i := range elems {
			entry.Value.Elements = append(entry.Value.Elements, elems[i].Str)
		}
		return piece()
	})
}

func readZSet(ctx context.Context, v *values, entry *rdb.Entry, piece func() error) error {
	return v.ranges(ctx, entry, "ZCARD", []string{"ZRANGE", "WITHSCORES"}, func(elems []redis.Reply) error {
		entry.Value = schema.Value{Kind: schema.KindZSet}
		for i := 0; i+1 < len(elems); i += 2 {
			score, err := strconv.ParseFloat(string(elems[i+1].Str), 64)
			if err != nil {
				return fmt.Errorf("site %s: the score %q of a member of key %q: %w", v.source.cfg.Site, elems[i+1].Str, shown(entry.Key), err)
			}
			entry.Value.ZSet = append(entry.Value.ZSet, schema.ZSetMember{Member: elems[i].Str, Score: score})
		}
		return piece()
	})
}

// ranges reads elements by their place.
func (v *values) ranges(ctx context.Context, entry *rdb.Entry, count string, command []string, each func([]redis.Reply) error) error {
	n, err := v.count(ctx, count, entry)
	if err != nil {
		return err
	}
	step, err := v.step(ctx, entry, n)
	if err != nil {
		return err
	}
	for from := int64(0); ; from += step {
		reply, err := v.ask1(ctx, append([]string{command[0], string(entry.Key), strconv.FormatInt(from, 10), strconv.FormatInt(from+step-1, 10)}, command[1:]...)...)
		if err != nil {
			return err
		}
		entry.Last = from+step >= n
		if err := each(reply.Elems); err != nil || entry.Last {
			return err
		}
	}
}

// readScanned reads a hash or a set with a cursor. A key that nobody writes
// may tell an element twice, and misses none.
func readScanned(scan string) reader {
	return func(ctx context.Context, v *values, entry *rdb.Entry, piece func() error) error {
		count := "SCARD"
		if scan == "HSCAN" {
			count = "HLEN"
		}
		n, err := v.count(ctx, count, entry)
		if err != nil {
			return err
		}
		step, err := v.step(ctx, entry, n)
		if err != nil {
			return err
		}
		for cursor := "0"; ; {
			reply, err := v.ask1(ctx, scan, string(entry.Key), cursor, "COUNT", strconv.FormatInt(step, 10))
			if err != nil {
				return err
			}
			if len(reply.Elems) != 2 {
				return fmt.Errorf("site %s answers %s with %d elements", v.source.cfg.Site, scan, len(reply.Elems))
			}
			cursor = string(reply.Elems[0].Str)
			entry.Last = cursor == "0"
			elems := reply.Elems[1].Elems
			if scan == "SSCAN" {
				entry.Value = schema.Value{Kind: schema.KindSet}
				for i := range elems {
					entry.Value.Elements = append(entry.Value.Elements, elems[i].Str)
				}
			} else if err := v.fields(ctx, entry, elems); err != nil {
				return err
			}
			if err := piece(); err != nil || entry.Last {
				return err
			}
		}
	}
}

// fields makes entry's value of what HSCAN told, with the expiries of fields
// where the server knows any.
func (v *values) fields(ctx context.Context, entry *rdb.Entry, elems []redis.Reply) error {
	entry.Value = schema.Value{Kind: schema.KindHash}
	h := &entry.Value.Hash
	ask := []string{"HPEXPIRETIME", string(entry.Key), "FIELDS", strconv.Itoa(len(elems) / 2)}
	for i := 0; i+1 < len(elems); i += 2 { // copies: the next reply takes their memory
		*h = append(*h, schema.HashEntry{Field: append([]byte(nil), elems[i].Str...), Value: append([]byte(nil), elems[i+1].Str...)})
		ask = append(ask, string(elems[i].Str))
	}
	if len(*h) == 0 || v.fieldsLast {
		return nil
	}
	reply, err := v.ask1(ctx, ask...)
	if err != nil {
		v.fieldsLast = strings.Contains(err.Error(), "unknown command")
		if v.fieldsLast {
			return nil
		}
		return err
	}
	for i := range min(len(*h), len(reply.Elems)) {
		if at := reply.Elems[i].Int; at > 0 {
			(*h)[i].ExpireAt = schema.OptInt64{Set: true, Int64: at}
		}
	}
	return nil
}

func (v *values) count(ctx context.Context, command string, entry *rdb.Entry) (int64, error) {
	reply, err := v.ask1(ctx, command, string(entry.Key))
	return reply.Int, err
}

// step is how many of n elements are read at a time: about what one event
// takes.
func (v *values) step(ctx context.Context, entry *rdb.Entry, n int64) (int64, error) {
	reply, err := v.ask1(ctx, "MEMORY", "USAGE", string(entry.Key))
	if err != nil || reply.Int == 0 {
		return 1, err
	}
	return min(max(n*int64(v.source.cfg.chunkBytes())/reply.Int, 1), bigElements), nil
}

// ask1 sends one command. The reply is valid until the next one.
func (v *values) ask1(ctx context.Context, args ...string) (redis.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, barrierWait)
	defer cancel()
	reply, err := v.conn.Do(ctx, args...)
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		err = fmt.Errorf("reading the value of key %q at site %s: %w", shown([]byte(args[min(1, len(args)-1)])), v.source.cfg.Site, err)
	}
	return reply, err
}
