package admin

import (
	"net/http"
	"strings"
)

// explainUnrouted gives the mux's own refusals, 404 and 405, the form that
// all other errors have.
func (s *Server) explainUnrouted(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refusal := &headOnly{header: http.Header{}}
		handler.ServeHTTP(refusal, r)
		switch refusal.code {
		case http.StatusNotFound:
			s.writeError(w, refusal.code, "nothing is at "+r.URL.Path)
		case http.StatusMethodNotAllowed:
			allow := refusal.header.Get("Allow")
			w.Header().Set("Allow", allow)
			s.writeError(w, refusal.code, r.URL.Path+" does not take "+r.Method+", only "+strings.ReplaceAll(allow, ", ", " or "))
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// headOnly learns an answer's code and headers.
type headOnly struct {
	header http.Header
	code   int
}

// Header implements http.ResponseWriter.
func (h *headOnly) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *headOnly) WriteHeader(code int) { h.code = code }

// Write implements http.ResponseWriter.
func (h *headOnly) Write(b []byte) (int, error) { return len(b), nil }
