package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// reseed empties the site, as far as it is in scope, and follows it from there. One transaction flushes
// it, writes a mark (the peer's events up to now are not applied again), and a
// barrier, behind which the source begins: what clients write later is
// published. The peer is asked for its values with the first event, so that
// whoever is killed now, they come (rule W of convergence.md).
func (s *Source) reseed(ctx context.Context, pos offsets.Position) error {
	h, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	if s.flushes(0) {
		if err := s.refuseOtherLinks(ctx); err != nil {
			return err
		}
	}
	peer := s.newLog(s.cfg.PeerTopic)
	defer peer.close()
	if err := peer.look(ctx, 0); err != nil {
		return err
	}
	mark := offsets.Mark{Generation: max(h.mark.Generation, pos.Mark.Generation) + 1, TopicID: s.cfg.PeerTopicID, Seq: peer.end.seq, Offset: peer.end.offset}
	if mark.Seq == 0 {
		mark.Offset = -1
	}
	s.cfg.Log.Warn("re-seeding: the site is emptied and filled again by the other one", "site", s.cfg.Site, "seq", mark.Seq)
	begin := place{epoch: pos.Epoch + 1, with: append(s.emptying(),
		[]string{"SET", s.filter.MarkKey(), mark.String()},
		[]string{"SET", offsets.ReseedKey(s.cfg.Link), s.cfg.Instance},
		[]string{"SET", offsets.WitnessKey(s.cfg.Link), s.cfg.Site},
	)}
	begin.publish = func(at offsets.Position) error {
		at.Settled, at.UnfinishedSeq, at.Gap = at.Seen, pos.UnfinishedSeq, pos.Gap
		return s.beginAt(ctx, schema.Event{
			Op: schema.OpControl, DB: schema.NoDB, Command: schema.SnapshotRequest, Args: [][]byte{[]byte("1"), strconv.AppendInt(nil, pos.Seq, 10)},
		}, at)
	}
	err = s.attach(ctx, begin)
	if !errors.Is(err, ErrBegunAnew) {
		return err
	}
	return errors.Join(err, s.endReseed(ctx))
}

// flushes tells whether re-seeding takes all keys of a database.
func (s *Source) flushes(db int32) bool { return !s.cfg.Scope.Keyed() && s.cfg.Scope.HasDB(db) }

// emptying removes what is in scope, and the link's own keys in database 0.
func (s *Source) emptying() [][]string {
	scope := &s.cfg.Scope
	if scope.Databases == nil && !scope.Keyed() {
		return [][]string{{"FLUSHALL", "ASYNC"}}
	}
	var commands [][]string
	for _, db := range scope.Databases {
		if s.flushes(db) {
			commands = append(commands, []string{"SELECT", strconv.Itoa(int(db))}, []string{"FLUSHDB", "ASYNC"})
		}
	}
	commands = append(commands, []string{"SELECT", "0"}, []string{"EVAL", removeMatching, "0", "0", "1", offsets.Reserved + s.cfg.Link + ":*"})
	if !scope.Keyed() {
		return commands
	}
	include := scope.Include
	if len(include) == 0 {
		include = []string{"*"}
	}
	databases := make([]string, 0, len(scope.Databases)) // none: all
	for _, db := range scope.Databases {
		databases = append(databases, strconv.Itoa(int(db)))
	}
	exclude := append([]string{offsets.Reserved + "*"}, scope.Exclude...)
	return append(commands, slices.Concat([]string{"EVAL", removeMatching, "0", strings.Join(databases, " "), strconv.Itoa(len(include))}, include, exclude), []string{"SELECT", "0"})
}

// removeMatching removes the keys that match a pattern and none of those to be
// excluded. ARGV: the databases, apart by spaces, empty for all that hold
// something; how many patterns follow; these; those to be excluded. It walks
// through the databases at once, so that no write slips in between: the server
// waits for it about a second per million keys.
const removeMatching = `
local function each(pattern, visit)
  local cursor = '0'
  repeat
    local reply = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
    cursor = reply[1]
    for _, key in ipairs(reply[2]) do visit(key) end
  until cursor == '0'
end
local databases = {}
for db in string.gmatch(ARGV[1], '%d+') do table.insert(databases, db) end
if ARGV[1] == '' then
  for db in string.gmatch(redis.call('INFO', 'keyspace'), 'db(%d+):') do table.insert(databases, db) end
end
local removed, included = 0, tonumber(ARGV[2])
for _, db in ipairs(databases) do
  redis.call('SELECT', db)
  local excluded = {}
  for i = 3 + included, #ARGV do each(ARGV[i], function(key) excluded[key] = true end) end
  for i = 3, 2 + included do
    each(ARGV[i], function(key)
      if not excluded[key] then removed = removed + redis.call('UNLINK', key) end
    end)
  end
end
return removed`

// endReseed notes that the site is followed.
func (s *Source) endReseed(ctx context.Context) error {
	return s.ask(ctx, func(c *redis.Conn) error {
		reply, err := c.Do(ctx, "DEL", offsets.ReseedKey(s.cfg.Link))
		if err := errors.Join(err, reply.Err()); err != nil {
			return fmt.Errorf("ending the re-seeding of site %s: %w", s.cfg.Site, err)
		}
		return nil
	})
}

// refuseOtherLinks refuses to flush what other links go by.
func (s *Source) refuseOtherLinks(ctx context.Context) error {
	return s.ask(ctx, func(c *redis.Conn) error {
		for cursor := "0"; ; {
			reply, err := c.Do(ctx, "SCAN", cursor, "MATCH", offsets.Reserved+"*", "COUNT", "1000")
			if err := errors.Join(err, reply.Err()); err != nil {
				return fmt.Errorf("looking for other links at site %s: %w", s.cfg.Site, err)
			}
			if len(reply.Elems) != 2 {
				return fmt.Errorf("site %s answers SCAN with %d elements", s.cfg.Site, len(reply.Elems))
			}
			for _, key := range reply.Elems[1].Elems {
				if !strings.HasPrefix(string(key.Str), offsets.Reserved+s.cfg.Link+":") && string(key.Str) != offsets.Nothing {
					return &refusedError{fmt.Sprintf("site %s carries the mark %q of another link, which emptying it would lose: end that link and delete its keys there, then resync again", s.cfg.Site, key.Str)}
				}
			}
			if cursor = string(reply.Elems[0].Str); cursor == "0" {
				return nil
			}
		}
	})
}

// refusedError is final: someone must mend what it names.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }
