package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/schema"
	"twinlog/source"
)

const minimal = `link: orders
kafka: {brokers: ["127.0.0.1:9092"]}
sites:
  a: {redis: {addrs: ["127.0.0.1:6379"]}}
  b: {redis: {addrs: ["127.0.0.1:6380"]}}
directions:
  - {from: a, to: b}
`

// design is the configuration of the design document, word for word.
const design = `link: orders
kafka:
  brokers: [127.0.0.1:9092]          # tls:, sasl: {mechanism, username, password}
  topic: {replication_factor: 1, retention: 168h}
schema_registry: {url: "http://127.0.0.1:8081"}     # optional
sites:
  a: {redis: {addrs: ["127.0.0.1:6379"], mode: standalone}}   # mode: standalone|sentinel|cluster; username, password (or user:password), tls, master_name, read_from, write_addrs (a proxy)
  b: {redis: {addrs: ["redis://127.0.0.1:6380"]}}             # redis:// and rediss:// URLs too
directions:
  - {from: a, to: b, snapshot: initial, existing: intercept, databases: [0, 1], on_gap: snapshot}
  - {from: b, to: a, snapshot: no_data}      # per direction also: errors: fail|dead_letter, include, exclude, databases_map
conflict: overwrite                  # the only policy: the latest value in home's order wins, at both sites
home: a                              # default: ` + "`from`" + ` of the first direction
limits: {memory: 256MiB, max_event_bytes: 900KiB, max_transaction_bytes: 32MiB, snapshot_rate: 0, max_commands_per_second: 0}   # 0: none
timing: {commit_pause: 2ms, expiry_grace: 1s}
http: {listen: 127.0.0.1:8083}
spool: {dir: ./spool, max_bytes: 4GiB}
`

// world is the environment and the files that a test's configuration sees.
type world struct{ env, files map[string]string }

