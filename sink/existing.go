package sink

import (
	"context"
	"fmt"
	"strconv"

	"twinlog/internal/redis"
	"twinlog/offsets"
)

// NotEmptyError tells that the target holds data of its own at the first
// start of a direction with `existing: intercept`.
type NotEmptyError struct {
	Target, DB, Key string
}

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("target %s is not empty (%s holds key %q, for one), and nothing of this link was ever applied there: "+
		"empty it, or set `existing: ignore` in the direction to overwrite equal keys and leave the others", e.Target, e.DB, e.Key)
}

// requireEmpty refuses a target that holds anything in scope. It
// looks when the target's own source has attached already: what is born there
// later is in its topic.
func (t *target) requireEmpty(ctx context.Context) error {
	databases, err := t.databases(ctx)
	if err != nil {
		return err
	}
	here := t.cfg.Scope.AtTarget()
	for _, name := range databases {
		if db, err := strconv.ParseInt(name, 10, 32); err == nil && !here.HasDB(int32(db)) {
			continue
		}
		if err := t.simple(ctx, "SELECT", name); err != nil {
			return err
		}
		key, found, err := t.anyKey(ctx)
		if err != nil {
			return err
		}
		if found {
			return &NotEmptyError{Target: t.cfg.Target, DB: "db" + name, Key: shown(key)}
		}
	}
	return t.simple(ctx, "SELECT", "0")
}

// databases returns the numbers of the databases that hold a key.
func (t *target) databases(ctx context.Context) ([]string, error) {
	reply, err := t.do(ctx, "INFO", "keyspace")
	if err != nil {
		return nil, err
	}
	var numbers []string
	for _, db := range redis.Keyspace(redis.ParseInfo(string(reply.Str))) {
		numbers = append(numbers, strconv.Itoa(db.Number))
	}
	return numbers, nil
}

// anyKey finds a key of the selected database that is in scope.
func (t *target) anyKey(ctx context.Context) (key []byte, found bool, err error) {
	cursor := "0"
	for {
		reply, err := t.do(ctx, "SCAN", cursor, "COUNT", "1000")
		if err != nil {
			return nil, false, err
		}
		if len(reply.Elems) != 2 {
			return nil, false, fmt.Errorf("target %s answers SCAN with %d elements", t.cfg.Target, len(reply.Elems))
		}
		for _, k := range reply.Elems[1].Elems {
			if !offsets.IsReserved(k.Str) && t.cfg.Scope.HasName(k.Str) {
				return append([]byte(nil), k.Str...), true, nil
			}
		}
		if cursor = string(reply.Elems[0].Str); cursor == "0" {
			return nil, false, nil
		}
	}
}
