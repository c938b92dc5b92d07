package admin

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// routes is every path that the listener answers.
func (s *Server) routes(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.console)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: s.http.ErrorLog}))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.status)

	mux.HandleFunc("GET /connectors", s.listConnectors)
	mux.HandleFunc("GET /connectors/{name}", s.oneConnector(func(c connector) any { return s.info(c) }))
	mux.HandleFunc("GET /connectors/{name}/status", s.oneConnector(func(c connector) any { return s.connectorStatus(c) }))
	mux.HandleFunc("GET /connectors/{name}/offsets", s.offsets)
	mux.HandleFunc("PUT /connectors/{name}/pause", s.steer("paused", http.StatusAccepted, s.worker.Pause))
	mux.HandleFunc("PUT /connectors/{name}/resume", s.resume)
	mux.HandleFunc("PUT /connectors/{name}/stop", s.steer("stopped", http.StatusAccepted, s.worker.Stop))
	mux.HandleFunc("POST /connectors/{name}/restart", s.restart)
	mux.HandleFunc("PUT /sites/{site}/resync", s.resync)
	mux.HandleFunc("PUT /directions/{direction}/snapshot", s.snapshotKeys)
	mux.HandleFunc("DELETE /directions/{direction}/snapshot", s.stopKeys)
	mux.HandleFunc("GET /connector-plugins", s.plugins)
	mux.HandleFunc("PUT /connector-plugins/{class}/config/validate", s.validate)
	return s.guard(limitBody(s.explainUnrouted(mux)))
}

func limitBody(next http.Handler) http.Handler { return http.MaxBytesHandler(next, maxBodyBytes) }

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.worker.Status()
	if st.Sites == nil {
		st.Sites = map[string]Site{}
	}
	if st.Directions == nil {
		st.Directions = []Direction{}
	}
	if st.Conflicts == nil {
		st.Conflicts = []Conflict{}
	}
	s.writeJSON(w, http.StatusOK, st)
}

// healthz tells that the process lives. A failed connector needs an operator,
// not a restart: it is in /readyz.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	s.probe(w, r, true, "healthy", nil)
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	reasons := s.worker.Ready()
	s.probe(w, r, len(reasons) == 0, "ready", reasons)
}

// probe answers 200, or 503 with the reasons, one on a line.
func (s *Server) probe(w http.ResponseWriter, r *http.Request, ok bool, word string, reasons []string) {
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	lines := make([]string, 0, len(reasons))
	for _, reason := range reasons {
		lines = append(lines, oneLine(reason))
	}
	if wantsJSON(r) {
		s.writeJSON(w, code, map[string]any{word: ok, "reasons": lines})
		return
	}
	if ok {
		lines = []string{word}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	s.write(w, []byte(strings.Join(lines, "\n")+"\n"))
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(strings.ToLower(r.Header.Get("Accept")), "application/json")
}
