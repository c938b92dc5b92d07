package app

import (
	"fmt"
	"strings"
	"time"

	"twinlog/internal/admin"
	"twinlog/offsets"
	"twinlog/sink"
	"twinlog/source"
)

// The methods here are what the HTTP listener asks for (admin.Worker).
var _ admin.Worker = (*Worker)(nil)

// Status tells what the link does.
func (w *Worker) Status() admin.Status {
	w.mu.Lock()
	waiting, prechecking := w.waiting, w.prechecking
	w.mu.Unlock()
	st := admin.Status{Link: w.o.Link, Home: w.o.Home, Sites: map[string]admin.Site{}}
	for name := range w.o.Sites {
		st.Sites[name] = admin.Site{State: "UNKNOWN"}
	}
	for _, h := range w.halves { // where no source runs, the sink tells
		if k := sinkOf(h.sink); k != nil {
			st.Sites[h.To] = siteState(k.Status().Connected)
		}
	}
	for _, h := range w.halves {
		d, connected := h.status(waiting)
		if prechecking {
			d.Phase = admin.PhasePrecheck
		}
		st.Directions = append(st.Directions, d)
		st.Sites[h.From] = siteState(connected)
	}
	for name, site := range st.Sites {
		st.Sites[name] = w.countConflicts(name, site)
	}
	st.Conflicts = shownConflicts(w.lastConflicts())
	return st
}

// status returns a direction's state and whether its origin is connected.
func (h *half) status(waiting string) (admin.Direction, bool) {
	d := admin.Direction{Name: h.Name(), Reason: waiting}
	s, k := sourceOf(h.source), sinkOf(h.sink)
	var src source.Status
	d.Phase, src = phase(s)
	state, trace, reason, _ := h.source.snapshot()
	d.Source = admin.SourceStatus{
		Name: h.source.name, State: state, Trace: trace, Position: positionText(src.Position),
		Seq: src.Position.Seq, Epoch: src.Position.Epoch, BehindSeconds: src.Behind.Seconds(),
	}
	d.OnDemand = shownOnDemand(src.OnDemand)
	d.Reason = firstOf(d.Reason, src.Waiting, reason)
	var applied sink.Status
	state, trace, reason, _ = h.sink.snapshot()
	if k != nil {
		applied = k.Status()
	}
	d.Sink = admin.SinkStatus{
		Name: h.sink.name, State: state, Trace: trace, Seq: applied.Mark.Seq, Offset: applied.Mark.Offset,
		LagEvents: applied.LagEvents(), LagSeconds: applied.LagSeconds(time.Now()), Quarantine: []admin.Quarantined{},
	}
	if k != nil {
		d.Sink.LeftOut, d.Sink.DeadLetters = k.LeftOut(), k.DeadLetters()
		d.Sink.QuarantinedKeys, d.Sink.Quarantine = shownQuarantine(k.Quarantine())
	}
	d.Reason = firstOf(d.Reason, applied.Waiting, reason)
	return d, src.Connected
}

func shownQuarantine(n int, last []sink.Quarantined) (int, []admin.Quarantined) {
	shown := make([]admin.Quarantined, 0, len(last))
	for _, q := range last {
		key := shortKey(q.Key[:min(len(q.Key), offsets.MaxConflictKey)])
		shown = append(shown, admin.Quarantined{DB: q.DB, Key: admin.Key(key), Seq: q.Seq, Reason: q.Reason})
	}
	return n, shown
}

func siteState(connected bool) admin.Site {
	if connected {
		return admin.Site{State: "CONNECTED"}
	}
	return admin.Site{State: "DISCONNECTED"}
}

func positionText(p offsets.Position) string {
	if p.Replid == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.Replid, p.ReplOffset)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// Ready returns why the worker does not do its work yet; nothing if it does.
func (w *Worker) Ready() []string {
	var reasons []string
	w.mu.Lock()
	waiting, running := w.waiting, w.running
	w.mu.Unlock()
	switch {
	case waiting != "":
		return []string{waiting}
	case running == nil:
		return []string{"starting"}
	case running.Err() != nil:
		return []string{"draining"}
	}
	for _, h := range w.halves {
		state, _, reason, _ := h.sink.snapshot()
		if k := sinkOf(h.sink); state == admin.StateRunning && (k == nil || !k.Status().Applying) {
			if k != nil {
				reason = firstOf(k.Status().Waiting, "nothing is applied yet")
			}
			reasons = append(reasons, fmt.Sprintf("%s does not apply yet: %s", h.sink.name, reason))
		}
	}
	for _, d := range w.Status().Directions {
		for _, c := range []struct {
			name  string
			state admin.State
			trace string
		}{{d.Source.Name, d.Source.State, d.Source.Trace}, {d.Sink.Name, d.Sink.State, d.Sink.Trace}} {
			if c.state == admin.StateFailed || c.state == admin.StateUnassigned {
				reasons = append(reasons, strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", c.name, c.state, c.trace), ": "))
			}
		}
		if d.Phase != admin.PhaseSynchronizing && d.Source.State == admin.StateRunning {
			reasons = append(reasons, fmt.Sprintf("%s is in phase %s: %s", d.Name, d.Phase, d.Reason))
		}
	}
	return reasons
}
