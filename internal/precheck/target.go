package precheck

import (
	"context"
	"fmt"
	"strconv"
	"strings"

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
		found := &site{sheet: sheet{direction: d.name()}, conn: s.conn, info: s.info, infoErr: s.infoErr}
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
	here := d.Scope.AtTarget()
	for _, db := range redis.Keyspace(s.info) {
		if !here.HasDB(int32(db.Number)) {
			continue
		}
		count, err := s.foreignKeys(ctx, db, &here)
		if err != nil {
			return s.unknown("target-empty", "whether the target is empty", err)
		}
		if count > 0 {
			full = append(full, fmt.Sprintf("db%d: %d keys", db.Number, count))
		}
	}
	if len(full) == 0 {
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

// foreignKeys counts the keys of a database that are in scope and not
// Twinlog's own.
func (s *site) foreignKeys(ctx context.Context, db redis.Database, here *scope.Scope) (int64, error) {
	if db.Keys > countedKeys && !here.Keyed() {
		return db.Keys, nil
	}
	if _, err := s.do(ctx, "SELECT", strconv.Itoa(db.Number)); err != nil {
		return 0, err
	}
	found := map[string]struct{}{} // SCAN may name a key twice
	for cursor := "0"; ; {
		reply, err := s.do(ctx, "SCAN", cursor, "COUNT", "1000")
		if err != nil {
			return 0, err
		}
		if len(reply.Elems) != 2 {
			return 0, fmt.Errorf("SCAN answers %d elements", len(reply.Elems))
		}
		for i := range reply.Elems[1].Elems {
			if key := reply.Elems[1].Elems[i].Str; !offsets.IsReserved(key) && here.HasName(key) {
				found[string(key)] = struct{}{}
			}
		}
		cursor = string(reply.Elems[0].Str)
		if cursor == "0" || len(found) > countedKeys {
			return int64(len(found)), nil
		}
	}
}
