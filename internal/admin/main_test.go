package admin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeWorker answers as it is told and remembers what it was asked to do.
type fakeWorker struct {
	mu       sync.Mutex
	status   Status
	ready    []string
	err      error // of whatever it is asked to do
	asked    []string
	block    chan struct{} // if set: what it is asked to do waits for it, or for its context
	entered  chan struct{}
	validity Validation
	offsets  map[string]ConnectorOffsets
}

func (f *fakeWorker) Status() Status  { return f.status }
func (f *fakeWorker) Ready() []string { return f.ready }

func (f *fakeWorker) do(ctx context.Context, what string) error {
	f.mu.Lock()
	f.asked = append(f.asked, what)
	f.mu.Unlock()
	if f.block != nil {
		close(f.entered)
		select {
		case <-f.block:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end: %w", ctx.Err())
		}
	}
	return f.err
}

func (f *fakeWorker) calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

func (f *fakeWorker) Pause(ctx context.Context, name string) error { return f.do(ctx, "pause "+name) }

func (f *fakeWorker) Resume(ctx context.Context, name string) error { return f.do(ctx, "resume "+name) }

func (f *fakeWorker) Snapshot(ctx context.Context, name string) error {
	return f.do(ctx, "snapshot "+name)
}

func (f *fakeWorker) Resync(ctx context.Context, site string) error { return f.do(ctx, "resync "+site) }

func (f *fakeWorker) SnapshotKeys(ctx context.Context, direction string, k Keys) (string, bool, error) {
	return "x1", true, f.do(ctx, fmt.Sprintf("snapshot %s %q db %d rate %d", direction, k.Match, k.DB, k.Rate))
}

func (f *fakeWorker) StopKeys(ctx context.Context, direction string) error {
	return f.do(ctx, "stop keys of "+direction)
}

func (f *fakeWorker) Stop(ctx context.Context, name string) error { return f.do(ctx, "stop "+name) }

func (f *fakeWorker) Restart(ctx context.Context, name string) error {
	return f.do(ctx, "restart "+name)
}

func (f *fakeWorker) Validate(ctx context.Context) (Validation, error) {
	return f.validity, f.do(ctx, "validate")
}

func (f *fakeWorker) Offsets(ctx context.Context, name string) (ConnectorOffsets, error) {
	return f.offsets[name], f.do(ctx, "offsets "+name)
}

// twoWay is a link with one failed sink.
func twoWay() *fakeWorker {
	const replid = "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb"
	return &fakeWorker{
		status: Status{
			Link: "orders", Home: "a",
			Sites: map[string]Site{"a": {State: "CONNECTED", Conflicts: 3, Repaired: 2, Dirty: 1}, "b": {State: "DISCONNECTED", Conflicts: 1}},
			Directions: []Direction{
				{
					Name: "a-to-b", Phase: PhaseSynchronizing,
					Source: SourceStatus{Name: "source-a", State: StateRunning, Position: replid + ":104857600", Seq: 9007199254740993, Epoch: 2, BehindSeconds: 0.002},
					Sink: SinkStatus{
						Name: "sink-b", State: StateFailed, Trace: "WRONGTYPE <key> \"k&1\"\nat offset 41", Seq: 40, Offset: 41, LagEvents: 1204, LagSeconds: 12.5, LeftOut: 7,
						DeadLetters: 3, QuarantinedKeys: 1, Quarantine: []Quarantined{{DB: 0, Key: Key("cart:<1>"), Seq: 31, Reason: "RPUSH: WRONGTYPE"}},
					},
					OnDemand: &OnDemand{ID: "x1", Match: "user:*", State: OnDemandRunning, Database: 3, Progress: 0.25, Keys: 1200},
				},
				{
					Name: "b-to-a", Phase: PhaseCreated, Reason: "waiting for Redis b",
					Source: SourceStatus{Name: "source-b", State: StateUnassigned},
					Sink:   SinkStatus{Name: "sink-a", State: StateStopped, LagEvents: -1, LagSeconds: -1, Quarantine: []Quarantined{}},
				},
			},
			Conflicts: []Conflict{
				{At: "2026-03-01T23:59:59.007Z", Site: "b", Rule: RuleD, DB: 0, Key: Key("cart:<1>"), Peer: "DEL (seq 12)", Own: "RPUSH (seq 9)", Won: "what b wrote stays"},
				{At: "2026-03-02T00:00:00.120Z", Site: "a", Rule: RuleH, DB: 3, Key: Key("text\xff"), Peer: "SET (seq 14)", Own: "SET (seq 20)", Won: "the value at a (home), at both sites"},
				{At: "2026-03-02T00:00:01.000Z", Site: "a", Rule: RuleSwap, DB: 0, Peer: "FLUSHALL (seq 15)", Own: "SWAPDB (seq 21)"},
			},
		},
		validity: Validation{Items: []ValidationItem{
			{Name: "redis_reachable", Documentation: "Both sites answer PING.", Value: "a and b answer"},
			{Name: "target_empty", Documentation: "The target of the first start has no keys.", Value: "b has 12 keys", Remedies: []string{"empty b, or set existing: ignore"}, Errors: []string{"b is not empty"}},
		}},
		offsets: map[string]ConnectorOffsets{
			"source-a": {Source: []SourceOffset{{Site: "a", Lane: "0", Replid: replid, ReplOffset: 104857600, Seq: 42}}},
			"sink-b":   {Sink: []SinkOffset{{Topic: "orders.a-to-b", Partition: 0, Offset: 41}}},
		},
	}
}

// serve runs a server for w until the test ends.
func serve(t *testing.T, w Worker) *Server {
	t.Helper()
	registry := prometheus.NewRegistry()
	events := prometheus.NewCounter(prometheus.CounterOpts{Name: "twinlog_source_events_total", Help: "Events."})
	registry.MustRegister(events)
	events.Add(3)
	s, err := Listen("127.0.0.1:0", w, registry, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

type answer struct {
	code   int
	body   string
	header http.Header
}

// ask sends a request. Headers are name, value, name, value; Host is one.
func ask(t *testing.T, s *Server, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b), resp.Header}
}

// golden compares got with a file of testdata, or rewrites that.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}
