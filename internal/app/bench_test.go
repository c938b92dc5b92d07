package app_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/testkit"
)

// The benchmarks here measure the whole program as a process, on real
// servers: CPU seconds of the worker per million events, its peak memory, and
// how long a change takes from one site to the other beside what Kafka alone
// takes in the same run. Wall times depend on what else the machine does; the
// ratios and the CPU times less so.

const million = 1_000_000

// A mix is one kind of load: its command for the ith event.
type mix struct {
	name    string
	command func(b []byte, i int) []byte
}

var mixes = []mix{
	{"SET_100_bytes", func(b []byte, i int) []byte {
		return appendCommand(b, "SET", key(i), hundredBytes)
	}},
	{"mixed", func(b []byte, i int) []byte {
		k := key(i / 6)
		switch i % 6 {
		case 0:
			return appendCommand(b, "SET", "s"+k, hundredBytes)
		case 1:
			return appendCommand(b, "HSET", "h"+k, "field", strconv.Itoa(i), "other", "x")
		case 2:
			return appendCommand(b, "LPUSH", "l"+k, strconv.Itoa(i))
		case 3:
			return appendCommand(b, "ZADD", "z"+k, strconv.Itoa(i), "member")
		case 4:
			return appendCommand(b, "INCR", "c"+k)
		}
		return appendCommand(b, "EXPIRE", "s"+k, "36000")
	}},
}

var hundredBytes = strings.Repeat("x", 100)

func key(i int) string { return fmt.Sprintf("key:%d", i%200_000) }

