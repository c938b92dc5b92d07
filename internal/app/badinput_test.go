package app_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// Bad input gets a clear error that names its place and what to do, and loses
// nothing: where something can be mended, the link goes on and both sites end
// equal. All cases share one broker.
func TestBadInput(t *testing.T) {
	broker := testkit.StartKafka(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *testkit.Kafka)
	}{
		{"a configuration that cannot be used ends the worker", badConfiguration},
		{"what the pre-check finds ends the worker", badSites},
		{"topics that would lose events end the worker", badTopics},
		{"Kafka away at the start is waited for", kafkaAway},
		{"a Redis away at the start is waited for", redisAway},
		{"a target with data of its own", targetWithData},

		{"a snapshot and a stream that are damaged on their way", damagedLink},
		{"events and units above their limits in the stream", bigInStream},
		{"a value above its limit in the snapshot", bigInSnapshot},
		{"a backlog that was overrun", overrunBacklog},

		{"a record that is no event", foreignRecord},
		{"a seq that comes twice", repeatedSeq},
		{"a seq that is left out", skippedSeq},
		{"events that were deleted before they were applied", deletedRecords},
		{"a snapshot behind what retention removed", snapshotBehindRetention},
		{"a topic that was deleted", deletedTopic},
		{"a topic that was created anew while the worker runs", topicReplaced},
		{"a topic that was created anew while the worker was down", topicCreatedAnew},

		{"a command that has no effect at the target", noEffect},
		{"a target that is full", fullTarget},
		{"a target that becomes a replica", replicaTarget},
		{"a target of a one-way link that was flushed", flushedTarget},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, broker)
		})
	}
}

// badLink is a link of its own name on a broker that others use too.
type badLink struct {
	*link
	t       *testing.T
	name    string
	options linkOptions
}

var badLinks atomic.Int64

func newBadLink(t *testing.T, broker *testkit.Kafka, o linkOptions) *badLink {
	t.Helper()
	if o.directions == "" {
		o.directions = oneWay
	}
	b := &badLink{
		t: t, name: fmt.Sprintf("bad-%d", badLinks.Add(1)), options: o,
		link: &link{t: t, kafka: broker, a: startSite(t, o.serverA, o.argsA), b: startSite(t, o.serverB, o.argsB)},
	}
	b.configure(b.yaml())
	return b
}

// yaml is the configuration as it should be.
func (l *badLink) yaml() string { return l.yamlAt(l.kafka.Brokers()[0], l.a.Addr()) }

// yamlAt has a proxy in front of Kafka or of site a.
func (l *badLink) yamlAt(broker, a string) string {
	return fmt.Sprintf("link: %s\nkafka: {brokers: [%q]}\nsites:\n  a: {redis: {addrs: [%q]}}\n  b: {redis: {addrs: [%q]}}\ndirections:\n%s%s",
		l.name, broker, a, l.b.Addr(), l.options.directions, l.options.extra)
}

// configure makes a worker, not started yet, with another configuration.
func (l *badLink) configure(yaml string) {
	l.t.Helper()
	l.config, l.worker = yaml, testkit.NewProcess(l.t, yaml)
}

// run starts the worker and waits until it does its work.
func (l *badLink) run() {
	l.t.Helper()
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
}

// stop ends the worker in good order, whatever is wrong with the link.
func (l *badLink) stop() {
	l.t.Helper()
	if code := l.worker.Stop(); code != 0 {
		l.t.Errorf("exit code %d after SIGTERM", code)
	}
}

func (l *badLink) equal() {
	l.t.Helper()
	l.a.Equal(l.b, 30*time.Second, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
}

// does runs a command at a site that must not fail.
func (l *badLink) does(r *testkit.Redis, args ...any) {
	l.t.Helper()
	if err := r.Client().Do(l.t.Context(), args...).Err(); err != nil {
		l.t.Fatalf("%v: %v", args, err)
	}
}

// value reads a string, empty where there is none.
func (l *badLink) value(r *testkit.Redis, key string) string {
	v, _ := r.Client().Get(l.t.Context(), key).Result()
	return v
}

// arrives waits until site b holds a string.
func (l *badLink) arrives(key, want string) {
	l.t.Helper()
	testkit.Eventually(l.t, 30*time.Second, func() error {
		if got := l.value(l.b, key); got != want {
			return fmt.Errorf("%s is %q at site b, want %q", key, got, want)
		}
		return nil
	})
}

// lacks returns an error for the first part that a text lacks.
func lacks(text string, parts []string) error {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return fmt.Errorf("want %q in %q", p, text)
		}
	}
	return nil
}

