package precheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"twinlog/internal/redis"
	"twinlog/offsets"
)

// precheckKey is what the write probe sets and removes. It is reserved, so no
// source publishes it, and it is no mark: marks end in a lane.
func precheckKey(link string) string { return offsets.Reserved + link + ":precheck" }

// psync asks whether the user may join as a replica.
func (s *site) psync(ctx context.Context) error {
	_, err := s.do(ctx, "REPLCONF", "capa", "psync2") // tells the server something and changes nothing
	if err == nil {
		err = s.mayPsync(ctx)
	}
	switch {
	case err == nil:
		s.ok("redis-psync", "the user may join as a replica")
	case code(err) == "":
		return s.unknown("redis-psync", "the right to PSYNC", err)
	case missing(err):
		s.error("redis-psync", "the server does not offer replication: "+err.Error(),
			"Twinlog reads changes as a replica does: managed services that switch PSYNC off cannot be an origin; undo rename-command")
	default:
		s.error("redis-psync", "the user may not join as a replica: "+err.Error(), "ACL SETUSER <user> +psync +replconf +ping")
	}
	return nil
}

// mayPsync asks the server's own judgement where the user may ask for it.
// Elsewhere it provokes an error that only a user with the right gets: a
// server refuses PSYNC while the reply to an earlier command waits to be sent.
func (s *site) mayPsync(ctx context.Context) error {
	if v, err := parseVersion(s.info); err == nil && v.like >= 700 {
		if who, err := s.do(ctx, "ACL", "WHOAMI"); err == nil {
			user := string(who.Str)
			answer, err := s.do(ctx, "ACL", "DRYRUN", user, "PSYNC", "?", "-1")
			if err == nil && string(answer.Str) == "OK" {
				return nil
			}
			if err == nil {
				return &redis.ServerError{Code: "NOPERM", Text: string(answer.Str)}
			}
		}
	}
	conn, err := redis.Dial(ctx, s.redis) // of its own: it is of no use afterwards
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.Command("PING")
	conn.Command("PSYNC", "?", "-1")
	if err := conn.Flush(ctx); err != nil {
		return err
	}
	if _, err := conn.Receive(ctx); err != nil {
		return err
	}
	reply, err := conn.Receive(ctx)
	if err != nil {
		return err
	}
	err = reply.Err()
	if err != nil && strings.Contains(err.Error(), "pending output") {
		return nil
	}
	return err
}

// write sets and removes a reserved key in one transaction.
func (s *site) write(ctx context.Context) error {
	refusals, err := s.pipeline(ctx, [][]string{{"MULTI"}, {"SET", s.key(), "precheck"}, {"DEL", s.key()}, {"EXEC"}})
	if err != nil {
		return err
	}
	refusal := errors.Join(refusals[:3]...)
	if refusal == nil {
		refusal = refusals[3]
	}
	switch {
	case refusal == nil:
		s.ok("redis-write", "the user may write Twinlog's own keys ("+offsets.Reserved+"*)")
	case later(refusal):
		s.warning("redis-write", "writing is refused for now: "+refusal.Error(), "Twinlog waits until this has ended: free memory, mend the disk or bring the replicas back")
	case s.target || s.attaches():
		s.error("redis-write", "Twinlog's own keys cannot be written: "+refusal.Error(), "ACL SETUSER <user> ~"+offsets.Reserved+"* +set +get +del +multi +exec")
	default:
		s.warning("redis-write", "Twinlog's own keys cannot be written: "+refusal.Error(),
			"copying and following work, barriers do not: ACL SETUSER <user> ~"+offsets.Reserved+"* +set +get +del +multi +exec")
	}
	return nil
}

// attaches tells whether a source begins here behind a barrier, or reads values
// at barriers.
func (s *site) attaches() bool {
	for _, d := range s.cfg.Directions {
		if d.From == s.name && (!d.copies() || d.Scope.Partial()) {
			return true
		}
	}
	return false
}

// twoWay tells whether changes go both ways between here and another site.
func (s *site) twoWay() bool {
	for _, d := range s.cfg.Directions {
		for _, o := range s.cfg.Directions {
			if d.From == s.name && o.To == s.name && o.From == d.To {
				return true
			}
		}
	}
	return false
}