func appendCommand(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// BenchmarkWorker measures source and sink apart: first the sink is paused
// while a million writes are captured, then it catches up.
func BenchmarkWorker(b *testing.B) {
	for _, m := range mixes {
		b.Run(m.name, func(b *testing.B) {
			for range b.N {
				benchmarkWorker(b, m)
			}
		})
	}
}

func benchmarkWorker(b *testing.B, m mix) {
	args := []string{"--repl-backlog-size", "512mb", "--client-output-buffer-limit", "replica 1gb 1gb 0"}
	l := newLink(b, linkOptions{directions: oneWay, argsA: args, argsB: args})
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	l.pause("sink-b")
	before := l.metric("twinlog_source_committed_seq")

	pid := l.worker.Pid()
	start, cpu := time.Now(), cpuSeconds(b, pid)
	l.write(million, m.command)
	l.until("twinlog_source_committed_seq", before+million)
	b.ReportMetric(cpuSeconds(b, pid)-cpu, "source-cpu-s/Mevent")
	b.ReportMetric(million/time.Since(start).Seconds(), "source-events/s")

	l.resume("sink-b")
	start, cpu = time.Now(), cpuSeconds(b, pid)
	l.until("twinlog_sink_seq", before+million)
	b.ReportMetric(cpuSeconds(b, pid)-cpu, "sink-cpu-s/Mevent")
	b.ReportMetric(million/time.Since(start).Seconds(), "sink-events/s")
	b.ReportMetric(peakMemory(b, pid), "peak-MiB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSnapshot copies 1.5 million keys of all types.
func BenchmarkSnapshot(b *testing.B) {
	for range b.N {
		l := newLink(b, linkOptions{directions: oneWay})
		fill(b, l.a, 1_500_000)
		start := time.Now()
		l.worker.Start()
		l.worker.AwaitReady(5 * time.Minute)
		l.until("twinlog_source_snapshot_keys_total", 1_500_000)
		took := time.Since(start).Seconds()
		b.ReportMetric(l.metric("twinlog_source_snapshot_bytes")/(1<<20)/took, "published-MB/s")
		l.until("twinlog_sink_seq", l.metric("twinlog_source_committed_seq"))
		b.ReportMetric(1_500_000/time.Since(start).Seconds(), "copied-keys/s")
		b.ReportMetric(cpuSeconds(b, l.worker.Pid()), "cpu-s")
		b.ReportMetric(peakMemory(b, l.worker.Pid()), "peak-MiB")
		b.ReportMetric(0, "ns/op")
	}
}

// fill makes mixed keys: 60 % strings, 20 % hashes, 8 % lists, 6 % sets, 6 % sorted sets.
func fill(b *testing.B, r *testkit.Redis, keys int) {
	b.Helper()
	writeAll(b, r.Addr(), keys, func(out []byte, i int) []byte {
		k := "key:" + strconv.Itoa(i)
		args := []string{"", k}
		switch p := i % 50; {
		case p < 30:
			return appendCommand(out, "SET", k, hundredBytes)
		case p < 40:
			args[0] = "HSET"
			for f := range 8 {
				args = append(args, "field"+strconv.Itoa(f), strconv.Itoa(i*f))
			}
		case p < 44:
			args[0] = "RPUSH"
			for f := range 10 {
				args = append(args, "element"+strconv.Itoa(i+f))
			}
		case p < 47:
			args[0] = "SADD"
			for f := range 10 {
				args = append(args, strconv.Itoa(i+f))
			}
		default:
			args[0] = "ZADD"
			for f := range 8 {
				args = append(args, strconv.Itoa(i+f), "member"+strconv.Itoa(f))
			}
		}
		return appendCommand(out, args...)
	})
}

// BenchmarkLatency measures how long a PUBLISH at a takes to a subscriber at
// b, idle and under load, and beside it a record through the same ring of
// transactional ids to a read_committed consumer (the floor).
func BenchmarkLatency(b *testing.B) {
	for _, rate := range []int{0, 1000, 10_000} {
		name := "idle"
		if rate > 0 {
			name = fmt.Sprintf("%d_writes_per_s", rate)
		}
		b.Run(name, func(b *testing.B) {
			for range b.N {
				benchmarkLatency(b, rate)
			}
		})
	}
}

// probes are how many latencies a figure comes from.
const (
	probes   = 500
	probeGap = 20 * time.Millisecond
)

func benchmarkLatency(b *testing.B, rate int) {
	l := newLink(b, linkOptions{directions: oneWay})
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	report(b, "", latencies(b, rate, l.throughLink))
	report(b, "floor-", latencies(b, rate, l.throughKafka))
	b.ReportMetric(0, "ns/op")
}

func report(b *testing.B, prefix string, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), prefix+"p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), prefix+"p99-ms")
}

// A path sends probes (send) and load (load) one way, and tells each arrival
// of a probe with the time that it carries.
type path func(ctx context.Context, b *testing.B, arrived func(sent time.Time)) (send, load func(ctx context.Context, n int) error)

func latencies(b *testing.B, rate int, p path) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	arrived := make(chan time.Duration, probes)
	send, load := p(ctx, b, func(sent time.Time) {
		select {
		case arrived <- time.Since(sent):
		case <-ctx.Done(): // enough have arrived
		}
	})
	var g errgroup.Group
	loadCtx, stopLoad := context.WithCancel(ctx)
	if rate > 0 {
		g.Go(func() error { return steadily(loadCtx, 5*time.Millisecond, rate/200, load) })
	}
	g.Go(func() error {
		sendCtx, stop := context.WithTimeout(ctx, probes*probeGap)
		defer stop()
		return steadily(sendCtx, probeGap, 1, send)
	})
	var took []time.Duration
	for len(took) < probes*9/10 {
		select {
		case d := <-arrived:
			took = append(took, d)
		case <-time.After(20 * time.Second):
			b.Fatalf("%d probes arrived, then none for 20 s", len(took))
		}
	}
	stopLoad()
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return took
}

// steadily calls do with n every period until ctx is done.
func steadily(ctx context.Context, period time.Duration, n int, do func(ctx context.Context, n int) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := do(context.WithoutCancel(ctx), n); err != nil {
				return err
			}
		}
	}
}

func (l *link) throughLink(ctx context.Context, b *testing.B, arrived func(time.Time)) (send, load func(context.Context, int) error) {
	b.Helper()
	sub := l.b.Client().Subscribe(ctx, "probe")
	if _, err := sub.Receive(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sub.Close() })
	messages := sub.Channel(goredis.WithChannelSize(probes))
	go func() {
		for m := range messages {
			n, err := strconv.ParseInt(m.Payload, 10, 64)
			if err != nil {
				panic(err)
			}
			arrived(time.Unix(0, n))
		}
	}()
	send = func(ctx context.Context, _ int) error {
		return l.a.Client().Publish(ctx, "probe", strconv.FormatInt(time.Now().UnixNano(), 10)).Err()
	}
	i := 0
	load = func(ctx context.Context, n int) error {
		pipe := l.a.Client().Pipeline()
		for range n {
			i++
			pipe.Set(ctx, key(i), hundredBytes, 0)
		}
		_, err := pipe.Exec(ctx)
		return err
	}
	return send, load
}

