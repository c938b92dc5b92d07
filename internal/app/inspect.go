package app

import (
	"context"
	"errors"
	"fmt"

	"twinlog/internal/admin"
	"twinlog/internal/precheck"
)

// Validate runs the pre-check.
func (w *Worker) Validate(ctx context.Context) (admin.Validation, error) {
	if w.o.Precheck == nil {
		return admin.Validation{}, errors.New("this worker has no pre-check")
	}
	report, err := w.o.Precheck(ctx)
	if err != nil {
		return admin.Validation{}, err
	}
	var v admin.Validation
	for _, i := range report.Items {
		item := admin.ValidationItem{Name: i.Name, Value: i.Detail}
		if i.Remedy != "" {
			item.Remedies = []string{i.Remedy}
		}
		if i.Status == precheck.Error {
			item.Errors = []string{i.Detail}
		}
		v.Items = append(v.Items, item)
	}
	return v, nil
}

// Offsets tells how far a connector got.
func (w *Worker) Offsets(_ context.Context, name string) (admin.ConnectorOffsets, error) {
	for _, h := range w.halves {
		switch name {
		case h.source.name:
			if s := sourceOf(h.source); s != nil {
				if p := s.Status().Committed; !p.IsZero() {
					return admin.ConnectorOffsets{Source: []admin.SourceOffset{{Site: h.From, Lane: lane, Replid: p.Replid, ReplOffset: p.ReplOffset, Seq: p.Seq}}}, nil
				}
			}
			return admin.ConnectorOffsets{}, nil
		case h.sink.name:
			if k := sinkOf(h.sink); k != nil {
				if m := k.Status().Mark; !m.IsZero() {
					return admin.ConnectorOffsets{Sink: []admin.SinkOffset{{Topic: h.topic, Offset: m.Offset + 1}}}, nil
				}
			}
			return admin.ConnectorOffsets{}, nil
		}
	}
	return admin.ConnectorOffsets{}, fmt.Errorf("%w: %s", admin.ErrUnknownConnector, name)
}
