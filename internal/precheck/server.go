package precheck

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// serverVersion is what a Redis or Valkey says it is.
type serverVersion struct {
	product      string // Redis or Valkey
	major, minor int
	text         string
	like         int // 100 × major + minor of the Redis whose commands it has
}

func parseVersion(info map[string]string) (serverVersion, error) {
	like, err := parseRelease(info["redis_version"])
	if err != nil {
		return serverVersion{}, err
	}
	like.product, like.like = "Redis", 100*like.major+like.minor
	if info["valkey_version"] == "" {
		return like, nil
	}
	v, err := parseRelease(info["valkey_version"])
	v.product, v.like = "Valkey", like.like
	return v, err
}

func parseRelease(text string) (serverVersion, error) {
	words := strings.SplitN(text, ".", 3)
	if len(words) < 2 {
		return serverVersion{}, fmt.Errorf("INFO tells the version %q", text)
	}
	v := serverVersion{text: text}
	var err error
	if v.major, err = strconv.Atoi(words[0]); err == nil {
		v.minor, err = strconv.Atoi(words[1])
	}
	if err != nil {
		return v, fmt.Errorf("INFO tells the version %q: %w", text, err)
	}
	return v, nil
}

// name is the product with its version.
func (v serverVersion) name() string { return v.product + " " + v.text }

// tooOld tells whether a server cannot be what it is to be. As an origin: only
// since 7.0 are all expiries in the stream absolute. As a target: SET … PXAT
// is there since 6.2.
func (v serverVersion) tooOld(origin bool) bool {
	if origin {
		return v.like < 700
	}
	return v.like < 602
}

// release is 100 × major + minor of the product itself.
func (v serverVersion) release() int { return 100*v.major + v.minor }

// tooNew tells whether a server is newer than those whose RDB and stream are
// known.
func (v serverVersion) tooNew() bool {
	if v.product == "Valkey" {
		return v.release() > 901
	}
	return v.release() > 806
}

const readable = "Redis 7.0 to 8.6 or Valkey 7.2 to 9.1"

func (s *site) version(context.Context) error {
	if s.infoErr != nil {
		return s.unknown("redis-version", "the version", s.infoErr)
	}
	v, err := parseVersion(s.info)
	if err != nil {
		return s.unknown("redis-version", "the version", err)
	}
	switch {
	case v.tooOld(s.origin) && s.origin:
		s.error("redis-version", v.name()+" is too old for an origin: its replication stream carries expiries relative to a moment that it does not tell", "upgrade the server to "+readable)
	case v.tooOld(s.origin):
		s.error("redis-version", v.name()+" is too old for a target: it lacks SET … PXAT", "upgrade the server to Redis 6.2 or newer")
	case v.tooNew() && s.origin:
		s.error("redis-version", v.name()+" is newer than what this version of Twinlog reads (RDB versions up to 13 of Redis and 80 of Valkey)",
			"upgrade Twinlog to a version that reads it, or run "+readable+" at this site")
	case v.tooNew():
		s.warning("redis-version", v.name()+" is newer than what this version of Twinlog was made for; as a target it only needs to know the commands of its origin",
			"upgrade Twinlog before this site becomes an origin")
	default:
		s.ok("redis-version", v.name())
	}
	return nil
}

func (s *site) role(context.Context) error {
	role, err := s.field("role")
	switch {
	case err != nil:
		return s.unknown("redis-role", "the role", err)
	case role == "sentinel":
		s.error("redis-role", "is a Sentinel, not a server with data", "name the master itself in addrs of the site")
	case role != "master":
		s.error("redis-role", "is a replica of "+net.JoinHostPort(s.info["master_host"], s.info["master_port"])+": nothing can be written to it",
			"name the master in addrs of the site")
	default:
		s.ok("redis-role", "is a master")
	}
	return nil
}

func (s *site) standalone(context.Context) error {
	mode, err := s.field("redis_mode")
	switch {
	case err != nil:
		return s.unknown("redis-cluster", "the mode", err)
	case mode == "cluster" || s.info["cluster_enabled"] == "1":
		s.error("redis-cluster", "runs in cluster mode", "this version of Twinlog supports standalone servers only: use one with cluster-enabled no")
	default:
		s.ok("redis-cluster", "cluster mode is off")
	}
	return nil
}

func (s *site) maxmemory(context.Context) error {
	limit, err := s.field("maxmemory")
	if err != nil {
		return s.unknown("redis-maxmemory", "maxmemory", err)
	}
	policy, err := s.field("maxmemory_policy")
	if err != nil {
		return s.unknown("redis-maxmemory", "maxmemory-policy", err)
	}
	switch {
	case limit == "0":
		s.ok("redis-maxmemory", "maxmemory is not set: nothing is evicted")
	case strings.HasPrefix(policy, "allkeys"):
		s.warning("redis-maxmemory", "maxmemory-policy "+policy+" can evict Twinlog's marks with the data, and evictions at one site are deletions at the other",
			"set maxmemory-policy to noeviction or to a volatile-* policy, or give the server memory to spare")
	default:
		s.ok("redis-maxmemory", "maxmemory-policy "+policy+" leaves Twinlog's marks alone")
	}
	return nil
}

func (s *site) appendonly(context.Context) error {
	enabled, err := s.field("aof_enabled")
	switch {
	case err != nil:
		return s.unknown("redis-appendonly", "appendonly", err)
	case enabled == "1":
		s.warning("redis-appendonly", "appendonly is on: a server that restarts from its AOF begins a new replication history, and Twinlog cannot resume the old one",
			"save RDB snapshots instead (appendonly no), or restart by failing over to a replica")
	default:
		s.ok("redis-appendonly", "appendonly is off: a restart from an RDB that was saved at shutdown resumes")
	}
	return nil
}
