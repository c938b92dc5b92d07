package sink

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// What failed in an EXEC is read again from the topic: retention may have
// removed what came before it, but not itself.
func TestWhatFailedIsReadAgainFromWhereItIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		from   int64   // offset of the EXEC's first event
		failed []int64 // offsets; nil: not known
		begins int64   // the log
		held   []string
		err    string
	}{
		{"all is there", 0, []int64{2}, 0, []string{"0:failed"}, ""},
		{"what came before it is gone", 1, []int64{2}, 2, []string{"0:failed"}, ""},
		{"it is gone", 0, []int64{2}, 3, nil, "offset 2 is not in the log any more"},
		{"the first one of two is gone", 0, []int64{0, 2}, 1, nil, "offset 0 is not in the log any more"},
		{"one of those of which it is one is gone", 1, nil, 2, nil, "offset 1 is not in the log any more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := testSink()
			s.cfg.DeadLetter.Topic = "l.dead-letter"
			s.cfg.Kafka = filled(t, s.cfg.Topic, []*schema.Event{write("SET", "a", "v"), write("SET", "b", "v"), write("SADD", "failed", "x"), write("SET", "c", "v")})
			retain(t, s.cfg.Kafka, s.cfg.Topic, tt.begins)
			server, mark := testkit.StartRedis(t), offsets.Mark{TopicID: s.cfg.TopicID, Seq: 4, Offset: 3}
			if err := server.Client().Set(t.Context(), "__twinlog:l:a-to-b:0", mark.String(), 0).Err(); err != nil {
				t.Fatal(err)
			}
			target := connected(t, s, server)
			if _, err := s.start(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			d := &deadLetters{quarantine: testQuarantine(), sink: s, out: &letterBoxOf{}}
			err := d.reckon(t.Context(), target, &suspect{from: tt.from, offsets: tt.failed}, mark)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "twinlog resync --site b") || healable(err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.held, d.members()); len(tt.held)+len(d.members()) > 0 && diff != "" {
				t.Errorf("in quarantine (-want +got):\n%s", diff)
			}
		})
	}
}
