package admin

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequests(t *testing.T) {
	tests := []struct {
		name     string
		method   string
		path     string
		body     string
		headers  []string
		worker   func(*fakeWorker)
		wantCode int
		wantBody string   // a part of it; "=" first: all of it
		wantDone []string // what the worker was asked
	}{
		{name: "metrics are the registry's", method: "GET", path: "/metrics", wantCode: 200, wantBody: "\ntwinlog_source_events_total 3\n"},

		{name: "a healthy worker is healthy", method: "GET", path: "/healthz", wantCode: 200, wantBody: "=healthy\n"},
		{name: "a failed connector leaves the process healthy", method: "GET", path: "/healthz", worker: func(f *fakeWorker) { f.ready = []string{"sink-b is FAILED"} }, wantCode: 200, wantBody: "=healthy\n"},
		{name: "health comes as JSON when asked", method: "GET", path: "/healthz", headers: []string{"Accept", "application/json"}, wantCode: 200, wantBody: "={\n  \"healthy\": true,\n  \"reasons\": []\n}\n"},
		{name: "a worker without reasons is ready", method: "GET", path: "/readyz", wantCode: 200, wantBody: "=ready\n"},
		{name: "reasons come one on a line", method: "GET", path: "/readyz", worker: func(f *fakeWorker) { f.ready = []string{"waiting for Kafka:\nno broker", "draining"} }, wantCode: 503, wantBody: "=waiting for Kafka:; no broker\ndraining\n"},
		{name: "readiness comes as JSON when asked", method: "GET", path: "/readyz", headers: []string{"Accept", "text/plain;q=0.5, Application/JSON"}, worker: func(f *fakeWorker) { f.ready = []string{"starting"} }, wantCode: 503, wantBody: "={\n  \"ready\": false,\n  \"reasons\": [\n    \"starting\"\n  ]\n}\n"},

		{name: "a worker with nothing to show has empty lists, not null", method: "GET", path: "/status", worker: func(f *fakeWorker) { f.status = Status{} }, wantCode: 200, wantBody: "={\n  \"link\": \"\",\n  \"home\": \"\",\n  \"sites\": {},\n  \"directions\": [],\n  \"conflicts\": []\n}\n"},
		{name: "a number that JSON does not have is an error, not half an answer", method: "GET", path: "/status", worker: func(f *fakeWorker) { f.status.Directions[0].Sink.LagSeconds = math.NaN() }, wantCode: 500, wantBody: "\"error_code\": 500"},
		{name: "connectors are listed by name", method: "GET", path: "/connectors", wantCode: 200, wantBody: "=[\n  \"source-a\",\n  \"sink-b\",\n  \"source-b\",\n  \"sink-a\"\n]\n"},
		{name: "a worker without directions has an empty list of connectors", method: "GET", path: "/connectors", worker: func(f *fakeWorker) { f.status = Status{} }, wantCode: 200, wantBody: "=[]\n"},

		{name: "pause is accepted", method: "PUT", path: "/connectors/source-a/pause", wantCode: 202, wantBody: "=", wantDone: []string{"pause source-a"}},
		{name: "resume is accepted", method: "PUT", path: "/connectors/sink-b/resume", wantCode: 202, wantBody: "=", wantDone: []string{"resume sink-b"}},
		{name: "resume with a snapshot is accepted", method: "PUT", path: "/connectors/source-a/resume?snapshot=true", wantCode: 202, wantBody: "=", wantDone: []string{"snapshot source-a"}},
		{name: "a site is filled again", method: "PUT", path: "/sites/b/resync", wantCode: 202, wantBody: "=", wantDone: []string{"resync b"}},
		{name: "a site that is not there", method: "PUT", path: "/sites/c/resync", worker: func(f *fakeWorker) { f.err = ErrUnknownConnector }, wantCode: 404, wantBody: "c is not being filled again", wantDone: []string{"resync c"}},
		{name: "chosen keys are sent again", method: "PUT", path: "/directions/a-to-b/snapshot?match=user%3A%FF*&db=3&rate=50", wantCode: 202, wantBody: "={\n  \"begun\": true,\n  \"id\": \"x1\"\n}\n", wantDone: []string{`snapshot a-to-b "user:\xff*" db 3 rate 50`}},
		{name: "all keys are sent again", method: "PUT", path: "/directions/a-to-b/snapshot", wantCode: 202, wantBody: "x1", wantDone: []string{`snapshot a-to-b "" db -1 rate 0`}},
		{name: "a rate is a number", method: "PUT", path: "/directions/a-to-b/snapshot?rate=fast", wantCode: 400, wantBody: "rate=\\\"fast\\\" is not a whole number"},
		{name: "what cannot be is the asker's fault", method: "PUT", path: "/directions/a-to-b/snapshot", worker: func(f *fakeWorker) { f.err = ErrInvalid }, wantCode: 400, wantBody: "a-to-b is not sending keys again", wantDone: []string{`snapshot a-to-b "" db -1 rate 0`}},
		{name: "sending chosen keys is stopped", method: "DELETE", path: "/directions/a-to-b/snapshot", wantCode: 202, wantBody: "=", wantDone: []string{"stop keys of a-to-b"}},
		{name: "stop is accepted", method: "PUT", path: "/connectors/source-b/stop", wantCode: 202, wantBody: "=", wantDone: []string{"stop source-b"}},
		{name: "restart has no content", method: "POST", path: "/connectors/sink-a/restart", wantCode: 204, wantBody: "=", wantDone: []string{"restart sink-a"}},
		{name: "restart with tasks answers with the status", method: "POST", path: "/connectors/source-a/restart?includeTasks=true", wantCode: 202, wantBody: "\"state\": \"RUNNING\"", wantDone: []string{"restart source-a"}},
		{name: "restart of what has failed leaves a running connector alone", method: "POST", path: "/connectors/source-a/restart?onlyFailed=true", wantCode: 202, wantBody: "\"state\": \"RUNNING\""},
		{name: "restart of what has failed restarts a failed connector", method: "POST", path: "/connectors/sink-b/restart?onlyFailed=true&includeTasks=true", wantCode: 202, wantBody: "\"name\": \"sink-b\"", wantDone: []string{"restart sink-b"}},

		{name: "an unknown connector is not found", method: "GET", path: "/connectors/nope", wantCode: 404, wantBody: "={\n  \"error_code\": 404,\n  \"message\": \"connector nope not found: this worker has source-a, sink-b, source-b, sink-a\"\n}\n"},
		{name: "an unknown connector has no status", method: "GET", path: "/connectors/nope/status", wantCode: 404, wantBody: "\"error_code\": 404"},
		{name: "an unknown connector has no offsets", method: "GET", path: "/connectors/nope/offsets", wantCode: 404, wantBody: "\"error_code\": 404"},
		{name: "an unknown connector is not paused", method: "PUT", path: "/connectors/nope/pause", wantCode: 404, wantBody: "\"error_code\": 404"},
		{name: "an unknown connector is not restarted", method: "POST", path: "/connectors/nope/restart", wantCode: 404, wantBody: "\"error_code\": 404"},
		{name: "the worker's own not found is not found", method: "PUT", path: "/connectors/source-a/pause", worker: func(f *fakeWorker) { f.err = ErrUnknownConnector }, wantCode: 404, wantBody: "\"error_code\": 404", wantDone: []string{"pause source-a"}},
		{name: "what is impossible at the moment is a conflict", method: "PUT", path: "/connectors/source-a/resume", worker: func(f *fakeWorker) { f.err = errors.Join(ErrNotNow, errors.New("the worker is stopping")) }, wantCode: 409, wantBody: "source-a is not resumed: not possible now", wantDone: []string{"resume source-a"}},
		{name: "what goes wrong is told", method: "POST", path: "/connectors/source-a/restart", worker: func(f *fakeWorker) { f.err = errors.New("disk full") }, wantCode: 500, wantBody: "=" + "{\n  \"error_code\": 500,\n  \"message\": \"source-a is not restarted: disk full\"\n}\n", wantDone: []string{"restart source-a"}},
		{name: "offsets that cannot be read are told", method: "GET", path: "/connectors/sink-b/offsets", worker: func(f *fakeWorker) { f.err = errors.New("connection refused") }, wantCode: 500, wantBody: "reading the offsets of sink-b: connection refused", wantDone: []string{"offsets sink-b"}},
		{name: "a connector that recorded nothing has no offsets", method: "GET", path: "/connectors/source-b/offsets", wantCode: 200, wantBody: "={\n  \"offsets\": []\n}\n", wantDone: []string{"offsets source-b"}},

		{name: "a body without configuration is validated", method: "PUT", path: "/connector-plugins/TwinlogSink/config/validate", wantCode: 200, wantBody: "\"name\": \"TwinlogSink\"", wantDone: []string{"validate"}},
		{name: "an unknown class is not found", method: "PUT", path: "/connector-plugins/Other/config/validate", body: "{}", wantCode: 404, wantBody: "connector class Other not found"},
		{name: "a body that is no JSON object is refused", method: "PUT", path: "/connector-plugins/TwinlogSink/config/validate", body: "[1]", wantCode: 400, wantBody: "\"error_code\": 400"},
		{name: "a body that is too large is refused", method: "PUT", path: "/connector-plugins/TwinlogSink/config/validate", body: `{"a":"` + strings.Repeat("x", maxBodyBytes) + `"}`, wantCode: 413, wantBody: "larger than 1048576 bytes"},
		{name: "a pre-check that cannot be made is an error", method: "PUT", path: "/connector-plugins/TwinlogSource/config/validate", worker: func(f *fakeWorker) { f.err = errors.New("no network") }, wantCode: 500, wantBody: "running the pre-check: no network", wantDone: []string{"validate"}},

		{name: "an unknown path is not found", method: "GET", path: "/nope", wantCode: 404, wantBody: "={\n  \"error_code\": 404,\n  \"message\": \"nothing is at /nope\"\n}\n"},
		{name: "the console is only at the root", method: "GET", path: "/index.html", wantCode: 404, wantBody: "\"error_code\": 404"},
		{name: "a wrong method says which are right", method: "GET", path: "/connectors/source-a/pause", wantCode: 405, wantBody: "/connectors/source-a/pause does not take GET, only PUT"},
		{name: "status is only read", method: "POST", path: "/status", wantCode: 405, wantBody: "/status does not take POST, only GET or HEAD"},
		{name: "connectors are not made over HTTP", method: "POST", path: "/connectors", body: "{}", wantCode: 405, wantBody: "\"error_code\": 405"},
		{name: "connectors are not deleted over HTTP", method: "DELETE", path: "/connectors/source-a", wantCode: 405, wantBody: "\"error_code\": 405"},
		{name: "HEAD of the status has no body", method: "HEAD", path: "/status", wantCode: 200, wantBody: "="},
		{name: "a path that is not clean is redirected", method: "GET", path: "//status", wantCode: 307, wantBody: "/status"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := twoWay()
			if test.worker != nil {
				test.worker(f)
			}
			got := ask(t, serve(t, f), test.method, test.path, strings.NewReader(test.body), test.headers...)
			if got.code != test.wantCode {
				t.Errorf("%s %s: %d, want %d", test.method, test.path, got.code, test.wantCode)
			}
			if all, ok := strings.CutPrefix(test.wantBody, "="); ok {
				if diff := cmp.Diff(all, got.body); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
			} else if !strings.Contains(got.body, test.wantBody) {
				t.Errorf("body is %q, want it to contain %q", got.body, test.wantBody)
			}
			if diff := cmp.Diff(test.wantDone, f.calls()); diff != "" {
				t.Errorf("the worker was asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswersKeepTheirShape(t *testing.T) {
	tests := []struct{ name, method, path, body, file string }{
		{"status", "GET", "/status", "", "status.json"},
		{"a running source", "GET", "/connectors/source-a/status", "", "connector_running.json"},
		{"a failed sink", "GET", "/connectors/sink-b/status", "", "connector_failed.json"},
		{"a stopped sink has no task", "GET", "/connectors/sink-a/status", "", "connector_stopped.json"},
		{"what a connector is", "GET", "/connectors/sink-b", "", "connector.json"},
		{"all connectors with status", "GET", "/connectors?expand=status", "", "connectors_status.json"},
		{"all connectors with status and info", "GET", "/connectors?expand=status&expand=info", "", "connectors_expanded.json"},
		{"offsets of a source", "GET", "/connectors/source-a/offsets", "", "offsets_source.json"},
		{"offsets of a sink", "GET", "/connectors/sink-b/offsets", "", "offsets_sink.json"},
		{"classes", "GET", "/connector-plugins", "", "plugins.json"},
		{"pre-check", "PUT", "/connector-plugins/TwinlogSource/config/validate", `{"connector.class": "TwinlogSource"}`, "validate.json"},
	}
	s := serve(t, twoWay())
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ask(t, s, test.method, test.path, strings.NewReader(test.body))
			if got.code != 200 || got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %d, %v", test.method, test.path, got.code, got.header)
			}
			golden(t, test.file, strings.ReplaceAll(got.body, s.Addr(), "127.0.0.1:8083"))
		})
	}
}

func TestStatusIsReadBackAsItWas(t *testing.T) {
	f := twoWay()
	got := ask(t, serve(t, f), "GET", "/status", nil)
	var back Status
	if err := json.Unmarshal([]byte(got.body), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.status, back); diff != "" {
		t.Errorf("status (-sent +read):\n%s", diff)
	}
}

func TestWrongMethodNamesTheRightOnes(t *testing.T) {
	got := ask(t, serve(t, twoWay()), "GET", "/connectors/source-a/pause", nil)
	if got.header.Get("Allow") != "PUT" {
		t.Errorf("Allow is %q, want PUT", got.header.Get("Allow"))
	}
}