// ends starts the worker, which must end by itself with code and say parts.
func (l *badLink) ends(code int, parts ...string) {
	l.t.Helper()
	if err := os.WriteFile(l.worker.LogFile(), nil, 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.worker.Start()
	l.ended(code, parts...)
}

func (l *badLink) ended(code int, parts ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	got, err := l.worker.Wait(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	log, err := os.ReadFile(l.worker.LogFile())
	if err != nil {
		l.t.Fatal(err)
	}
	if err := lacks(string(log), parts); err != nil || got != code {
		l.t.Errorf("exit code %d, want %d: %v", got, code, err)
	}
}

// notReady waits until /readyz answers 503 with parts.
func (l *badLink) notReady(parts ...string) {
	l.t.Helper()
	testkit.Eventually(l.t, 30*time.Second, func() error {
		code, body, err := l.worker.Get("/readyz")
		if err == nil && code != http.StatusServiceUnavailable {
			err = fmt.Errorf("/readyz answers %d", code)
		}
		return errors.Join(err, lacks(string(body), parts))
	})
}

// fails waits until a connector has failed and tells parts as the reason, and
// /readyz and `twinlog status` do so too.
func (l *badLink) fails(connector string, parts ...string) string {
	l.t.Helper()
	trace := ""
	testkit.Eventually(l.t, 40*time.Second, func() error {
		st, err := status(l.worker)
		if err != nil {
			return err
		}
		for _, d := range st.Directions {
			for name, c := range map[string]struct {
				state admin.State
				trace string
			}{d.Source.Name: {d.Source.State, d.Source.Trace}, d.Sink.Name: {d.Sink.State, d.Sink.Trace}} {
				if name != connector {
					continue
				}
				if trace = c.trace; c.state != admin.StateFailed {
					return fmt.Errorf("%s is %s, the direction waits for %q", connector, c.state, d.Reason)
				}
			}
		}
		return nil
	})
	if err := lacks(trace, parts); err != nil {
		l.t.Errorf("%s: %v", connector, err)
	}
	l.notReady(connector+" is FAILED", firstLine(trace))
	if code, out, talk := l.worker.Run(l.t.Context(), "status"); code != 0 || !strings.Contains(string(out), trace) {
		l.t.Errorf("twinlog status: exit code %d, not the reason in\n%s%s", code, out, talk)
	}
	return trace
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// waits waits until the first direction waits for something that parts tell.
func (l *badLink) waits(parts ...string) {
	l.t.Helper()
	testkit.Eventually(l.t, 30*time.Second, func() error {
		st, err := status(l.worker)
		if err != nil {
			return err
		}
		for _, d := range st.Directions {
			if d.Source.State == admin.StateFailed || d.Sink.State == admin.StateFailed {
				l.t.Fatalf("%s does not wait, it failed: %s%s", d.Name, d.Source.Trace, d.Sink.Trace)
			}
		}
		return lacks(st.Directions[0].Reason, parts)
	})
}

// goesOn waits until a connector runs and its direction waits for nothing.
func (l *badLink) goesOn() {
	l.t.Helper()
	l.worker.AwaitReady(30 * time.Second)
}

func (l *badLink) topic() string { return l.name + ".a-to-b" }

// markKey is where the first direction's mark is, at site b.
func (l *badLink) markKey() string { return offsets.MarkKey(l.name, "a-to-b", "0") }

// admin asks the broker something.
func (l *badLink) admin(ask func(ctx context.Context, adm *kadm.Client) error) {
	l.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.Brokers()...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	if err := ask(l.t.Context(), kadm.NewClient(client)); err != nil {
		l.t.Fatal(err)
	}
}

// produce writes a record that no source wrote and returns its offset.
func (l *badLink) produce(value []byte) int64 {
	l.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	r := &kgo.Record{Topic: l.topic(), Value: value}
	if err := client.ProduceSync(l.t.Context(), r).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
	return r.Offset
}

// events reads all committed events of the first direction's topic.
func (l *badLink) events() []schema.Event {
	l.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.Brokers()...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic(): {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(l.t.Context(), l.topic())
	if err != nil {
		l.t.Fatal(err)
	}
	end, _ := ends.Lookup(l.topic(), 0)
	var events []schema.Event
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(l.t.Context())
		if err := fetches.Err(); err != nil {
			l.t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			next = r.Offset + 1
			if r.Attrs.IsControl() || r.Offset >= end.Offset {
				continue
			}
			var e schema.Event
			if err := schema.NewDecoder(nil).Decode(l.t.Context(), r.Value, &e); err != nil {
				l.t.Fatal(err)
			}
			events = append(events, e)
		}
	}
	return events
}

// fillAgain does what the errors say that fills the target again.
func (l *badLink) fillAgain() {
	l.t.Helper()
	l.does(l.a, "INCR", "filled")
	l.does(l.b, "SET", "rubbish", "1")
	l.twinlog("resync", "--site", "b")
	l.equal()
	l.does(l.a, "INCR", "filled")
	l.equal()
}

// startAnew does what the errors say that starts a link anew: stop, empty the
// target, delete the topics and the reserved keys at both sites, run.
func (l *badLink) startAnew() {
	l.t.Helper()
	if l.worker.Running() {
		l.stop()
	}
	l.does(l.b, "FLUSHALL")
	for _, r := range []*testkit.Redis{l.a, l.b} {
		keys, err := r.Client().Keys(l.t.Context(), offsets.Reserved+"*").Result()
		if err != nil {
			l.t.Fatal(err)
		}
		for _, k := range keys {
			l.does(r, "DEL", k)
		}
	}
	l.deleteTopics()
	l.run()
	l.equal()
}

// deleteTopics deletes the link's topics and waits until they are gone.
func (l *badLink) deleteTopics() {
	l.t.Helper()
	l.admin(func(ctx context.Context, adm *kadm.Client) error {
		topics, err := adm.ListTopics(ctx)
		if err != nil {
			return err
		}
		var mine []string
		for _, name := range topics.Names() {
			if strings.HasPrefix(name, l.name+".") {
				mine = append(mine, name)
			}
		}
		if len(mine) == 0 {
			return nil
		}
		if _, err := adm.DeleteTopics(ctx, mine...); err != nil {
			return err
		}
		testkit.Eventually(l.t, 10*time.Second, func() error {
			left, err := adm.ListTopics(ctx, mine...)
			for _, d := range left {
				if d.Err == nil {
					return fmt.Errorf("topic %s is still there", d.Topic)
				}
			}
			return err
		})
		return nil
	})
}