// scoped tells whether not everything here is carried.
func (s *site) scoped() bool {
	return slices.ContainsFunc(s.cfg.Directions, func(d Direction) bool {
		return (d.From == s.name || d.To == s.name) && d.Scope.Partial()
	})
}

// commands tries what sources and sinks send. Data commands are queued in a
// transaction that is discarded: the server judges rights and names when it
// queues, so nothing is executed.
func (s *site) commands(ctx context.Context) error {
	var denied, unknown []string
	var waits error
	judge := func(name string, err error) {
		switch {
		case err == nil:
		case missing(err):
			unknown = append(unknown, name)
		case later(err):
			waits = err
		default:
			denied = append(denied, name)
		}
	}
	judge("PING", s.pingErr)
	judge("INFO", s.infoErr)
	asked := 2
	names, refusals, err := s.queueAll(ctx)
	if err != nil {
		return err
	}
	for i, name := range names {
		judge(name, refusals[i])
	}
	asked += len(names)
	var foreign error
	if s.target && len(denied) == 0 {
		if foreign, err = s.foreignKey(ctx); err != nil {
			return err
		}
	}
	switch {
	case len(denied) > 0:
		s.error("redis-commands", "the user may not run "+strings.Join(denied, ", "), "ACL SETUSER <user> "+grant(denied)+" (and &* if PUBLISH is among them)")
	case len(unknown) > 0:
		s.error("redis-commands", "the server does not have "+strings.Join(unknown, ", "), "undo rename-command for them, or a direction stops at the first event that needs one")
	case waits != nil:
		s.warning("redis-commands", "some commands are refused for now: "+waits.Error(), "Twinlog waits until this has ended")
	case foreign != nil:
		s.warning("redis-commands", "the user may write only keys of some patterns: "+foreign.Error(), "allow every key that the origin may write: ACL SETUSER <user> ~*")
	default:
		s.ok("redis-commands", fmt.Sprintf("the user may run all %d commands asked for", asked))
	}
	return nil
}

func grant(commands []string) string {
	words := make([]string, len(commands))
	for i, c := range commands {
		words[i] = "+" + strings.ToLower(c)
	}
	return strings.Join(words, " ")
}

// wanted are the commands that are sent here.
func (s *site) wanted() []sent {
	both := s.twoWay() || s.scoped()
	switch {
	case s.target && both:
		return slices.Concat(dataCommands, sizeCommands, valueCommands, twoWayCommands)
	case s.target:
		return slices.Concat(dataCommands, sizeCommands)
	case both: // the origin of a scope
		return slices.Concat(sizeCommands, valueCommands)
	}
	return nil
}

// queueAll returns the names of the commands that this version of the server
// should have, and how each was refused.
func (s *site) queueAll(ctx context.Context) (queued []string, refusals []error, err error) {
	all := s.wanted()
	if len(all) == 0 {
		return nil, nil, nil
	}
	v, versionErr := parseVersion(s.info)
	key := s.key()
	pipeline := [][]string{{"SELECT", "0"}, {"WATCH", key}, {"UNWATCH"}, {"MULTI"}}
	for _, c := range all {
		if versionErr == nil && c.since > v.like {
			continue
		}
		for line := range strings.SplitSeq(c.lines, ", ") {
			pipeline = append(pipeline, strings.Fields(strings.ReplaceAll(line, "KEY", key)))
		}
	}
	pipeline = append(pipeline, []string{"DISCARD"})
	for _, args := range pipeline {
		queued = append(queued, args[0])
	}
	refusals, err = s.pipeline(ctx, pipeline)
	return queued, refusals, err
}

// foreignKey asks whether a key outside of Twinlog's own may be written.
func (s *site) foreignKey(ctx context.Context) (refusal, err error) {
	refusals, err := s.pipeline(ctx, [][]string{{"MULTI"}, {"SET", "twinlog.precheck", "never written"}, {"DISCARD"}})
	if err != nil || code(refusals[1]) != "NOPERM" {
		return nil, err
	}
	return refusals[1], nil
}

