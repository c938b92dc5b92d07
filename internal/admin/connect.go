package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// The shapes of Kafka Connect's REST interface. A connector here has one task,
// which is in the connector's state; in Connect's words a stopped one has none.

type connectorState struct {
	State    State  `json:"state"`
	WorkerID string `json:"worker_id"`
	Trace    string `json:"trace,omitempty"`
}

type taskState struct {
	ID       int    `json:"id"`
	State    State  `json:"state"`
	WorkerID string `json:"worker_id"`
	Trace    string `json:"trace,omitempty"`
}

type connectorStatus struct {
	Name      string         `json:"name"`
	Connector connectorState `json:"connector"`
	Tasks     []taskState    `json:"tasks"`
	Type      string         `json:"type"`
}

type taskID struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"`
}

type connectorInfo struct {
	Name   string            `json:"name"`
	Config map[string]string `json:"config"`
	Tasks  []taskID          `json:"tasks"`
	Type   string            `json:"type"`
}

func (s *Server) connectorStatus(c connector) connectorStatus {
	st := connectorStatus{
		Name: c.name, Connector: connectorState{c.state, s.Addr(), c.trace}, Tasks: []taskState{}, Type: c.kind,
	}
	if c.state != StateStopped {
		st.Tasks = append(st.Tasks, taskState{0, c.state, s.Addr(), c.trace})
	}
	return st
}

// info shows where a connector stands in the link. What it is configured with
// is in the worker's file.
func (s *Server) info(c connector) connectorInfo {
	info := connectorInfo{
		Name: c.name, Type: c.kind, Tasks: []taskID{},
		Config: map[string]string{
			"name": c.name, "connector.class": classes[c.kind], "tasks.max": "1",
			"link": s.worker.Status().Link, "direction": c.direction,
		},
	}
	if c.state != StateStopped {
		info.Tasks = append(info.Tasks, taskID{c.name, 0})
	}
	return info
}

// listConnectors answers with the names, or with what expand asks for.
func (s *Server) listConnectors(w http.ResponseWriter, r *http.Request) {
	list := s.worker.Status().connectors()
	expand := r.URL.Query()["expand"]
	if len(expand) == 0 {
		names := make([]string, 0, len(list))
		for _, c := range list {
			names = append(names, c.name)
		}
		s.writeJSON(w, http.StatusOK, names)
		return
	}
	expanded := make(map[string]map[string]any, len(list))
	for _, c := range list {
		parts := map[string]any{}
		if slices.Contains(expand, "status") {
			parts["status"] = s.connectorStatus(c)
		}
		if slices.Contains(expand, "info") {
			parts["info"] = s.info(c)
		}
		expanded[c.name] = parts
	}
	s.writeJSON(w, http.StatusOK, expanded)
}

// oneConnector answers with show of the connector that the path names.
func (s *Server) oneConnector(show func(connector) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c, ok := s.named(w, r); ok {
			s.writeJSON(w, http.StatusOK, show(c))
		}
	}
}

// named finds the connector that the path names, or answers 404.
func (s *Server) named(w http.ResponseWriter, r *http.Request) (connector, bool) {
	name := r.PathValue("name")
	list := s.worker.Status().connectors()
	names := make([]string, 0, len(list))
	for _, c := range list {
		if c.name == name {
			return c, true
		}
		names = append(names, c.name)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	s.writeError(w, http.StatusNotFound, "connector "+name+" not found: this worker has "+strings.Join(names, ", "))
	return connector{}, false
}

// resume is Kafka Connect's; with ?snapshot=true a source begins with a
// snapshot of all data.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	do := s.worker.Resume
	if r.URL.Query().Get("snapshot") == "true" {
		do = s.worker.Snapshot
	}
	s.steer("resumed", http.StatusAccepted, do)(w, r)
}

// resync empties a site and has it filled again.
func (s *Server) resync(w http.ResponseWriter, r *http.Request) {
	if s.act(w, r, r.PathValue("site"), "being filled again", s.worker.Resync) {
		w.WriteHeader(http.StatusAccepted)
	}
}

// steer does something to a connector and answers with an empty body, as
// Connect does.
func (s *Server) steer(done string, code int, do func(ctx context.Context, name string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, ok := s.named(w, r)
		if ok && s.act(w, r, c.name, done, do) {
			w.WriteHeader(code)
		}
	}
}

// restart begins a connector's run anew. With one of Connect's two parameters
// the answer is the status, without it is empty.
func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	c, ok := s.named(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	onlyFailed := query.Get("onlyFailed") == "true"
	if !onlyFailed || c.state == StateFailed {
		if !s.act(w, r, c.name, "restarted", s.worker.Restart) {
			return
		}
	}
	if !onlyFailed && query.Get("includeTasks") != "true" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if c, ok = s.named(w, r); ok {
		s.writeJSON(w, http.StatusAccepted, s.connectorStatus(c))
	}
}

// act calls the worker and tells the log who asked; false if it has answered
// with an error.
func (s *Server) act(w http.ResponseWriter, r *http.Request, name, done string, do func(ctx context.Context, name string) error) bool {
	ctx, cancel := s.steering(r)
	defer cancel()
	if err := do(ctx, name); err != nil {
		s.writeWorkerError(w, name+" is not "+done, err)
		return false
	}
	s.log.Info("steered over HTTP", "name", name, "done", done, "client", r.RemoteAddr)
	return true
}
