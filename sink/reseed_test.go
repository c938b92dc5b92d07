package sink

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/schema"
)

// Up to the snapshot that fills a target again nothing is applied, and what is
// missing before it is covered by it; behind its beginning nothing may be.
func TestWhatComesBeforeTheSnapshotThatFillsATargetIsPassedOver(t *testing.T) {
	c := newCollector(t, testSink())
	c.refill.on = true
	for _, r := range []*kgo.Record{record(15, set(14, "old")), record(17, set(16, "old")), record(19, control(18, schema.SnapshotBegin)), record(20, set(19, "new"))} {
		if err := c.take(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if !c.refill.begun || c.refill.offset != 19 {
		t.Errorf("refill %+v", c.refill)
	}
	if err := c.take(t.Context(), record(22, set(21, "v"))); err == nil || !strings.Contains(err.Error(), "events are missing") {
		t.Errorf("a hole behind SNAPSHOT_BEGIN: %v", err)
	}
	lines := c.lines()
	if !slices.Contains(lines, "SET k new") || slices.Contains(lines, "SET k old") {
		t.Errorf("applied: %q", lines)
	}
}
