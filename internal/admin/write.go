package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// writeJSON answers with v, indented for those who look at it with curl.
func (s *Server) writeJSON(w http.ResponseWriter, code int, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		s.log.Error("encoding an HTTP answer", "error", err)
		code = http.StatusInternalServerError
		b.Reset()
		fmt.Fprintf(&b, "{\"error_code\": %d, \"message\": \"the answer cannot be written as JSON: see the log\"}\n", code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	s.write(w, b.Bytes())
}

// write sends the answer's body. A client that is gone is no one's concern.
func (s *Server) write(w http.ResponseWriter, body []byte) {
	if _, err := w.Write(body); err != nil {
		s.log.Debug("answering over HTTP", "error", err)
	}
}

// errorAnswer is how Kafka Connect tells errors.
type errorAnswer struct {
	ErrorCode int    `json:"error_code"`
	Message   string `json:"message"`
}

func (s *Server) writeError(w http.ResponseWriter, code int, message string) {
	s.writeJSON(w, code, errorAnswer{code, message})
}

// writeWorkerError answers for a worker that refused or could not.
func (s *Server) writeWorkerError(w http.ResponseWriter, doing string, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrUnknownConnector):
		code = http.StatusNotFound
	case errors.Is(err, ErrInvalid):
		code = http.StatusBadRequest
	case errors.Is(err, ErrNotNow):
		code = http.StatusConflict // Connect's answer for "try again"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = http.StatusServiceUnavailable
	}
	if code >= http.StatusInternalServerError {
		s.log.Error("request over HTTP", "doing", doing, "error", err)
	}
	s.writeError(w, code, doing+": "+err.Error())
}
