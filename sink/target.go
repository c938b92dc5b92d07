package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// target is one connection to the Redis that is written. Between batches the
// mark is WATCHed and its value known, so that no EXEC can take effect on a
// Redis that is not where the sink believes (apply-rules 3).
type target struct {
	cfg  *Config
	conn *redis.Conn
	hook func(point string)

	markKey string
	expect  string // what GET of the mark answered last; empty: missing
	out     []byte

	runID, replid string
	replOffset    int64
	v7            bool
	expiresFields bool // see translator
	hsetex        bool
	largest       int // bytes that one group may have
}

// inspect reads what the sink must know of the server. A server that refuses
// INFO or CONFIG (managed ones do) is taken at its defaults.
func (t *target) inspect(ctx context.Context) error {
	info, err := redis.Info(ctx, t.conn, "server", "replication")
	if err != nil {
		return fmt.Errorf("target %s: %w", t.cfg.Target, err)
	}
	if role := info["role"]; role != "" && role != "master" {
		return &waitError{text: fmt.Sprintf("target %s is a replica (role %s): waiting until it is a master, or until addrs names the master", t.cfg.Target, role)}
	}
	t.runID, t.replid = info["run_id"], info["master_replid"]
	t.v7 = atLeast(info["redis_version"], 7, 0)
	t.expiresFields = atLeast(info["redis_version"], 7, 4)
	t.hsetex = atLeast(info["redis_version"], 8, 0)
	if valkey := info["valkey_version"]; valkey != "" {
		t.expiresFields = atLeast(valkey, 9, 0)
		t.hsetex = t.expiresFields
	}
	t.largest = min(t.limit(ctx, "client-query-buffer-limit", 1<<30), t.limit(ctx, "client-output-buffer-limit", 256<<20)) / 2
	return nil
}

// atLeast tells whether a version, such as 7.4.1, is not older than a release;
// also where it is not told.
func atLeast(version string, major, minor int) bool {
	words := strings.SplitN(version, ".", 3)
	if len(words) < 2 {
		return true
	}
	first, err1 := strconv.Atoi(words[0])
	second, err2 := strconv.Atoi(words[1])
	return err1 != nil || err2 != nil || first > major || first == major && second >= minor
}

// fence reads how long the replication stream is. It comes after WATCH: a
// mark that is written later makes the next EXEC fail, and one that was
// written before lies below the fence.
func (t *target) fence(ctx context.Context) error {
	info, err := redis.Info(ctx, t.conn, "replication")
	if err != nil {
		return fmt.Errorf("target %s: %w", t.cfg.Target, err)
	}
	return t.noteFence(info)
}

func (t *target) noteFence(info map[string]string) (err error) {
	t.replid = info["master_replid"]
	if t.replOffset, err = strconv.ParseInt(info["master_repl_offset"], 10, 64); err != nil {
		return fmt.Errorf("target %s: INFO has no master_repl_offset: %w", t.cfg.Target, err)
	}
	return nil
}

// limit reads one of the server's buffer limits, in bytes.
func (t *target) limit(ctx context.Context, name string, standard int) int {
	reply, err := t.conn.Do(ctx, "CONFIG", "GET", name)
	if err != nil || reply.Err() != nil || len(reply.Elems) != 2 {
		return standard
	}
	words := strings.Fields(string(reply.Elems[1].Str))
	for i, w := range words {
		if len(words) > 1 && (i == 0 || words[i-1] != "slave" && words[i-1] != "replica") {
			continue
		}
		if n, err := strconv.Atoi(w); err == nil && n > 0 {
			return n
		}
	}
	return standard
}

// readMark watches the mark and reads it.
func (t *target) readMark(ctx context.Context) (offsets.Mark, bool, error) {
	for _, cmd := range [][]string{{"SELECT", "0"}, {"WATCH", t.markKey}} {
		if err := t.simple(ctx, cmd...); err != nil {
			return offsets.Mark{}, false, err
		}
	}
	reply, err := t.do(ctx, "GET", t.markKey)
	if err != nil {
		return offsets.Mark{}, false, err
	}
	t.expect = string(reply.Str)
	if reply.Null {
		return offsets.Mark{}, false, nil
	}
	mark, err := offsets.ParseMark(t.expect)
	if err != nil {
		return mark, false, fmt.Errorf("target %s, key %s: %w", t.cfg.Target, t.markKey, err)
	}
	return mark, true, nil
}

func (t *target) do(ctx context.Context, args ...string) (redis.Reply, error) {
	reply, err := t.conn.Do(ctx, args...)
	if err != nil {
		return reply, &cutError{fmt.Errorf("target %s: %s: %w", t.cfg.Target, args[0], err)}
	}
	if err := reply.Err(); err != nil {
		return reply, t.refused(args[0], err)
	}
	return reply, nil
}

func (t *target) simple(ctx context.Context, args ...string) error {
	_, err := t.do(ctx, args...)
	return err
}