// pipeline sends commands at once and returns how each was refused.
func (s *site) pipeline(ctx context.Context, commands [][]string) ([]error, error) {
	for _, args := range commands {
		s.conn.Command(args...)
	}
	if err := s.conn.Flush(ctx); err != nil {
		return nil, err
	}
	refusals := make([]error, len(commands))
	for i := range commands {
		reply, err := s.conn.Receive(ctx)
		if err != nil {
			return nil, err
		}
		refusals[i] = reply.Err()
		for j := range reply.Elems { // of EXEC
			refusals[i] = errors.Join(refusals[i], reply.Elems[j].Err())
		}
	}
	return refusals, nil
}

// sent are commands, by the release (100 × major + minor) that brought them.
type sent struct {
	since int
	lines string
}

// valueCommands read the value of a key: of those in conflict on a two-way
// link, and of those whose value comes into a scope.
var valueCommands = []sent{
	{0, "EXISTS KEY, DUMP KEY, MEMORY USAGE KEY, TYPE KEY, GETRANGE KEY 0 1, LRANGE KEY 0 1, ZRANGE KEY 0 1, HSCAN KEY 0, SSCAN KEY 0"},
	{700, "PEXPIRETIME KEY"},
}

// sizeCommands are what those who write and those who read values need.
var sizeCommands = []sent{{0, "STRLEN KEY, LLEN KEY, HLEN KEY, SCARD KEY, ZCARD KEY"}}

// twoWayCommands are what a sink needs besides, to decide about removals on a
// two-way link and to flush what is in a scope.
var twoWayCommands = []sent{{0, "SCAN 0"}}

// dataCommands are the commands that a sink sends.
var dataCommands = []sent{
	{0, "GET KEY, SET KEY v, DEL KEY, UNLINK KEY, PEXPIREAT KEY 1, PERSIST KEY, RENAME KEY KEY, MOVE KEY 1, RESTORE KEY 0 v, EVAL return 0"},
	{0, "APPEND KEY v, INCR KEY, INCRBY KEY 1, DECR KEY, DECRBY KEY 1, SETRANGE KEY 0 v, SETBIT KEY 0 1, BITOP NOT KEY KEY, BITFIELD KEY SET u8 0 1, MSETNX KEY v"},
	{0, "LPUSH KEY v, RPUSH KEY v, LPOP KEY, RPOP KEY, LINSERT KEY BEFORE v v, LREM KEY 0 v, LSET KEY 0 v, LTRIM KEY 0 1, RPOPLPUSH KEY KEY"},
	{0, "SADD KEY v, SREM KEY v, SMOVE KEY KEY v, SINTERSTORE KEY KEY, SUNIONSTORE KEY KEY, SDIFFSTORE KEY KEY"},
	{0, "HSET KEY f v, HMSET KEY f v, HDEL KEY f, HINCRBY KEY f 1, HINCRBYFLOAT KEY f 1"},
	{0, "ZADD KEY 1 v, ZREM KEY v, ZINCRBY KEY 1 v, ZPOPMIN KEY, ZPOPMAX KEY, ZUNIONSTORE KEY 1 KEY, ZINTERSTORE KEY 1 KEY"},
	{0, "ZREMRANGEBYRANK KEY 0 1, ZREMRANGEBYSCORE KEY 0 1, ZREMRANGEBYLEX KEY - +, GEOADD KEY 1 1 v, SORT KEY STORE KEY, PFADD KEY v, PFMERGE KEY KEY"},
	{0, "XADD KEY 1-1 f v, XDEL KEY 1-1, XTRIM KEY MAXLEN 1, XSETID KEY 1-1, XGROUP CREATE KEY g 0, XACK KEY g 1-1, XCLAIM KEY g c 0 1-1"},
	{0, "XLEN KEY"},
	{0, "PUBLISH KEY v, FLUSHDB, FLUSHALL, SWAPDB 0 1"},
	{602, "COPY KEY KEY, LMOVE KEY KEY LEFT LEFT, ZDIFFSTORE KEY 1 KEY, ZRANGESTORE KEY KEY 0 1, GEOSEARCHSTORE KEY KEY FROMLONLAT 1 1 BYRADIUS 1 m"},
	{700, "FUNCTION FLUSH"},
}
