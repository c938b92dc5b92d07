package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
)

// foreign is a producer that a ring knows nothing of.
func (s *site) foreign() *kgo.Client {
	return s.client(kgo.TransactionalID("foreign."+s.topic), kgo.DefaultProduceTopic(s.topic))
}

// begins produces one record in a transaction that stays open.
func (s *site) begins(c *kgo.Client, value string) {
	s.t.Helper()
	if err := errors.Join(c.BeginTransaction(), c.ProduceSync(s.ctx(), kgo.StringRecord(value)).FirstErr()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) ends(c *kgo.Client, how kgo.TransactionEndTry) {
	s.t.Helper()
	if err := c.EndTransaction(s.ctx(), how); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) deleteUpTo(offset int64) {
	s.t.Helper()
	var all kadm.Offsets
	all.Add(kadm.Offset{Topic: s.topic, Partition: 0, At: offset})
	answers, err := s.admin().DeleteRecords(s.ctx(), all)
	if err := errors.Join(err, answers.Error()); err != nil {
		s.t.Fatal(err)
	}
}

// grows waits until the log ends at an offset: Kafka answers a commit before
// it writes the control record.
func (s *site) grows(end int64) {
	s.t.Helper()
	adm := s.admin()
	testkit.Eventually(s.t, patience, func() error {
		ends, err := adm.ListEndOffsets(s.ctx(), s.topic)
		if at, _ := ends.Lookup(s.topic, 0); err == nil && at.Offset != end {
			err = fmt.Errorf("the log ends at %d, want %d", at.Offset, end)
		}
		return err
	})
}

func tailWaits(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	other := s.foreign()
	s.begins(other, "1000")
	old := s.open(nil)
	for seq := 1; seq <= 3; seq++ {
		s.publish(old, seq)
	}
	old.Close()
	successor := s.open(nil)

	stable, err := kafka.ReadTail(s.ctx(), s.options(), s.topic, 0)
	if err != nil || len(stable.Records) != 0 {
		t.Errorf("ReadTail found %v behind an open transaction, error %v", s.seqs(stable.Records), err)
	}
	short, cancel := context.WithTimeout(s.ctx(), 300*time.Millisecond)
	defer cancel()
	if tail, err := successor.Tail(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the tail is %v before it is settled, error %v", s.seqs(tail.Records), err)
	}
	s.ends(other, kgo.TryAbort)
	if got := s.tail(successor); len(got) != 3 || got[2] != 3 {
		t.Errorf("the tail is %v, want 1, 2 and 3", got)
	}
}

func tailBehindControlRecords(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	s.publish(ring, 1)
	other := s.foreign()
	for range 40 { // two offsets each, of which a reader gets the second
		s.begins(other, "1000")
		s.ends(other, kgo.TryAbort)
	}
	tail, err := ring.Tail(s.ctx())
	if got := s.seqs(tail.Records); err != nil || len(got) != 1 || tail.End-tail.Records[0].Offset <= 64 {
		t.Fatalf("tail %v from %d to %d, error %v", got, tail.Start, tail.End, err)
	}
	if tail, err = kafka.ReadTail(s.ctx(), s.options(), s.topic, 0); err != nil || len(tail.Records) != 1 {
		t.Errorf("ReadTail: %v, error %v", s.seqs(tail.Records), err)
	}
}

func emptyTails(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	check := func(what string, start, end int64) {
		t.Helper()
		tail, err := ring.Tail(s.ctx())
		if err != nil || len(tail.Records) != 0 || tail.Start != start || tail.End != end {
			t.Errorf("%s: tail %v from %d to %d, error %v; want none from %d to %d", what, s.seqs(tail.Records), tail.Start, tail.End, err, start, end)
		}
	}
	check("nothing was written", 0, 0)
	other := s.foreign()
	s.begins(other, "1000")
	s.ends(other, kgo.TryAbort)
	s.grows(2)
	check("only an aborted transaction", 0, 2)
	s.publish(ring, 1)
	s.grows(4)
	s.deleteUpTo(3)
	check("only the control record is left", 3, 4)
	s.deleteUpTo(4)
	check("retention removed everything", 4, 4)
	s.publish(ring, 2)
	if got := s.tail(ring); len(got) != 1 || got[0] != 2 {
		t.Errorf("the tail is %v, want 2", got)
	}
}

func consumerSeesControlRecords(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	c, err := kafka.NewConsumer(s.ctx(), kafka.ConsumerConfig{Client: s.options(), Topic: s.topic, FromStart: true, Offset: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.EndOffset() != -1 {
		t.Errorf("the end is %d before anything was read", c.EndOffset())
	}
	s.publish(ring, 1)
	s.grows(2)
	other := s.foreign()
	s.begins(other, "1000")
	s.ends(other, kgo.TryAbort)
	s.grows(4)
	s.publish(ring, 2)
	var got []string
	for len(got) < 5 {
		records, err := c.Poll(s.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			switch {
			case !r.Attrs.IsControl():
				got = append(got, string(r.Value))
			case r.Key[3] == 1:
				got = append(got, "commit")
			default:
				got = append(got, "abort")
			}
		}
	}
	if text := strings.Join(got, " "); text != "1 commit abort 2 commit" {
		t.Errorf("read %q", text)
	}
	if c.EndOffset() != 6 {
		t.Errorf("the end is %d, want 6", c.EndOffset())
	}
}

func consumerNeverJumps(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	for seq := 1; seq <= 5; seq++ {
		s.publish(ring, seq)
	}
	s.grows(10)
	s.deleteUpTo(4)
	for _, tt := range []struct {
		name   string
		offset int64
		want   string
	}{
		{"before the log's start", 3, "retention"},
		{"behind the log's end", 11, "created the topic anew"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := kafka.NewConsumer(s.ctx(), kafka.ConsumerConfig{Client: s.options(), Topic: s.topic, Offset: tt.offset})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			records, err := c.Poll(s.ctx())
			var gone *kafka.RangeError
			if !errors.As(err, &gone) || len(records) != 0 {
				t.Fatalf("%d records, error %v", len(records), err)
			}
			if gone.Offset != tt.offset || gone.Start != 4 || gone.End != 10 || gone.Topic != s.topic || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v: %v", gone, err)
			}
			if !kafka.Permanent(err) || kafka.Retryable(err) {
				t.Errorf("Permanent %v, Retryable %v", kafka.Permanent(err), kafka.Retryable(err))
			}
		})
	}
	c, err := kafka.NewConsumer(s.ctx(), kafka.ConsumerConfig{Client: s.options(), Topic: s.topic, Offset: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.publish(ring, 6)
	records, err := c.Poll(s.ctx())
	if got := s.seqs(records); err != nil || len(got) != 1 || got[0] != 6 {
		t.Errorf("from the log's end on: %v, error %v", got, err)
	}
}

func consumerGoesOn(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	c, err := kafka.NewConsumer(s.ctx(), kafka.ConsumerConfig{Client: s.options(), Topic: s.topic, FromStart: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const events = 50
	published := make(chan error, 1)
	ctx := s.ctx()
	go func() {
		var err error
		for seq := 1; err == nil && seq <= events; seq++ {
			err = ring.Publish(ctx, s.batch(seq, seq), nothing)
		}
		published <- err
	}()
	var got []*kgo.Record
	gaveUp := 0
	for len(s.seqs(got)) < events {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		records, err := c.Poll(short)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			gaveUp++
		case err != nil:
			t.Fatal(err)
		}
		for _, r := range records {
			got = append(got, &kgo.Record{Value: r.Value, Attrs: r.Attrs})
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	for i, seq := range s.seqs(got) {
		if seq != i+1 {
			t.Fatalf("event %d has seq %d", i, seq)
		}
	}
	if gaveUp == 0 {
		t.Error("no poll was given up")
	}
}

func mirrorRoundTrip(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	group := "twinlog." + s.topic
	fetch := func(want kafka.Mirror) {
		t.Helper()
		testkit.Eventually(t, patience, func() error { // until there is a coordinator
			got, err := kafka.FetchMirror(s.ctx(), s.options(), group, s.topic, 0)
			if err != nil && !kafka.Retryable(err) || err == nil && got != want {
				t.Fatalf("mirror %+v, error %v; want %+v", got, err, want)
			}
			return err
		})
	}
	fetch(kafka.Mirror{Offset: -1})
	m, err := kafka.NewMirrorCommitter(s.options(), group, s.topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for offset, metadata := range []string{"", "1 0 17"} {
		if err := m.Commit(s.ctx(), int64(offset), metadata); err != nil {
			t.Fatal(err)
		}
		fetch(kafka.Mirror{Offset: int64(offset), Metadata: metadata})
	}
	unknown, err := kafka.NewMirrorCommitter(s.options(), group, s.topic+"-unknown", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unknown.Close()
	if err := unknown.Commit(s.ctx(), 1, ""); !kafka.Retryable(err) || !strings.Contains(err.Error(), group) {
		t.Errorf("committing for a topic that is not there: %v", err)
	}
}
