package precheck

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"twinlog/internal/redis"
)

// site checks one Redis, over one connection.
type site struct {
	sheet
	cfg            *Config
	name           string
	redis          redis.Config
	origin, target bool
	conn           *redis.Conn
	reached        bool
	info           map[string]string // of INFO; nil where it is refused
	infoErr        error
	pingErr        error
	first          sample
	emptiness      []Item // target-empty, listed behind what concerns the sites
}

// key is the reserved key that the write probe sets and removes.
func (s *site) key() string { return precheckKey(s.cfg.Link) }

func (s *site) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	conn, err := redis.Dial(ctx, s.redis)
	if err != nil {
		s.unreachable(err)
		return
	}
	defer conn.Close()
	s.conn = conn
	if err := s.ping(ctx); err != nil {
		s.unreachable(err)
		return
	}
	s.reached = true
	s.ok("redis-reachable", "answers at "+conn.Addr())
	for _, step := range s.steps() {
		if err := step(ctx); err != nil { // what was found so far stays in the report
			s.items = s.items[1:]
			s.unreachable(err)
			return
		}
	}
}

// steps are the checks in the order of the report. The backlog's two samples
// lie around those that only read.
func (s *site) steps() []func(context.Context) error {
	steps := []func(context.Context) error{s.readInfo, s.version, s.role, s.standalone}
	if s.origin {
		steps = append(steps, s.psync)
	}
	steps = append(steps, s.write, s.commands, s.maxmemory)
	if s.origin {
		steps = append(steps, s.firstSample, s.appendonly, s.disklessDelay)
	}
	steps = append(steps, s.replicaBuffer)
	if s.target {
		steps = append(steps, s.queryBuffer, s.emptyTarget)
	}
	if s.origin {
		steps = append(steps, s.backlog)
	}
	return steps
}

// ping finds a server that answers but lets no one in.
func (s *site) ping(ctx context.Context) error {
	_, err := s.do(ctx, "PING")
	if code(err) == "NOPERM" { // it is there; redis-commands tells
		s.pingErr = err
		return nil
	}
	return err
}

func (s *site) unreachable(err error) {
	remedy := "start this Redis, or correct addrs of the site"
	switch code(err) {
	case "WRONGPASS", "ERR", "NOPERM":
		remedy = "correct username and password of the site"
	case "NOAUTH":
		remedy = "set password (and username) of the site"
	case "DENIED":
		remedy = "this Redis is in protected mode: set a password there, or bind it to an address that twinlog may use"
	case "LOADING", "BUSY", "MASTERDOWN":
		remedy = "wait until the server is ready"
	}
	if strings.Contains(err.Error(), "max number of clients") {
		remedy = "raise maxclients of the server, or end clients of it"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		remedy = fmt.Sprintf("there was no answer within %v: see whether the server is busy or the network drops packets", timeLimit)
	}
	items := s.items
	s.items = nil
	s.noAnswer("redis-reachable", err, err.Error(), remedy, redis.Retryable)
	s.items = append(s.items, items...)
}

func (s *site) readInfo(ctx context.Context) error {
	info, err := redis.Info(ctx, s.conn, "default")
	if code(err) != "" {
		s.infoErr = err
		return nil
	}
	s.info = info
	return err
}

// do sends one command; what the server refuses is an error too.
func (s *site) do(ctx context.Context, args ...string) (redis.Reply, error) {
	reply, err := s.conn.Do(ctx, args...)
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		return reply, fmt.Errorf("%s: %w", args[0], err)
	}
	return reply, nil
}

// config reads one parameter of the server.
func (s *site) config(ctx context.Context, parameter string) (string, error) {
	reply, err := s.do(ctx, "CONFIG", "GET", parameter)
	if err != nil {
		return "", err
	}
	if len(reply.Elems) < 2 {
		return "", fmt.Errorf("the server has no parameter %s: %w", parameter, errNoParameter)
	}
	return string(reply.Elems[1].Str), nil
}

var errNoParameter = errors.New("not known")

// field reads one field of INFO.
func (s *site) field(name string) (string, error) {
	if s.infoErr != nil {
		return "", s.infoErr
	}
	value, ok := s.info[name]
	if !ok {
		return "", fmt.Errorf("INFO does not tell %s", name)
	}
	return value, nil
}

// unknown notes that an item could not be checked. It returns err if the
// connection is gone, for then no other item can be either.
func (s *site) unknown(name, what string, err error) error {
	var lost *redis.ConnError
	if errors.As(err, &lost) {
		return err
	}
	remedy := "allow the user INFO and CONFIG GET, or see for yourself"
	s.warning(name, fmt.Sprintf("%s cannot be told: %v", what, err), remedy)
	return nil
}

// code is the first word of a server's refusal, empty for any other error.
func code(err error) string {
	var refused *redis.ServerError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// later tells refusals that end by themselves: a source or sink waits.
func later(err error) bool {
	switch code(err) {
	case "OOM", "MISCONF", "NOREPLICAS", "BUSY", "LOADING", "READONLY", "TRYAGAIN", "MASTERDOWN":
		return true
	}
	return false
}

// missing tells refusals of commands that the server does not have.
func missing(err error) bool {
	return code(err) == "ERR" && strings.Contains(strings.ToLower(err.Error()), "unknown command")
}