func (w world) parse(text string) (*Config, error) {
	return parse(&reader{
		file: "t.yml",
		env: func(name string) (string, bool) {
			text, ok := w.env[name]
			return text, ok
		},
		read: func(path string) ([]byte, error) {
			if text, ok := w.files[path]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}, []byte(text))
}

func (w world) mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := w.parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAMinimalFileGetsEveryDefault(t *testing.T) {
	want := &Config{
		Link:  "orders",
		Home:  "a",
		Kafka: kafka.Config{Brokers: []string{"127.0.0.1:9092"}, Topic: kafka.TopicDefaults{ReplicationFactor: 1, Retention: 168 * time.Hour}},
		Sites: map[string]redis.Config{
			"a": {Addrs: []string{"127.0.0.1:6379"}, Mode: "standalone"},
			"b": {Addrs: []string{"127.0.0.1:6380"}, Mode: "standalone"},
		},
		Directions: []Direction{{From: "a", To: "b", Snapshot: source.SnapshotInitial, Existing: "intercept", OnGap: "snapshot", Errors: "fail"}},
		Conflict:   "overwrite",
		Limits:     Limits{Memory: 256 << 20, MaxEventBytes: 900 << 10, MaxTransactionBytes: 32 << 20},
		Timing:     Timing{CommitPause: 2 * time.Millisecond, ExpiryGrace: time.Second},
		HTTP:       HTTP{Listen: "127.0.0.1:8083"},
		Spool:      Spool{Dir: "./spool", MaxBytes: 4 << 30},
	}
	got := world{}.mustParse(t, minimal)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	if w := got.Warnings(); len(w) != 0 {
		t.Errorf("a file without options warns: %q", w)
	}
}

func TestTheDesignsExampleLoadsWhole(t *testing.T) {
	got := world{}.mustParse(t, design)
	want := world{}.mustParse(t, minimal)
	want.Registry = schema.RegistryConfig{URL: "http://127.0.0.1:8081"}
	want.Sites["b"] = redis.Config{Addrs: []string{"redis://127.0.0.1:6380"}, Mode: "standalone"}
	want.Directions[0].Scope.Databases = []int32{0, 1}
	want.Directions = append(want.Directions, Direction{From: "b", To: "a", Snapshot: source.SnapshotNoData, Existing: "ignore", OnGap: "snapshot", Errors: "fail", Scope: scope.Scope{Databases: []int32{0, 1}}})
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	if warnings := got.Warnings(); len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestEveryOptionIsRead(t *testing.T) {
	w := world{env: map[string]string{"PW": "p$w"}, files: map[string]string{"/kafka": "k\n", "/registry": "r\r\n"}}
	got := w.mustParse(t, `
link: orders-1
kafka:
  brokers: [k1:9092, "[::1]:9093"]
  tls: true
  sasl: {mechanism: SCRAM-SHA-512, username: u, password_file: /kafka}
  topic: {replication_factor: 3, retention: 0s}
schema_registry: {url: https://r, username: u, password_file: /registry, tls: {}}
sites:
  x1:
    redis:
      addrs: &addrs [h1:1, "rediss://u:p@h2"]
      mode: standalone
      username: u
      password: a${PW}b$$c$d
      tls: {server_name: s, insecure_skip_verify: true}
      master_name: m
      read_from: replica
      write_addrs: *addrs
  2: {redis: {addrs: ["h3:3"], tls: false}}
directions:
  - {from: 2, to: x1, snapshot: no_data, databases: [3], databases_map: {3: 4}, on_gap: fail, errors: dead_letter, include: ["a*"], exclude: [b], skip_commands: [flush, publish]}
  - {from: x1, to: "2", snapshot: always, existing: ignore, skip_commands: [function]}
home: x1
limits: {memory: 64MiB, max_event_bytes: 1024, max_transaction_bytes: 2KiB, snapshot_rate: 1MiB, max_commands_per_second: 10}
timing: {commit_pause: 0s, expiry_grace: 0s}
http: {listen: ":0"}
spool: {dir: /s, max_bytes: 1TiB}
`)
	want := &Config{
		Link: "orders-1", Home: "x1", Conflict: "overwrite",
		Kafka: kafka.Config{
			Brokers: []string{"k1:9092", "[::1]:9093"},
			TLS:     &kafka.TLSConfig{}, SASL: &kafka.SASLConfig{Mechanism: "SCRAM-SHA-512", Username: "u", Password: "k"},
			Topic: kafka.TopicDefaults{ReplicationFactor: 3},
		},
		Registry: schema.RegistryConfig{URL: "https://r", Username: "u", Password: "r"},
		Sites: map[string]redis.Config{
			"x1": {
				Addrs: []string{"h1:1", "rediss://u:p@h2"}, Mode: "standalone", Username: "u", Password: "ap$wb$c$d",
				TLS: &redis.TLSConfig{ServerName: "s", InsecureSkipVerify: true}, MasterName: "m", ReadFrom: "replica", WriteAddrs: []string{"h1:1", "rediss://u:p@h2"},
			},
			"2": {Addrs: []string{"h3:3"}, Mode: "standalone"},
		},
		Directions: []Direction{
			{
				From: "2", To: "x1", Snapshot: source.SnapshotNoData, Existing: "ignore", OnGap: "fail", Errors: "dead_letter",
				Scope: scope.Scope{Databases: []int32{3}, Map: map[int32]int32{3: 4}, Include: []string{"a*"}, Exclude: []string{"b"}, Skip: []scope.Class{scope.Flush, scope.Publish}},
			},
			{
				From: "x1", To: "2", Snapshot: source.SnapshotAlways, Existing: "ignore", OnGap: "snapshot", Errors: "fail",
				Scope: scope.Scope{Databases: []int32{4}, Map: map[int32]int32{4: 3}, Include: []string{"a*"}, Exclude: []string{"b"}, Skip: []scope.Class{scope.Function}},
			},
		},
		Limits: Limits{Memory: 64 << 20, MaxEventBytes: 1 << 10, MaxTransactionBytes: 2 << 10, SnapshotRate: 1 << 20, MaxCommandsPerSecond: 10},
		HTTP:   HTTP{Listen: ":0"},
		Spool:  Spool{Dir: "/s", MaxBytes: 1 << 40},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	wantWarnings := []string{
		"schema_registry.tls", "sites.x1.redis.master_name", "sites.x1.redis.read_from", "sites.x1.redis.write_addrs",
		"limits.snapshot_rate", "limits.max_commands_per_second",
	}
	var options []string
	for _, w := range got.Warnings() {
		place, _, ok := strings.Cut(w, " is not in effect in this version: ")
		_, option, found := strings.Cut(place, ": ")
		if !ok || !found || !regexp.MustCompile(`^t\.yml:\d+:\d+: `).MatchString(w) {
			t.Errorf("the warning %q tells no place or option", w)
		}
		options = append(options, option)
	}
	if diff := cmp.Diff(wantWarnings, options); diff != "" {
		t.Error(diff)
	}
}

func TestATransactionFitsIntoLittleMemoryByDefault(t *testing.T) {
	c := world{}.mustParse(t, minimal+"limits: {memory: 16MiB}\n")
	if got := c.Limits.MaxTransactionBytes; got != 16<<20 {
		t.Errorf("max_transaction_bytes is %d with 16 MiB of memory", got)
	}
}

func TestAVariableMayStandForAnyValue(t *testing.T) {
	w := world{env: map[string]string{"MEM": "64MiB", "HOST": "h", "MODE": "no_data", "N": "2", "B": "true", "NO": "a"}}
	c := w.mustParse(t, `# ${MISSING} in a comment means nothing
link: orders
kafka: {brokers: ["${HOST}:${N}"], topic: {replication_factor: "${N}"}} # ${MISSING}
sites:
  a: {redis: {addrs: ["${HOST}:1"], tls: {insecure_skip_verify: "${B}"}}}
  b: {redis: {addrs: ["redis://${HOST}:2"]}}
directions: [{from: "${NO}", to: b, snapshot: "${MODE}"}]
limits: {memory: "${MEM}"}
`)
	if c.Kafka.Brokers[0] != "h:2" || c.Kafka.Topic.ReplicationFactor != 2 || !c.Sites["a"].TLS.InsecureSkipVerify || c.Limits.Memory != 64<<20 ||
		c.Sites["b"].Addrs[0] != "redis://h:2" || c.Directions[0].From != "a" || c.Directions[0].Snapshot != source.SnapshotNoData {
		t.Errorf("got %#v of %v", *c, c.Limits)
	}
}

func TestLoadReadsFilesAndTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "password")
	file := filepath.Join(dir, "twinlog.yml")
	t.Setenv("TWINLOG_TEST_SECRET", secret)
	text := strings.Replace(minimal, `"127.0.0.1:6379"]`, `"127.0.0.1:6379"], password_file: "${TWINLOG_TEST_SECRET}"`, 1)
	for path, content := range map[string]string{secret: "hidden\n", file: text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sites["a"].Password; got != "hidden" {
		t.Errorf("the password is %q", got)
	}
	if _, err := Load(filepath.Join(dir, "none.yml")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none.yml") {
		t.Errorf("a missing file gives %v", err)
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("#\n", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("a file of 2 MiB gives %v", err)
	}
}

// Every example is what this version reads, with nothing to warn about.
func TestEveryExampleLoads(t *testing.T) {
	examples, err := filepath.Glob("../../examples/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	if len(examples) < 3 {
		t.Fatalf("found only %q", examples)
	}
	for _, path := range append(examples, "../../deploy/compose/twinlog.yml") {
		c, err := Load(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if w := c.Warnings(); len(w) != 0 && strings.HasPrefix(path, "../../examples") {
			t.Errorf("%s warns: %q", path, w)
		}
	}
}

func TestTheFullExampleHasTheDefaults(t *testing.T) {
	full, err := Load("../../examples/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := world{}.mustParse(t, minimal+"  - {from: b, to: a, snapshot: no_data}\n")
	want.Sites["b"] = redis.Config{Addrs: []string{"redis://127.0.0.1:6380"}, Mode: "standalone"}
	want.Directions[0].OnGap = "fail" // its text says why
	if diff := cmp.Diff(want, full, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
}

// The options that the full example shows behind a # are right too.
func TestTheFullExampleLoadsWithEveryOptionTakenIn(t *testing.T) {
	text, err := os.ReadFile("../../examples/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	option := regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`)
	if n := len(option.FindAll(text, -1)); n < 12 {
		t.Fatalf("found only %d options behind a #", n)
	}
	cert, key := keyPair(t)
	w := world{env: map[string]string{"REGISTRY_PASSWORD": "r", "REDIS_B_PASSWORD": "b"}, files: map[string]string{
		"/etc/twinlog/kafka-ca.pem": cert, "/etc/twinlog/kafka.pem": cert, "/etc/twinlog/kafka-key.pem": key, "/run/secrets/kafka-password": "k",
		"/etc/twinlog/registry-ca.pem": cert, "/run/secrets/redis-a-password": "a\n", "/etc/twinlog/redis-ca.pem": cert,
	}}
	c := w.mustParse(t, option.ReplaceAllString(string(text), "$1$2"))
	if c.Sites["a"].Password != "a" || c.Sites["b"].Password != "twinlog:b" || c.Kafka.SASL.Password != "k" || c.Registry.Password != "r" {
		t.Error("a secret was not read")
	}
	if c.Kafka.TLS.KeyFile != "/etc/twinlog/kafka-key.pem" || c.Sites["a"].TLS.ServerName != "redis-a.internal" {
		t.Errorf("TLS is %+v and %+v", c.Kafka.TLS, c.Sites["a"].TLS)
	}
}