// throughKafka is the floor: the ring and a consumer, nothing else. Probes and
// load wait for the ring in one queue, as events do in a source.
func (l *link) throughKafka(ctx context.Context, b *testing.B, arrived func(time.Time)) (send, load func(context.Context, int) error) {
	b.Helper()
	const topic = "floor"
	client := []kgo.Opt{kgo.SeedBrokers(l.kafka.Brokers()...), kgo.MetadataMinAge(50 * time.Millisecond)}
	if _, err := kafka.EnsureTopic(ctx, client, topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 1 << 20}); err != nil {
		b.Fatal(err)
	}
	ring, err := kafka.OpenRing(ctx, kafka.RingConfig{
		Client: client, Prefix: "floor", Topic: topic, Pause: 2 * time.Millisecond, MaxBufferedBytes: 64 << 20, BatchMaxBytes: 1 << 20,
	})
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{Client: client, Topic: topic, FromStart: true, MaxBytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	queue := make(chan []byte, 1<<20)
	var g errgroup.Group
	b.Cleanup(func() {
		consumer.Close()
		ring.Close()
		_ = g.Wait() // ended by the lines above
	})
	g.Go(func() error { return publishQueue(ctx, ring, topic, queue) })
	g.Go(func() error {
		for {
			records, err := consumer.Poll(ctx)
			if err != nil {
				return err
			}
			for _, r := range records {
				if n, err := strconv.ParseInt(string(r.Value), 10, 64); err == nil && !r.Attrs.IsControl() {
					arrived(time.Unix(0, n))
				}
			}
		}
	})
	send = func(context.Context, int) error {
		queue <- strconv.AppendInt(nil, time.Now().UnixNano(), 10)
		return nil
	}
	value := bytes.Repeat([]byte("x"), 160)
	load = func(_ context.Context, n int) error {
		for range n {
			queue <- value
		}
		return nil
	}
	return send, load
}

func publishQueue(ctx context.Context, ring *kafka.Ring, topic string, queue <-chan []byte) error {
	for {
		var batch []*kgo.Record
		select {
		case <-ctx.Done():
			return nil
		case v := <-queue:
			batch = append(batch, &kgo.Record{Topic: topic, Value: v})
		}
		for more := true; more && len(batch) < 5000; {
			select {
			case v := <-queue:
				batch = append(batch, &kgo.Record{Topic: topic, Value: v})
			default:
				more = false
			}
		}
		if err := ring.Publish(ctx, slices.Values([][]*kgo.Record{batch}), func() {}); err != nil {
			return err
		}
	}
}

// metric reads one of the worker's metrics; the sum where it has several series.
func (l *link) metric(name string) float64 {
	l.t.Helper()
	_, text, err := l.worker.Get("/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(text)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if bare, _, _ := strings.Cut(series, "{"); !ok || bare != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			l.t.Fatal(err)
		}
		sum, found = sum+v, true
	}
	if !found {
		l.t.Fatalf("the worker has no metric %s", name)
	}
	return sum
}

// until waits until a metric is at least so much.
func (l *link) until(name string, least float64) {
	l.t.Helper()
	testkit.Eventually(l.t, 5*time.Minute, func() error {
		if v := l.metric(name); v < least {
			return fmt.Errorf("%s is %.0f, want %.0f", name, v, least)
		}
		return nil
	})
}

func (l *link) write(n int, command func([]byte, int) []byte) {
	l.t.Helper()
	writeAll(l.t, l.a.Addr(), n, command)
}

// writeAll pipelines n commands over one connection, at most a few thousand ahead.
func writeAll(tb testing.TB, addr string, n int, command func([]byte, int) []byte) {
	tb.Helper()
	ctx := tb.Context()
	conn, err := redis.Dial(ctx, redis.Config{Addrs: []string{addr}})
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	const chunk = 1000
	var out []byte
	for i := 0; i < n; i += chunk {
		out = out[:0]
		end := min(i+chunk, n)
		for j := i; j < end; j++ {
			out = command(out, j)
		}
		conn.Raw(out)
		if err := conn.Flush(ctx); err != nil {
			tb.Fatal(err)
		}
		for range end - i {
			reply, err := conn.Receive(ctx)
			if err == nil {
				err = reply.Err()
			}
			if err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// clockTicks is USER_HZ, which Linux fixes for what it shows to programs.
const clockTicks = 100

// cpuSeconds is what a process has used so far, user and system.
func cpuSeconds(tb testing.TB, pid int) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), ") ")
	words := strings.Fields(after)
	sum := 0.0
	for _, w := range words[11:13] { // utime, stime
		n, err := strconv.ParseFloat(w, 64)
		if err != nil {
			tb.Fatal(err)
		}
		sum += n / clockTicks
	}
	return sum
}

// peakMemory is a process's largest resident size so far, in MiB.
func peakMemory(tb testing.TB, pid int) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		tb.Fatal(err)
	}
	return kib / 1024
}
