package testkit

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeWorker is what the test binary does when it stands in for the program:
// it serves at the address of its configuration until SIGTERM, then exits 7.
func fakeWorker() {
	if os.Getenv("TWINLOG_FAILPOINT") != "" {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	yaml, err := os.ReadFile(os.Args[len(os.Args)-1])
	if err != nil {
		os.Exit(1)
	}
	if os.Args[1] != "run" {
		os.Stdout.WriteString("ran " + os.Args[1])
		os.Exit(3)
	}
	os.Stdout.WriteString("starting\n")
	addr := regexp.MustCompile(`http: \{listen: "(.*)"\}`).FindSubmatch(yaml)[1]
	server := &http.Server{Addr: string(addr), ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.Write([]byte(r.Method))
	})}
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM)
	go server.ListenAndServe()
	<-stopped
	os.Exit(7)
}

func newFakeProcess(t *testing.T) *Process {
	p := newProcess(t, os.Args[0], "link: l")
	t.Setenv(fakeWorkerEnv, "1")
	return p
}

func TestProcessIsStartedStoppedAndKilled(t *testing.T) {
	p := newFakeProcess(t)
	for range 2 {
		p.Start()
		p.AwaitReady(10 * time.Second)
		if code, body, err := p.Put("/x"); err != nil || code != 200 || string(body) != "PUT" {
			t.Errorf("PUT: %d %s %v", code, body, err)
		}
		if code, _, err := p.Get("/away"); err != nil || code != 503 {
			t.Errorf("GET: %d %v", code, err)
		}
		if code := p.Stop(); code != 7 {
			t.Errorf("exit code %d", code)
		}
	}
	p.Start()
	p.AwaitReady(10 * time.Second)
	p.Kill()
	if p.Running() {
		t.Error("it runs after kill -9")
	}
	if _, _, err := p.Get("/readyz"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a killed worker answers: %v", err)
	}
	log, err := os.ReadFile(p.LogFile())
	if err != nil || strings.Count(string(log), "starting\n") != 3 {
		t.Errorf("log %q, %v", log, err)
	}
}

func TestProcessDiesAtAFailpoint(t *testing.T) {
	p := newFakeProcess(t)
	p.Start(Failpoint("produced", 3))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if code, err := p.Wait(ctx); code != -1 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestProcessRunsOtherCommands(t *testing.T) {
	p := newFakeProcess(t)
	code, stdout, stderr := p.Run(t.Context(), "status", "--json")
	if code != 3 || string(stdout) != "ran status" || len(stderr) > 0 {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if filepath.Base(p.Config()) != "twinlog.yml" || p.Addr() == "" {
		t.Errorf("config %s, address %s", p.Config(), p.Addr())
	}
}
