package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
)

// snapshotKeys begins to publish chosen keys again. They are chosen by the
// parameters match (percent-encoded bytes), db and rate; the answer has the id
// and whether it has begun.
func (s *Server) snapshotKeys(w http.ResponseWriter, r *http.Request) {
	direction := r.PathValue("direction")
	id, begun := "", false
	ok := s.act(w, r, direction, "sending keys again", func(ctx context.Context, direction string) error {
		keys, err := keysOf(r)
		if err != nil {
			return err
		}
		id, begun, err = s.worker.SnapshotKeys(ctx, direction, keys)
		return err
	})
	if ok {
		s.writeJSON(w, http.StatusAccepted, map[string]any{"id": id, "begun": begun})
	}
}

func keysOf(r *http.Request) (Keys, error) {
	query := r.URL.Query()
	k := Keys{Match: query.Get("match"), DB: -1}
	for name, set := range map[string]func(n int){"db": func(n int) { k.DB = int32(n) }, "rate": func(n int) { k.Rate = n }} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return k, fmt.Errorf("%w: %s=%q is not a whole number from 0 on", ErrInvalid, name, text)
		}
		set(int(n))
	}
	return k, nil
}

// stopKeys ends that.
func (s *Server) stopKeys(w http.ResponseWriter, r *http.Request) {
	if s.act(w, r, r.PathValue("direction"), "stopped from sending keys again", s.worker.StopKeys) {
		w.WriteHeader(http.StatusAccepted)
	}
}
