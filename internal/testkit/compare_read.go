package testkit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// side is one of the two data sets, read over one connection.
type side struct {
	conn *goredis.Conn
	addr string
	dbs  map[int]bool // that hold keys
	// replicatesEntriesRead: before 7.2 XREADGROUP counts entries-read at the
	// master only, so that no copy can have it.
	replicatesEntriesRead bool
	// before7 lacks PEXPIRETIME and the counters of streams.
	before7 bool
	// expiresFields: the server knows expiries of hash fields.
	expiresFields bool
}

// value is what a key holds. Two values are equal if their fields are.
type value struct {
	kind     string           // as TYPE answers; "none" without the key
	expireAt int64            // Unix ms; -1: never
	parts    []string         // in a canonical order
	fields   map[string]int64 // of a hash: expiries of fields, Unix ms
}

func openSide(ctx context.Context, client *goredis.Client) (*side, error) {
	s := &side{conn: client.Conn(), addr: client.Options().Addr, dbs: map[int]bool{}}
	info, err := s.conn.Info(ctx, "everything").Result()
	if err != nil {
		s.close()
		return nil, fmt.Errorf("reading INFO of %s: %w", s.addr, err)
	}
	known, err := s.conn.Do(ctx, "COMMAND", "INFO", "HPEXPIRETIME").Slice()
	if err != nil {
		s.close()
		return nil, fmt.Errorf("asking %s for its commands: %w", s.addr, err)
	}
	s.expiresFields = known[0] != nil
	for line := range strings.Lines(info) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch db, ok := strings.CutPrefix(name, "db"); {
		case name == "redis_version":
			s.before7 = strings.HasPrefix(text, "5.") || strings.HasPrefix(text, "6.")
			s.replicatesEntriesRead = !strings.HasPrefix(text, "5.") && !strings.HasPrefix(text, "6.") && !strings.HasPrefix(text, "7.0.")
		case ok && strings.HasPrefix(text, "keys="):
			n, err := strconv.Atoi(db)
			if err != nil {
				s.close()
				return nil, fmt.Errorf("reading INFO of %s: database %q", s.addr, name)
			}
			s.dbs[n] = true
		}
	}
	return s, nil
}

// close gives the connection back as it was.
func (s *side) close() {
	s.conn.Select(context.Background(), 0)
	s.conn.Close()
}

func (s *side) selectDB(ctx context.Context, db int) error {
	if err := s.conn.Select(ctx, db).Err(); err != nil {
		return fmt.Errorf("selecting db %d of %s: %w", db, s.addr, err)
	}
	return nil
}

func (s *side) keys(ctx context.Context, withReserved bool) (map[string]bool, error) {
	keys := map[string]bool{}
	for cursor := uint64(0); ; {
		page, next, err := s.conn.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("scanning %s: %w", s.addr, err)
		}
		for _, k := range page {
			if withReserved || !isReserved(k) {
				keys[k] = true
			}
		}
		if cursor = next; cursor == 0 {
			return keys, nil
		}
	}
}

// values reads keys of the selected database: types and expiries in one round
// trip, values in another.
func (s *side) values(ctx context.Context, keys []string, c *comparison) ([]value, error) {
	pipe := s.conn.Pipeline()
	types, expiries := make([]*goredis.StatusCmd, len(keys)), make([]*goredis.Cmd, len(keys))
	for i, k := range keys {
		types[i], expiries[i] = pipe.Type(ctx, k), pipe.Do(ctx, s.expiryCommand(), k)
	}
	clock := pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("reading types and expiries of %s: %w", s.addr, err)
	}
	pipe = s.conn.Pipeline()
	replies := make([]*goredis.Cmd, len(keys))
	values := make([]value, len(keys))
	for i, k := range keys {
		at, err := expiries[i].Int64()
		if err != nil {
			return nil, fmt.Errorf("reading the expiry of %q at %s: %w", k, s.addr, err)
		}
		if s.before7 && at >= 0 {
			at += clock.Val().UnixMilli()
		}
		values[i] = value{kind: types[i].Val(), expireAt: max(at, -1)}
		replies[i] = pipe.Do(ctx, readCommand(values[i].kind, k)...)
	}
	_, _ = pipe.Exec(ctx) // each reply has its own error
	for i, k := range keys {
		if err := s.finish(ctx, k, &values[i], replies[i], c); err != nil {
			return nil, fmt.Errorf("reading %s %q of %s: %w", values[i].kind, k, s.addr, err)
		}
	}
	return values, nil
}

// expiryCommand tells a key's expiry; before 7.0 as what is left of it.
func (s *side) expiryCommand() string {
	if s.before7 {
		return "PTTL"
	}
	return "PEXPIRETIME"
}

// finish sets the parts of v from the reply that holds them.
func (s *side) finish(ctx context.Context, key string, v *value, reply *goredis.Cmd, c *comparison) error {
	raw, err := reply.Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	if v.kind == "hash" && s.expiresFields {
		if v.fields, err = s.fieldExpiries(ctx, key, raw); err != nil {
			return err
		}
	}
	if v.parts, err = canonical(v.kind, raw); err != nil || v.kind != "stream" {
		return err
	}
	meta, err := s.streamMeta(ctx, key, c)
	v.parts = append(v.parts, meta...)
	return err
}

// fieldExpiries reads when the fields of a hash expire, those that do.
func (s *side) fieldExpiries(ctx context.Context, key string, all any) (map[string]int64, error) {
	names, err := texts(all)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	args := []any{"HPEXPIRETIME", key, "FIELDS", len(names) / 2}
	for i := 0; i < len(names); i += 2 {
		args = append(args, names[i])
	}
	times, err := s.conn.Do(ctx, args...).Int64Slice()
	if err != nil {
		return nil, fmt.Errorf("reading the expiries of its fields: %w", err)
	}
	expiries := map[string]int64{}
	for i, at := range times {
		if at >= 0 {
			expiries[names[2*i]] = at
		}
	}
	return expiries, nil
}

// readCommand is the command that reads a whole value.
func readCommand(kind, key string) []any {
	switch kind {
	case "none", "string":
		return []any{"GET", key}
	case "list":
		return []any{"LRANGE", key, 0, -1}
	case "set":
		return []any{"SMEMBERS", key}
	case "hash":
		return []any{"HGETALL", key}
	case "zset":
		return []any{"ZRANGE", key, 0, -1, "WITHSCORES"}
	case "stream":
		return []any{"XRANGE", key, "-", "+"}
	}
	if kind == "vectorset" { // DUMP has its graph, which each server builds by chance
		return []any{"VRANDMEMBER", key, 1 << 20} // all of its elements
	}
	return []any{"DUMP", key} // a module's value
}

// functions returns the function libraries: name to engine and code. Servers
// before 7.0 have none.
func (s *side) functions(ctx context.Context) (map[string]string, error) {
	reply, err := s.conn.Do(ctx, "FUNCTION", "LIST", "WITHCODE").Slice()
	if err != nil {
		if strings.Contains(err.Error(), "unknown command") {
			return map[string]string{}, nil
		}
		return nil, fmt.Errorf("listing functions of %s: %w", s.addr, err)
	}
	libraries := map[string]string{}
	for _, library := range reply {
		fields, err := pairs(library)
		if err != nil {
			return nil, fmt.Errorf("listing functions of %s: %w", s.addr, err)
		}
		libraries[fmt.Sprint(fields["library_name"])] = fmt.Sprintf("%v\n%v", fields["engine"], fields["library_code"])
	}
	return libraries, nil
}
