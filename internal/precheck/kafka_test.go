package precheck

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
	"twinlog/schema"
)

// topicsOf is a link with one direction, for tests of its Kafka.
func topicsOf(link string, brokers []string) Config {
	return Config{
		Link: link, Kafka: kafka.Config{Brokers: brokers, Topic: kafka.TopicDefaults{ReplicationFactor: 1, Retention: 7 * 24 * time.Hour}},
		Directions:    []Direction{{From: "a", To: "b", Snapshot: "initial", Existing: "intercept"}},
		MaxEventBytes: 900 << 10, MaxTransactionBytes: 32 << 20,
	}
}

func options(t *testing.T, cfg kafka.Config) []kgo.Opt {
	t.Helper()
	opts, err := cfg.Options()
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// awaitTopic waits until the broker knows a topic that the controller has made.
func awaitTopic(t *testing.T, broker *testkit.Kafka, topic string) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, func() error {
		_, found, err := kafka.DescribeTopic(t.Context(), []kgo.Opt{kgo.SeedBrokers(broker.Brokers()...)}, topic)
		if err == nil && !found {
			err = fmt.Errorf("topic %s is not known yet", topic)
		}
		return err
	})
}

func TestTopicsInRealKafka(t *testing.T) {
	broker := testkit.StartKafka(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	good := map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000", "max.message.bytes": "1100000"}
	for i, c := range []struct {
		name       string
		partitions int32 // 0: no topic
		configs    map[string]string
		change     func(*Config)
		want       []want
		failed     bool
	}{
		{"a topic that is not there", 0, nil, nil, []want{{"topic-exists", "a-to-b", OK, "will be created"}}, false},
		{"more replicas than brokers", 0, nil, func(c *Config) { c.Kafka.Topic.ReplicationFactor = 3 }, []want{{"topic-exists", "a-to-b", Error, "fewer brokers"}}, true},
		{"a good topic", 1, good, nil, []want{
			{"kafka-reachable", "", OK, "1 of 1"},
			{"kafka-transactions", "", OK, ""},
			{"kafka-groups", "", OK, ""},
			{"topic-exists", "a-to-b", OK, ""},
			{"topic-rights", "a-to-b", OK, ""},
			{"topic-partitions", "a-to-b", OK, ""},
			{"topic-cleanup", "a-to-b", OK, ""},
			{"topic-retention", "a-to-b", OK, "168h"},
			{"topic-message-size", "a-to-b", OK, "1100000"},
			{"topic-durability", "a-to-b", Warning, "one replica"},
		}, false},
		{"dead letters whose topic is not there", 1, good, func(c *Config) { c.Directions[0].DeadLetter = true }, []want{
			{"topic-exists", "a-to-b", OK, "is there"},
			{"topic-exists", "", OK, ".dead-letter is not there yet and will be created"},
		}, false},
		{"a wrong partition count", 3, good, nil, []want{{"topic-partitions", "a-to-b", Error, "3 partitions"}}, true},
		{"a compacted topic", 1, with(good, "cleanup.policy", "compact"), nil, []want{{"topic-cleanup", "a-to-b", Error, "cleanup.policy=compact"}}, true},
		{"a topic that is compacted and deleted", 1, with(good, "cleanup.policy", "compact,delete"), nil, []want{{"topic-cleanup", "a-to-b", Error, "compact"}}, true},
		{"a retention of an hour", 1, with(good, "retention.ms", "3600000"), nil, []want{{"topic-retention", "a-to-b", Warning, "1h0m0s"}}, false},
		{"a retention below the configured one", 1, with(good, "retention.ms", "172800000"), nil, []want{{"topic-retention", "a-to-b", Warning, "less than kafka.topic.retention"}}, false},
		{"an endless retention", 1, with(good, "retention.ms", "-1"), nil, []want{{"topic-retention", "a-to-b", OK, "for ever"}}, false},
		{"small messages", 1, with(good, "max.message.bytes", "100000"), nil, []want{{"topic-message-size", "a-to-b", Error, "100000 bytes"}}, true},
		{"fewer replicas than must be in sync", 1, with(good, "min.insync.replicas", "2"), nil, []want{{"topic-durability", "a-to-b", Error, "nothing can be written"}}, true},
		{"unclean elections", 1, with(good, "unclean.leader.election.enable", "true"), nil, []want{{"topic-durability", "a-to-b", Warning, "unclean"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := topicsOf(fmt.Sprintf("link%d", i), broker.Brokers())
			if c.change != nil {
				c.change(&cfg)
			}
			if c.partitions > 0 {
				if _, err := adm.CreateTopic(t.Context(), c.partitions, 1, pointers(c.configs), cfg.Link+".a-to-b"); err != nil {
					t.Fatal(err)
				}
				awaitTopic(t, broker, cfg.Link+".a-to-b")
			}
			report := run(t, cfg)
			for _, w := range c.want {
				w.check(t, report)
			}
			if report.Failed(nil) != c.failed {
				t.Errorf("failed is %v:\n%s", !c.failed, text(t, report))
			}
		})
	}
	t.Run("a running source is not fenced", func(t *testing.T) { notFenced(t, broker) })
}

func with(configs map[string]string, key, value string) map[string]string {
	changed := map[string]string{key: value}
	for k, v := range configs {
		if k != key {
			changed[k] = v
		}
	}
	return changed
}

func pointers(configs map[string]string) map[string]*string {
	p := map[string]*string{}
	for k, v := range configs {
		p[k] = &v
	}
	return p
}

func notFenced(t *testing.T, broker *testkit.Kafka) {
	cfg := topicsOf("running", broker.Brokers())
	client := options(t, cfg.Kafka)
	topic := "running.a-to-b"
	if _, err := kafka.EnsureTopic(t.Context(), client, topic, 1, kafka.TopicConfig{ReplicationFactor: 1, Retention: time.Hour, MaxMessageBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	ring, err := kafka.OpenRing(t.Context(), kafka.RingConfig{Client: client, Prefix: "twinlog.running.a.0", Topic: topic, MaxBufferedBytes: 1 << 20, BatchMaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	for range 2 {
		run(t, cfg)
		for range ringSize {
			if err := ring.Publish(t.Context(), slices.Values([][]*kgo.Record{{{Topic: topic, Value: []byte("v")}}}), func() {}); err != nil {
				t.Fatalf("after a pre-check: %v", err)
			}
		}
		if err := ring.Wait(t.Context()); err != nil {
			t.Fatalf("after a pre-check: %v", err)
		}
	}
}

func TestKafkaThatIsAway(t *testing.T) {
	report := run(t, topicsOf("orders", []string{"127.0.0.1:1"}))
	want{"kafka-reachable", "", Error, "127.0.0.1:1"}.check(t, report)
	report = run(t, topicsOf("orders", nil))
	want{"kafka-reachable", "", Error, "kafka.brokers is empty"}.check(t, report)
}

// rightsOf starts a broker with a user who has these rights.
func rightsOf(t *testing.T, link string, acls ...kfake.ACL) Config {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "twinlog", "secret", acls...), kfake.SeedTopics(1, link+".a-to-b"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := topicsOf(link, cluster.ListenAddrs())
	cfg.Kafka.SASL = &kafka.SASLConfig{Mechanism: "PLAIN", Username: "twinlog", Password: "secret"}
	return cfg
}

func allow(kind kmsg.ACLResourceType, prefix string, ops ...kmsg.ACLOperation) []kfake.ACL {
	var acls []kfake.ACL
	for _, op := range ops {
		acls = append(acls, kfake.ACL{Resource: kind, Name: prefix, Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: op, Allow: true})
	}
	return acls
}

func TestRightsOfTheKafkaUser(t *testing.T) {
	const read, write, describe, configs = kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs
	topics := allow(kmsg.ACLResourceTypeTopic, "orders.", read, write, describe, configs)
	groups := allow(kmsg.ACLResourceTypeGroup, "twinlog.orders", read, describe)
	ids := allow(kmsg.ACLResourceTypeTransactionalId, "twinlog.orders.", write, describe)
	for _, c := range []struct {
		name string
		acls [][]kfake.ACL
		want []want
	}{
		{"all that is needed", [][]kfake.ACL{topics, groups, ids}, []want{
			{"kafka-transactions", "", OK, ""},
			{"kafka-groups", "", OK, ""},
			{"topic-rights", "a-to-b", OK, ""},
			{"topic-partitions", "a-to-b", OK, ""},
		}},
		{"no topic", [][]kfake.ACL{groups, ids}, []want{{"topic-rights", "a-to-b", Error, "may not see topic orders.a-to-b"}}},
		{"topics to read only", [][]kfake.ACL{allow(kmsg.ACLResourceTypeTopic, "orders.", read, describe, configs), groups, ids}, []want{{"topic-rights", "a-to-b", Error, "lacks Write"}}},
		{"no configuration of topics", [][]kfake.ACL{allow(kmsg.ACLResourceTypeTopic, "orders.", read, write, describe), groups, ids}, []want{
			{"topic-rights", "a-to-b", Error, "lacks DescribeConfigs"},
			{"topic-partitions", "a-to-b", OK, ""},
			{"topic-cleanup", "a-to-b", Warning, "cannot be told"},
		}},
		{"no group", [][]kfake.ACL{topics, ids}, []want{{"kafka-groups", "", Error, "twinlog.orders.a-to-b"}}},
		{"a group to describe only", [][]kfake.ACL{topics, ids, allow(kmsg.ACLResourceTypeGroup, "twinlog.orders", describe)}, []want{{"kafka-groups", "", Error, "twinlog.orders.a-to-b"}}},
		{"no transactional id", [][]kfake.ACL{topics, groups}, []want{{"kafka-transactions", "", Error, "may not use the transactional ids twinlog.orders.*"}}},
		{"only the pre-check's transactional id", [][]kfake.ACL{topics, groups, allow(kmsg.ACLResourceTypeTransactionalId, "twinlog.orders.precheck", write, describe)}, []want{{"kafka-transactions", "", Error, "may not use"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var acls []kfake.ACL
			for _, a := range c.acls {
				acls = append(acls, a...)
			}
			report := run(t, rightsOf(t, "orders", acls...))
			for _, w := range c.want {
				w.check(t, report)
			}
		})
	}
	t.Run("a wrong password", func(t *testing.T) {
		cfg := rightsOf(t, "orders")
		cfg.Kafka.SASL.Password = "hunter2"
		report := run(t, cfg)
		want{"kafka-reachable", "", Error, cfg.Kafka.Brokers[0]}.check(t, report)
		if strings.Contains(text(t, report), "hunter2") {
			t.Errorf("the report shows a password:\n%s", text(t, report))
		}
	})
}

func TestTheBrokersTransactionTimeout(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "10000"}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	want{"kafka-transactions", "", Error, "transaction.max.timeout.ms"}.check(t, run(t, topicsOf("orders", cluster.ListenAddrs())))
}

func TestTheSchemaRegistry(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	locked := srfake.New(srfake.WithAuth("Basic dXNlcjpzZWNyZXQ="))
	defer locked.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, c := range []struct {
		name string
		cfg  schema.RegistryConfig
		want want
	}{
		{"answers", schema.RegistryConfig{URL: fake.URL()}, want{"schema-registry", "", OK, "answers"}},
		{"takes the password", schema.RegistryConfig{URL: locked.URL(), Username: "user", Password: "secret"}, want{"schema-registry", "", OK, "answers"}},
		{"refuses the password", schema.RegistryConfig{URL: locked.URL(), Username: "user", Password: "wrong"}, want{"schema-registry", "", Error, "not authorized"}},
		{"is another web server", schema.RegistryConfig{URL: other.URL}, want{"schema-registry", "", Error, "404"}},
		{"is away", schema.RegistryConfig{URL: "http://127.0.0.1:1"}, want{"schema-registry", "", Error, "unavailable"}},
		{"is no URL", schema.RegistryConfig{URL: "registry:8081"}, want{"schema-registry", "", Error, "schema_registry.url"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := topicsOf("orders", []string{"127.0.0.1:1"})
			cfg.Registry = c.cfg
			c.want.check(t, run(t, cfg))
		})
	}
	t.Run("is not checked where there is none", func(t *testing.T) {
		r := registry{}
		r.check(context.Background())
		if len(r.items) != 0 {
			t.Errorf("found %+v", r.items)
		}
	})
}
