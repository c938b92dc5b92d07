// Package precheck finds out, before a link starts, what would stop it or
// lose its guarantees later, and says what to do about it. It reads what the
// servers tell and tries the user's rights; it writes nothing but one reserved
// key, __twinlog:<link>:precheck, which the same transaction removes again.
//
// The items, each of which --ignore can name:
//
//	config                options that are not in effect in this version
//	redis-reachable       the Redis of a site answers and takes user and password
//	redis-version         this version of Twinlog can read and write it
//	redis-role            it is a master
//	redis-cluster         it is a standalone server
//	redis-psync           the user may join it as a replica
//	redis-write           the user may write Twinlog's own keys
//	redis-commands        the user may run the commands that events consist of
//	redis-maxmemory       eviction cannot take the marks
//	redis-appendonly      a restart can resume the replication stream
//	redis-diskless-delay  how long a full synchronisation waits before it begins
//	redis-replica-buffer  client-output-buffer-limit replica is large enough
//	redis-query-buffer    client-query-buffer-limit is large enough
//	redis-backlog         the backlog outlasts a short interruption
//	same-instance         the sites are different servers
//	target-version        the target knows the commands of its origin
//	target-empty          a first start finds no data in scope at its target
//	kafka-reachable       the brokers answer
//	kafka-transactions    the user may use the link's transactional ids
//	kafka-groups          the user may use the link's consumer groups
//	topic-exists          the direction's topic is there, or may be created
//	topic-rights          the user may use it
//	topic-partitions      it has one partition
//	topic-cleanup         nothing compacts it
//	topic-retention       it keeps events long enough
//	topic-message-size    it takes the largest event
//	topic-durability      a broker may die without losing events
//	schema-registry       the schema registry answers
package precheck

import (
	"context"
	"slices"
	"sync"
	"time"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/schema"
)

// Config is what there is to check.
type Config struct {
	Link                string
	Kafka               kafka.Config
	Registry            schema.RegistryConfig // zero: none
	Sites               map[string]redis.Config
	Directions          []Direction
	MaxEventBytes       int      // limits.max_event_bytes
	MaxTransactionBytes int64    // limits.max_transaction_bytes
	Warnings            []string // options of the configuration that are not in effect yet

	Watch time.Duration // how long writes are watched to tell what the backlog covers; 0: a second
	Look  time.Duration // how long a target's keys are looked at; 0: a second
}

// Direction is one half of the link, in the configuration's words.
type Direction struct {
	From, To string
	Snapshot string // initial, initial_only, no_data or always
	Existing string // intercept or ignore
	Scope    scope.Scope

	DeadLetter bool // what cannot be applied goes to the dead-letter topic
}

func (d Direction) name() string { return d.From + "-to-" + d.To }

func (d Direction) copies() bool { return d.Snapshot != "no_data" }

// timeLimit is how long the checks of one server may take.
const timeLimit = 5 * time.Second

// Run checks everything at once and returns what it found, always in the same
// order. What is wrong with the link is in the report; an error means that
// ctx ended before the checks did.
func Run(ctx context.Context, cfg Config) (Report, error) {
	sites := cfg.newSites()
	broker, registry := &brokers{cfg: &cfg}, &registry{cfg: cfg.Registry}
	var wg sync.WaitGroup
	for _, s := range sites {
		wg.Go(func() { s.check(ctx) })
	}
	wg.Go(func() { broker.check(ctx) })
	wg.Go(func() { registry.check(ctx) })
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	var all sheet
	for _, w := range cfg.Warnings {
		all.warning("config", w, "")
	}
	for _, s := range sites {
		all.items = append(all.items, s.items...)
	}
	all.items = append(all.items, cfg.compareSites(sites)...)
	for _, s := range sites {
		broker.notFirst(s.emptiness)
		all.items = append(all.items, s.emptiness...)
	}
	all.items = append(all.items, broker.items...)
	all.items = append(all.items, registry.items...)
	return Report{Items: all.items}, nil
}

// newSites returns the sites in the order in which directions name them, and
// behind them those that no direction names.
func (c *Config) newSites() []*site {
	var names []string
	add := func(name string) {
		if _, ok := c.Sites[name]; ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, d := range c.Directions {
		add(d.From)
		add(d.To)
	}
	rest := make([]string, 0, len(c.Sites))
	for name := range c.Sites {
		rest = append(rest, name)
	}
	slices.Sort(rest)
	for _, name := range rest {
		add(name)
	}
	sites := make([]*site, len(names))
	for i, name := range names {
		sites[i] = &site{sheet: sheet{site: name}, cfg: c, name: name, redis: c.Sites[name]}
		for _, d := range c.Directions {
			sites[i].origin = sites[i].origin || d.From == name
			sites[i].target = sites[i].target || d.To == name
		}
	}
	return sites
}
