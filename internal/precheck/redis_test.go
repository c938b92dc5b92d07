package precheck

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/internal/testkit"
	"twinlog/offsets"
)

// twoWay is a link whose Kafka is away, for tests of its sites.
func twoWay(a, b *testkit.Redis) Config {
	return Config{
		Link: "orders", Kafka: kafka.Config{Brokers: []string{"127.0.0.1:1"}},
		Sites: map[string]redis.Config{"a": {Addrs: []string{a.Addr()}}, "b": {Addrs: []string{b.Addr()}}},
		Directions: []Direction{
			{From: "a", To: "b", Snapshot: "initial", Existing: "intercept"},
			{From: "b", To: "a", Snapshot: "no_data"},
		},
		MaxEventBytes: 900 << 10, MaxTransactionBytes: 32 << 20,
		Watch: 100 * time.Millisecond,
	}
}

func run(t *testing.T, cfg Config) Report {
	t.Helper()
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// user makes an ACL user at a server and the site's configuration use it.
func user(t *testing.T, cfg *Config, site string, r *testkit.Redis, rules ...any) {
	t.Helper()
	args := append([]any{"ACL", "SETUSER", "twinlog", "reset", "on", ">secret"}, rules...)
	if err := r.Client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	cfg.Sites[site] = redis.Config{Addrs: []string{r.Addr()}, Username: "twinlog", Password: "secret"}
}

func TestTwoFreshServersHaveNothingToMend(t *testing.T) {
	t.Parallel()
	a, b := testkit.StartRedis(t), testkit.StartRedis(t)
	report := run(t, twoWay(a, b))
	for _, i := range report.Items {
		if i.Status != OK && i.Name != "kafka-reachable" {
			t.Errorf("%s of %s%s is %s: %s", i.Name, i.Site, i.Direction, i.Status, i.Detail)
		}
	}
	want{"same-instance", "", OK, "a and b are different"}.check(t, report)
	want{"target-empty", "a-to-b", OK, "is empty"}.check(t, report)
	want{"redis-backlog", "a", OK, "no writes seen"}.check(t, report)
	for _, r := range []*testkit.Redis{a, b} {
		if n := r.Client().DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("the pre-check left %d keys", n)
		}
		if n := info(t, r, "sync_full"); n != "0" {
			t.Errorf("the pre-check began %s synchronisations", n)
		}
	}
}

func info(t *testing.T, r *testkit.Redis, field string) string {
	t.Helper()
	for line := range strings.Lines(r.Client().Info(t.Context()).Val()) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("INFO has no %s", field)
	return ""
}

func TestItemsComeInTheSameOrderEachTime(t *testing.T) {
	t.Parallel()
	cfg := twoWay(testkit.StartRedis(t), testkit.StartRedis(t))
	cfg.Warnings = []string{"limits.snapshot_rate is not in effect in this version"}
	first, second := run(t, cfg), run(t, cfg)
	if len(first.Items) != len(second.Items) {
		t.Fatalf("%d items, then %d", len(first.Items), len(second.Items))
	}
	if first.Items[0].Name != "config" || first.Items[0].Status != Warning {
		t.Errorf("the first item is %+v", first.Items[0])
	}
	for i := range first.Items {
		a, b := first.Items[i], second.Items[i]
		if a.Name != b.Name || a.Site != b.Site || a.Direction != b.Direction {
			t.Errorf("item %d is %+v, then %+v", i, a, b)
		}
		if err := CheckNames([]string{a.Name}); err != nil {
			t.Error(err)
		}
	}
}

