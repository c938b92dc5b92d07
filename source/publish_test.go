package source

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// ended is the end of a topic with one record.
func ended(value []byte, headers ...kgo.RecordHeader) kafka.Tail {
	return kafka.Tail{Records: []*kgo.Record{{Offset: 12, Value: value, Headers: headers}}, End: 13}
}

func TestPositionAtTheEndOfATopic(t *testing.T) {
	event := schema.NewEncoder(0).Append(nil, &schema.Event{Op: schema.OpWrite, Command: "SET", Seq: 5})
	header := func(text string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: schema.HeaderPosition, Value: []byte(text)}
	}
	written, err := offsets.AppendPosition(nil, offsets.Position{Seq: 5, Phase: offsets.PhaseStream, Replid: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		tail kafka.Tail
		seq  int64
		want string // of the error; empty: none
	}{
		{"an empty topic", kafka.Tail{}, 0, ""},
		{"what this link wrote", ended(event, header(string(written))), 5, ""},
		{"no event", ended([]byte("hello")), 0, "ends at offset 12 with what this link did not write"},
		{"an event without position", ended(event), 0, "carries no twinlog-position header"},
		{"a position that is none", ended(event, header("{")), 0, "decoding position"},
		{"a position of a newer version", ended(event, header(`{"version":9,"phase":"stream"}`)), 0, "run the newer twinlog that wrote it"},
		{"another event's position", ended(event, header(strings.Replace(string(written), `"seq":5`, `"seq":4`, 1))), 0, "its event has seq 5 and its position says 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &publisher{cfg: &Config{Link: "l", Topic: "l.a-to-b"}, decoder: schema.NewDecoder(nil)}
			pos, err := p.tailPosition(t.Context(), tt.tail)
			if tt.want == "" {
				if err != nil || pos.Seq != tt.seq {
					t.Errorf("position %+v, error %v", pos, err)
				}
				return
			}
			for _, want := range []string{"topic l.a-to-b", tt.want, "give the link a topic of its own", "__twinlog:l:*"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
			if !final(err) {
				t.Error("this error is taken for one that a new ring mends")
			}
		})
	}
}

func TestOwnerOfAPosition(t *testing.T) {
	p := &publisher{cfg: &Config{Topic: "l.a-to-b", Instance: "me"}, found: offsets.Position{Instance: "before", Seq: 7}}
	for _, tt := range []struct {
		name  string
		pos   offsets.Position
		taken bool
	}{
		{"its own", offsets.Position{Instance: "me", Seq: 9}, false},
		{"what it began with", offsets.Position{Instance: "before", Seq: 7}, false},
		{"more of who was before", offsets.Position{Instance: "before", Seq: 8}, true},
		{"another one's", offsets.Position{Instance: "other", Seq: 9}, true},
		{"an empty topic has no owner", offsets.Position{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var taken *TakenOverError
			if err := p.checkOwner(tt.pos); errors.As(err, &taken) != tt.taken {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAPositionIsAdoptedOnceAndComparedLater(t *testing.T) {
	s := New(Config{Site: "a", Topic: "l.a-to-b", Instance: "me", Encoder: schema.NewEncoder(0), Decoder: func() *schema.Decoder { return nil }, MaxEventBytes: 1 << 20})
	p := &publisher{cfg: &s.cfg, lane: s.lane, source: s, drain: make(chan struct{}), known: make(chan struct{})}
	begin := offsets.Position{Seq: 7, ReplOffset: 70, Replid: "r", Phase: offsets.PhaseStream, Instance: "before"}
	if err := p.adopt(begin); err != nil {
		t.Fatal(err)
	}
	if !isClosed(p.known) || !isClosed(s.Attached()) || s.lane.position() != begin {
		t.Errorf("position %+v", s.lane.position())
	}
	if err := p.adopt(begin); err != nil {
		t.Errorf("nothing was committed meanwhile: %v", err)
	}
	err := p.adopt(offsets.Position{Seq: 8, Instance: "other"})
	var taken *TakenOverError
	if !errors.As(err, &taken) || taken.Instance != "other" {
		t.Errorf("error %v", err)
	}
	if err := p.adopt(offsets.Position{Seq: 6, Instance: "long before"}); !errors.Is(err, ErrKafkaWentBack) {
		t.Errorf("a topic that has lost its end: %v", err)
	}
	var topic *kafka.TopicError
	if err := p.adopt(offsets.Position{}); !errors.As(err, &topic) {
		t.Errorf("an empty topic where events were committed: %v", err)
	}
}