// apply sends one batch: the mark first, its commands, the mark again if it
// may be gone by then, and behind EXEC the WATCH and GET of the mark for the
// next batch. It returns when the batch has taken effect.
func (t *target) apply(ctx context.Context, b *batch, mark offsets.Mark) error {
	text := mark.String()
	t.out = appendCommand(t.out[:0], "MULTI")
	t.out = appendCommand(t.out, "SET", t.markKey, text)
	t.beginNote(b)
	queued := 1 + b.ahead + len(b.items)
	t.conn.Raw(t.out)
	t.conn.Raw(b.body)
	t.out = t.out[:0]
	if b.ahead > 0 {
		t.endNote(b)
		queued++
	}
	if b.wipes {
		t.out = appendCommand(t.out, "SELECT", "0")
		t.out = appendCommand(t.out, "SET", t.markKey, text)
		queued += 2
	}
	t.out = appendCommand(t.out, "EXEC")
	t.out = appendCommand(t.out, "SELECT", "0")
	t.out = appendCommand(t.out, "WATCH", t.markKey)
	t.out = appendCommand(t.out, "GET", t.markKey)
	t.conn.Raw(t.out)
	if err := t.conn.Flush(ctx); err != nil {
		return &cutError{fmt.Errorf("target %s: sending %d commands: %w", t.cfg.Target, queued, err)}
	}
	if t.hook != nil {
		t.hook("exec-sent")
	}
	return t.judge(ctx, b, queued, text)
}

// judge reads every reply of a batch.
func (t *target) judge(ctx context.Context, b *batch, queued int, text string) error {
	var refusal error
	for i := range 1 + queued { // MULTI and what it queued
		reply, err := t.receive(ctx)
		if err != nil {
			return err
		}
		if err := reply.Err(); err != nil {
			refusal = t.refusedToo(refusal, b.item(i-2-b.ahead), err)
		}
	}
	var data *DataError
	var first, last int64 // what a batch that adds to a temporary key is told
	exec, err := t.conn.ReceiveEach(ctx, func(i int, reply *redis.Reply) {
		data = t.noteError(data, b.item(i-1-b.ahead), b, reply)
		switch i {
		case b.firstLength():
			first = reply.Int
		case queued - 1:
			last = reply.Int
		}
	})
	if err != nil {
		return t.cut(err)
	}
	execErr, missing := exec.Err(), exec.Null
	var lost error
	if b.adds != nil && execErr == nil && data == nil && !missing {
		lost = b.checkLength(first, last)
	}
	for range 2 { // SELECT, WATCH
		reply, err := t.receive(ctx)
		if err != nil {
			return err
		}
		if err := reply.Err(); err != nil && refusal == nil && execErr == nil {
			refusal = t.refused("WATCH", err)
		}
	}
	reply, err := t.receive(ctx)
	if err != nil {
		return err
	}
	switch {
	case refusal != nil:
		return refusal
	case execErr != nil:
		return t.refused("EXEC", execErr)
	case missing && len(b.decisions)+len(b.temps) > 0 && string(reply.Str) == t.expect:
		return errTouched
	case missing:
		return errMarkMoved
	}
	if err := t.took(string(reply.Str), text, data); err != nil {
		return err
	}
	return lost
}

// took is what came of a block that has taken effect: the mark is there, and
// data says which commands failed, nil for none.
func (t *target) took(mark, want string, data *DataError) error {
	t.expect = mark
	switch {
	case data != nil:
		data.markMoved = mark != want
		return data
	case mark != want:
		return errMarkMoved
	}
	return nil
}

func (t *target) receive(ctx context.Context) (redis.Reply, error) {
	reply, err := t.conn.Receive(ctx)
	if err != nil {
		return reply, t.cut(err)
	}
	return reply, nil
}

func (t *target) cut(err error) error {
	return &cutError{fmt.Errorf("target %s: the connection was cut while a batch was in flight: %w", t.cfg.Target, err)}
}

// item returns the event behind queued command i, nil for the sink's own.
func (b *batch) item(i int) *item {
	if i < 0 || i >= len(b.items) {
		return nil
	}
	return &b.items[i]
}

// noteError adds to what EXEC did not do, if a reply says so. It cannot be
// undone: the rest of the block has taken effect.
func (t *target) noteError(sum *DataError, it *item, b *batch, reply *redis.Reply) *DataError {
	err := reply.Err()
	if err == nil {
		return sum
	}
	if sum == nil {
		sum = &DataError{Target: t.cfg.Target, Topic: t.cfg.Topic, Reply: err.Error()}
		if it != nil {
			sum.Seq, sum.Offset, sum.DB, sum.Command, sum.Key = it.seq, it.offset, it.db, it.command, shown(it.key)
		}
	}
	sum.Count++
	if it == nil || b.prints == nil || !it.mayFail(err) {
		sum.Fatal = true
		if it != nil {
			sum.fatal = append(sum.fatal, failure{*it, err.Error()})
		}
		return sum
	}
	sum.failed = append(sum.failed, failure{*it, err.Error()})
	return sum
}

// refusedToo adds the refusal of one more command to what was refused before.
func (t *target) refusedToo(before error, it *item, err error) error {
	this := t.refusedItem(it, err)
	var first, next *RefusedError
	if !errors.As(before, &first) {
		if before == nil {
			return this
		}
		return before
	}
	if !errors.As(this, &next) {
		return this // a state of the target, which tells more
	}
	first.items = append(first.items, next.items...)
	return first
}

// mayFail tells whether an error of the command is a conflict, on a two-way
// link: the key differs. Anything else about a site is not settled by a value.
func (it *item) mayFail(err error) bool {
	switch it.op {
	case schema.OpWrite, schema.OpDelete:
		return true
	case schema.OpFunction:
		return strings.Contains(err.Error(), "Library not found") // deleted at both sites
	case schema.OpValue, schema.OpTruncate, schema.OpMessage, schema.OpControl:
	}
	return false
}

// errTouched tells that a watched key was written before EXEC.
var errTouched = errors.New("a key of the batch was written meanwhile")

var errMarkMoved = errors.New("the mark at the target is not what this sink wrote (flushed, evicted, or an older state came back)")