func TestSitesThatAreNotTwoServers(t *testing.T) {
	t.Parallel()
	a := testkit.StartRedis(t)
	want{"same-instance", "", Error, "the same server"}.check(t, run(t, twoWay(a, a)))

	host, port, err := net.SplitHostPort(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b := testkit.StartRedis(t, "--replicaof", host, port)
	testkit.Eventually(t, 20*time.Second, func() error {
		if got := info(t, b, "master_link_status"); got != "up" {
			return errors.New("the link to the master is " + got)
		}
		return nil
	})
	report := run(t, twoWay(a, b))
	want{"same-instance", "", Error, "one replication group"}.check(t, report)
	want{"redis-role", "b", Error, "is a replica of " + a.Addr()}.check(t, report)
	want{"redis-write", "b", Warning, "READONLY"}.check(t, report)
	want{"redis-role", "a", OK, "master"}.check(t, report)
}

func TestServersThatLetNobodyIn(t *testing.T) {
	t.Parallel()
	a, b := testkit.StartRedis(t), testkit.StartRedis(t)
	if err := b.Client().ConfigSet(t.Context(), "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	cfg := twoWay(b, b)
	cfg.Sites["a"] = redis.Config{Addrs: []string{b.Addr()}, Password: "wrong"}
	report := run(t, cfg)
	want{"redis-reachable", "a", Error, "WRONGPASS"}.check(t, report)
	want{"redis-reachable", "b", Error, "NOAUTH"}.check(t, report)
	if len(report.Items) != 3 {
		t.Errorf("there is more than two sites and Kafka that cannot be used:\n%s", text(t, report))
	}
	if !report.Failed(nil) || strings.Contains(text(t, report), "secret") {
		t.Errorf("the report does not fail, or shows a password:\n%s", text(t, report))
	}
	a.Kill()
	cfg.Sites["a"] = redis.Config{Addrs: []string{a.Addr()}}
	cfg.Sites["b"] = redis.Config{Addrs: []string{b.Addr()}, Password: "secret"}
	report = run(t, cfg)
	want{"redis-reachable", "a", Error, a.Addr()}.check(t, report)
	want{"redis-reachable", "b", OK, b.Addr()}.check(t, report)
}

func TestAServerThatNeverAnswersIsGivenUp(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b := testkit.StartRedis(t)
	cfg := twoWay(b, b)
	cfg.Sites["a"] = redis.Config{Addrs: []string{silent.Addr().String()}}
	started := time.Now()
	want{"redis-reachable", "a", Error, "deadline"}.check(t, run(t, cfg))
	if took := time.Since(started); took > 2*timeLimit {
		t.Errorf("it took %v", took)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("a pre-check that was cut short returns %v", err)
	}
}

func TestRightsOfTheRedisUser(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules []any
		want  []want
	}{
		{"all rights", []any{"~*", "&*", "+@all"}, []want{
			{"redis-psync", "b", OK, ""},
			{"redis-write", "b", OK, ""},
			{"redis-commands", "b", OK, ""},
		}},
		{"all but PSYNC", []any{"~*", "&*", "+@all", "-psync"}, []want{{"redis-psync", "b", Error, "psync"}}},
		{"all but REPLCONF", []any{"~*", "&*", "+@all", "-replconf"}, []want{{"redis-psync", "b", Error, "replconf"}}},
		{"all but PSYNC and ACL", []any{"~*", "&*", "+@all", "-psync", "-acl"}, []want{{"redis-psync", "b", Error, "psync"}}},
		{"all but ACL", []any{"~*", "&*", "+@all", "-acl"}, []want{{"redis-psync", "b", OK, ""}}},
		{"reading only", []any{"~*", "&*", "+@read", "+psync", "+replconf", "+info", "+config|get", "+@connection", "+@transaction"}, []want{
			{"redis-psync", "b", OK, ""},
			{"redis-write", "b", Error, "NOPERM"},
			{"redis-commands", "b", Error, "XADD"},
		}},
		{"all but some data commands", []any{"~*", "&*", "+@all", "-flushall", "-xadd"}, []want{{"redis-commands", "b", Error, "may not run XADD, FLUSHALL"}}},
		{"no channel", []any{"~*", "resetchannels", "+@all"}, []want{{"redis-commands", "b", Error, "may not run PUBLISH"}}},
		{"keys of one pattern", []any{"~app:*", "~" + offsets.Reserved + "*", "&*", "+@all"}, []want{
			{"redis-write", "b", OK, ""},
			{"redis-commands", "b", Warning, "only keys of some patterns"},
		}},
		{"not even Twinlog's own keys", []any{"~app:*", "&*", "+@all"}, []want{{"redis-write", "b", Error, "NOPERM"}}},
		{"neither INFO nor CONFIG", []any{"~*", "&*", "+@all", "-info", "-config"}, []want{
			{"redis-version", "b", Warning, "cannot be told"},
			{"redis-role", "b", Warning, "cannot be told"},
			{"redis-cluster", "b", Warning, "cannot be told"},
			{"redis-psync", "b", OK, ""},
			{"redis-commands", "b", Error, "may not run INFO"},
			{"redis-maxmemory", "b", Warning, "cannot be told"},
			{"redis-appendonly", "b", Warning, "cannot be told"},
			{"redis-diskless-delay", "b", Warning, "cannot be told"},
			{"redis-replica-buffer", "b", Warning, "cannot be told"},
			{"redis-query-buffer", "b", Warning, "cannot be told"},
			{"redis-backlog", "b", Warning, "cannot be told"},
			{"same-instance", "", Warning, "cannot be told"},
			{"target-empty", "a-to-b", Warning, "cannot be told"},
		}},
		{"no PING", []any{"~*", "&*", "+@all", "-ping"}, []want{
			{"redis-reachable", "b", OK, ""},
			{"redis-commands", "b", Error, "may not run PING"},
		}},
		{"no SCAN", []any{"~*", "&*", "+@all", "-scan"}, []want{{"target-empty", "a-to-b", Warning, "cannot be told"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := testkit.StartRedis(t), testkit.StartRedis(t)
			if err := b.Client().Set(t.Context(), offsets.BarrierKey("orders"), "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
			cfg := twoWay(a, b)
			user(t, &cfg, "b", b, c.rules...)
			report := run(t, cfg)
			for _, w := range c.want {
				w.check(t, report)
			}
			if n := info(t, b, "sync_full"); n != "0" {
				t.Errorf("the pre-check began %s synchronisations", n)
			}
		})
	}
}

// The origin of a scope is asked for values that come into it.
func TestRightsAtTheOriginOfAScope(t *testing.T) {
	for _, c := range []struct {
		name  string
		scope scope.Scope
		want  want
	}{
		{"all", scope.Scope{}, want{"redis-commands", "a", OK, ""}},
		{"a part", scope.Scope{Include: []string{"in:*"}}, want{"redis-commands", "a", Error, "may not run DUMP, MEMORY, PEXPIRETIME"}},
		{"a database", scope.Scope{Databases: []int32{0}}, want{"redis-commands", "a", Error, "may not run DUMP, MEMORY, PEXPIRETIME"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := testkit.StartRedis(t)
			cfg := twoWay(a, testkit.StartRedis(t))
			cfg.Directions = cfg.Directions[:1]
			cfg.Directions[0].Scope = c.scope
			user(t, &cfg, "a", a, "~*", "&*", "+@all", "-dump", "-memory", "-pexpiretime", "-xadd", "-scan")
			c.want.check(t, run(t, cfg))
			user(t, &cfg, "a", a, "~*", "&*", "+@all", "-xadd", "-scan")
			want{"redis-commands", "a", OK, "all"}.check(t, run(t, cfg))
		})
	}
}

func TestWhetherTheTargetIsEmpty(t *testing.T) {
	mark := offsets.Mark{Generation: 1, TopicID: strings.Repeat("0", 32), Seq: 7}.String()
	for _, c := range []struct {
		name     string
		existing string
		write    [][]any
		want     want
		scope    scope.Scope
	}{
		{"only Twinlog's own keys", "intercept", [][]any{{"SET", offsets.BarrierKey("orders"), "x"}, {"SET", offsets.MarkKey("other", "x-to-y", "0"), mark}}, want{"target-empty", "a-to-b", OK, "is empty"}, scope.Scope{}},
		{"data in two databases", "intercept", [][]any{{"MSET", "k", "v", "l", "w"}, {"SET", offsets.BarrierKey("orders"), "x"}, {"SELECT", 3}, {"SET", "k", "v"}}, want{"target-empty", "a-to-b", Error, "(db0: 2 keys, db3: 1 keys)"}, scope.Scope{}},
		{"much data", "intercept", [][]any{{"EVAL", "for i = 1, 1500 do redis.call('SET', 'k' .. i, 'v') end", 0}}, want{"target-empty", "a-to-b", Error, "db0: 1500 keys"}, scope.Scope{}},
		{"data that is to be overwritten", "ignore", [][]any{{"SET", "k", "v"}}, want{"target-empty", "a-to-b", OK, "existing: ignore"}, scope.Scope{}},
		{"data that the link wrote", "intercept", [][]any{{"SET", "k", "v"}, {"SET", offsets.MarkKey("orders", "a-to-b", "0"), mark}}, want{"target-empty", "a-to-b", OK, "goes on from its mark"}, scope.Scope{}},
		{"data that the other direction wrote", "intercept", [][]any{{"SET", "k", "v"}, {"SET", offsets.MarkKey("orders", "b-to-a", "0"), mark}}, want{"target-empty", "a-to-b", Error, "db0: 1 keys"}, scope.Scope{}},
		{"data in other databases", "intercept", [][]any{{"SET", "k", "v"}, {"SELECT", 2}, {"SET", "k", "v"}}, want{"target-empty", "a-to-b", OK, "is empty"}, scope.Scope{Databases: []int32{0, 1}, Map: map[int32]int32{0: 5}}},
		{"data where a database goes to", "intercept", [][]any{{"SELECT", 5}, {"SET", "k", "v"}}, want{"target-empty", "a-to-b", Error, "(db5: 1 keys)"}, scope.Scope{Databases: []int32{0, 1}, Map: map[int32]int32{0: 5}}},
		{"data under other names", "intercept", [][]any{{"EVAL", "for i = 1, 1500 do redis.call('SET', 'k' .. i, 'v') end", 0}}, want{"target-empty", "a-to-b", OK, "is empty"}, scope.Scope{Include: []string{"in:*"}}},
		{"data under names in scope", "intercept", [][]any{{"MSET", "in:k", "v", "k", "v"}}, want{"target-empty", "a-to-b", Error, "(db0: 1 keys)"}, scope.Scope{Include: []string{"in:*"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := testkit.StartRedis(t), testkit.StartRedis(t)
			conn := b.Client().Conn()
			defer conn.Close()
			for _, args := range c.write {
				if err := conn.Do(t.Context(), args...).Err(); err != nil && err.Error() != "redis: nil" {
					t.Fatal(err)
				}
			}
			cfg := twoWay(a, b)
			cfg.Directions[0].Existing, cfg.Directions[0].Scope = c.existing, c.scope
			report := run(t, cfg)
			c.want.check(t, report)
			for _, i := range report.Items {
				if i.Name == "target-empty" && i.Direction == "b-to-a" {
					t.Errorf("a direction that copies nothing has %+v", i)
				}
			}
		})
	}
}

// A target may hold so many keys out of scope that they cannot be looked at in
// time: that is no failure.
func TestATargetWithTooManyOtherKeysIsNotLookedThrough(t *testing.T) {
	t.Parallel()
	a, b := testkit.StartRedis(t), testkit.StartRedis(t)
	cfg := twoWay(a, b)
	cfg.Look = time.Nanosecond
	cfg.Directions[0].Scope = scope.Scope{Include: []string{"in:*"}}
	fill := func(names string) {
		t.Helper()
		if err := b.Client().Eval(t.Context(), "for i = 1, 20000 do redis.call('SET', ARGV[1] .. i, 'v') end return 'OK'", nil, names).Err(); err != nil {
			t.Fatal(err)
		}
	}
	fill("out:")
	report := run(t, cfg)
	want{"target-empty", "a-to-b", Warning, " of 20000 keys of the target and found none in scope"}.check(t, report)
	want{"redis-reachable", "b", OK, ""}.check(t, report)
	fill("in:")
	want{"target-empty", "a-to-b", Error, "holds data that is not this link's"}.check(t, run(t, cfg))
}

func TestSettingsOfAServer(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []want
	}{
		{"eviction of every key", []string{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"}, []want{{"redis-maxmemory", "b", Warning, "evict Twinlog's marks"}}},
		{"eviction of keys with an expiry", []string{"--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru"}, []want{{"redis-maxmemory", "b", OK, "leaves Twinlog's marks alone"}}},
		{"an eviction policy without a limit", []string{"--maxmemory-policy", "allkeys-lru"}, []want{{"redis-maxmemory", "b", OK, "not set"}}},
		{"a full server", []string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"}, []want{
			{"redis-write", "b", Warning, "OOM"},
			{"redis-commands", "b", Warning, "OOM"},
		}},
		{"limits below a batch", []string{"--client-output-buffer-limit", "replica", "1mb", "1mb", "60", "--client-query-buffer-limit", "1mb"}, []want{
			{"redis-replica-buffer", "b", Error, "1 MiB"},
			{"redis-query-buffer", "b", Error, "1 MiB"},
		}},
		{"limits below a large transaction", []string{"--client-output-buffer-limit", "replica", "40mb", "20mb", "60", "--client-query-buffer-limit", "40mb"}, []want{
			{"redis-replica-buffer", "b", Warning, "limits.max_transaction_bytes allows 32 MiB"},
			{"redis-query-buffer", "b", Warning, "limits.max_transaction_bytes allows 32 MiB"},
		}},
		{"no limit for replicas", []string{"--client-output-buffer-limit", "replica", "0", "0", "0"}, []want{{"redis-replica-buffer", "b", OK, "no limit"}}},
		{"an append-only file", []string{"--appendonly", "yes"}, []want{{"redis-appendonly", "b", Warning, "cannot resume"}}},
		{"a delayed diskless synchronisation", []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "7"}, []want{{"redis-diskless-delay", "b", OK, "after 7 s"}}},
		{"synchronisation through the disk", []string{"--repl-diskless-sync", "no"}, []want{{"redis-diskless-delay", "b", OK, "is off"}}},
		{"cluster mode", []string{"--cluster-enabled", "yes"}, []want{{"redis-cluster", "b", Error, "cluster mode"}}},
		{"a renamed command", []string{"--rename-command", "XADD", "hidden", "--rename-command", "PSYNC", ""}, []want{
			{"redis-commands", "b", Error, "does not have XADD"},
			{"redis-psync", "b", Error, "does not offer replication"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report := run(t, twoWay(testkit.StartRedis(t), testkit.StartRedis(t, c.args...)))
			for _, w := range c.want {
				w.check(t, report)
			}
		})
	}
}

func TestTheBacklogIsMeasuredAgainstTheWriteRate(t *testing.T) {
	t.Parallel()
	a := testkit.StartRedis(t, "--repl-backlog-size", "16kb")
	host, port, err := net.SplitHostPort(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	testkit.StartRedis(t, "--replicaof", host, port) // so that a backlog is kept
	testkit.Eventually(t, 20*time.Second, func() error {
		if info(t, a, "repl_backlog_active") != "1" {
			return errors.New("no backlog yet")
		}
		return nil
	})
	cfg := twoWay(a, testkit.StartRedis(t))
	cfg.Watch = 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		value := strings.Repeat("v", 1000)
		for ctx.Err() == nil {
			a.Client().Set(ctx, "k", value, 0)
		}
	}()
	report := run(t, cfg)
	cancel()
	<-done
	want{"redis-backlog", "a", Warning, "at your write rate"}.check(t, report)
}
