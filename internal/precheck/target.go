package precheck

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/offsets"
)

// lane is the only order of events of a standalone site.
const lane = "0"

// emptyTarget judges, for each direction that copies to this site, whether
// its first start would meet other data.
func (s *site) emptyTarget(ctx context.Context) error {
	for _, d := range s.cfg.Directions {
		if d.To != s.name || !d.copies() {
			continue
		}
		found := &site{sheet: sheet{direction: d.name()}, cfg: s.cfg, conn: s.conn, info: s.info, infoErr: s.infoErr}
		if err := found.empty(ctx, s.cfg.Link, d); err != nil {
			return err
		}
		s.emptiness = append(s.emptiness, found.items...)
	}
	return nil
}

func (s *site) empty(ctx context.Context, link string, d Direction) error {
	if d.Existing == "ignore" {
		s.ok("target-empty", "existing: ignore overwrites equal keys at the target and leaves the others")
		return nil
	}
	if _, err := s.do(ctx, "SELECT", "0"); err != nil {
		return s.unknown("target-empty", "whether the target is empty", err)
	}
	mark, err := s.do(ctx, "EXISTS", offsets.MarkKey(link, d.name(), lane))
	if err != nil {
		return s.unknown("target-empty", "whether the link has written to the target", err)
	}
	if mark.Int > 0 {
		s.ok("target-empty", "the link has written to the target before: it goes on from its mark")
		return nil
	}
	if s.infoErr != nil {
		return s.unknown("target-empty", "whether the target is empty", s.infoErr)
	}
	var full []string
	here, until := d.Scope.AtTarget(), time.Now().Add(s.cfg.look())
	looked, all := int64(0), int64(0)
	for _, db := range redis.Keyspace(s.info) {
		if !here.HasDB(int32(db.Number)) {
			continue
		}
		count, seen, err := s.foreignKeys(ctx, db, &here, until)
		if err != nil {
			return s.unknown("target-empty", "whether the target is empty", err)
		}
		looked, all = looked+seen, all+db.Keys
		if count > 0 {
			full = append(full, fmt.Sprintf("db%d: %d keys", db.Number, count))
		}
	}
	switch {
	case len(full) > 0:
	case looked < all:
		s.warning("target-empty", fmt.Sprintf("looked at %d of %d keys of the target and found none in scope", looked, all),
			"nothing, if you know that it holds none: the sink looks at all of them before it writes, and stops if one is in scope")
		return nil
	default:
		s.ok("target-empty", "the target is empty")
		return nil
	}
	remedy := "empty site " + d.To + " (FLUSHALL there)"
	if d.Scope.Databases != nil || d.Scope.Keyed() {
		remedy = "remove what is in scope at site " + d.To
	}
	s.error("target-empty", "the target holds data that is not this link's ("+strings.Join(full, ", ")+")",
		remedy+", or set existing: ignore for "+d.name()+" to overwrite equal keys and keep the others")
	return nil
}

// countedKeys is how many keys a database may have to be looked at one by
// one. Twinlog's own keys are few: a larger one holds other data too.
const countedKeys = 1000

// lookedFor is how long keys that are perhaps not in scope are looked at: there
// may be millions, and the other checks have to come in time.
const lookedFor = time.Second

func (c *Config) look() time.Duration {
	if c.Look > 0 {
		return c.Look
	}
	return lookedFor
}

// foreignKeys counts the keys of a database that are in scope and not
// Twinlog's own. It looks at as many as it can until then, and tells how many:
// all of db.Keys, or less.
func (s *site) foreignKeys(ctx context.Context, db redis.Database, here *scope.Scope, until time.Time) (count, looked int64, err error) {
	if db.Keys > countedKeys && !here.Keyed() {
		return db.Keys, db.Keys, nil
	}
	if _, err := s.do(ctx, "SELECT", strconv.Itoa(db.Number)); err != nil {
		return 0, 0, err
	}
	found := map[string]struct{}{} // SCAN may name a key twice
	for cursor := "0"; ; {
		reply, err := s.do(ctx, "SCAN", cursor, "COUNT", "1000")
		if err != nil {
			return 0, 0, err
		}
		if len(reply.Elems) != 2 {
			return 0, 0, fmt.Errorf("SCAN answers %d elements", len(reply.Elems))
		}
		for i := range reply.Elems[1].Elems {
			if key := reply.Elems[1].Elems[i].Str; !offsets.IsReserved(key) && here.HasName(key) {
				found[string(key)] = struct{}{}
			}
		}
		looked += int64(len(reply.Elems[1].Elems))
		cursor = string(reply.Elems[0].Str)
		switch {
		case cursor == "0", len(found) > countedKeys:
			return int64(len(found)), db.Keys, nil
		case time.Now().After(until):
			return int64(len(found)), min(looked, db.Keys-1), nil
		}
	}
}
