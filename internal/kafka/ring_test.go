package kafka_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
)

func publishesInOrder(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	const batches = 300
	ring := s.open(nil)
	var committed []int // by the ring's goroutine, one after the other
	seq := 0
	var ends []int
	for i := range batches {
		from := seq + 1
		seq += 1 + i%4
		ends = append(ends, seq)
		if err := ring.Publish(s.ctx(), s.batch(from, seq), func() { committed = append(committed, i) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := ring.Wait(s.ctx()); err != nil {
		t.Fatal(err)
	}
	ring.Close()
	for i := range batches {
		if i >= len(committed) || committed[i] != i {
			t.Fatalf("%d callbacks came, in the order %v", len(committed), committed)
		}
	}
	s.holdsDense(seq)

	at, commits := 0, 0
	var transaction, former int64 = -1, -1
	for _, r := range s.everything() {
		if r.Attrs.IsControl() {
			commits++
			continue
		}
		seq := s.seqs([]*kgo.Record{r})[0]
		switch {
		case transaction == -1 && r.ProducerID == former:
			t.Fatalf("seq %d: two batches in turn have one producer, %d", seq, former)
		case transaction != -1 && r.ProducerID != transaction:
			t.Fatalf("seq %d: its batch began with producer %d, it comes from %d", seq, transaction, r.ProducerID)
		}
		transaction = r.ProducerID
		if last := seq == ends[at]; last != (len(r.Headers) == 1) {
			t.Fatalf("seq %d has %d headers and is the last of its batch: %v", seq, len(r.Headers), last)
		} else if last {
			at, former, transaction = at+1, transaction, -1
		}
	}
	if commits != batches {
		t.Errorf("%d transactions for %d batches", commits, batches)
	}
}

func uncommittedIsNotSeen(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	ring := s.open(nil, w.option())
	s.publish(ring, 1)
	commit := w.stop(kmsg.EndTxn, "twinlog."+s.topic+".1")
	if err := ring.Publish(s.ctx(), s.batch(2, 4), nothing); err != nil {
		t.Fatal(err)
	}
	commit.await(t)
	testkit.Eventually(t, patience, func() error { // until the first commit's marker is written
		tail, err := kafka.ReadTail(s.ctx(), s.options(), s.topic, 0)
		if got := s.seqs(tail.Records); err == nil && len(got) != 1 {
			err = fmt.Errorf("before the commit the tail holds %v", got)
		}
		return err
	})
	commit.release()
	if err := ring.Wait(s.ctx()); err != nil {
		t.Fatal(err)
	}
	s.holds(1, 2, 3, 4)
}

// stoppedAt returns a hook that blocks the nth time it is told point.
func stoppedAt(point string, nth int) (hook func(string), arrived chan struct{}, release func()) {
	arrived, released := make(chan struct{}), make(chan struct{})
	return func(p string) {
		if p != point {
			return
		}
		if nth--; nth == 0 {
			close(arrived)
			<-released
		}
	}, arrived, func() { close(released) }
}

func zombieBetweenProduceAndCommit(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	hook, produced, release := stoppedAt("produced", 3)
	old := s.open(hook)
	s.publish(old, 1)
	s.publish(old, 2)
	published := make(chan error, 1)
	ctx := s.ctx()
	go func() {
		published <- old.Publish(ctx, s.batch(3, 3), func() { t.Error("the fenced batch was committed") })
	}()
	<-produced
	successor := s.open(nil)
	if got := s.tail(successor); len(got) != 2 {
		t.Errorf("the new ring's tail is %v, want 1 and 2", got)
	}
	release()
	<-published
	s.fenced(old)
	if err := old.Publish(s.ctx(), s.batch(4, 4), nothing); !kafka.Fenced(err) {
		t.Errorf("a fenced ring publishes: %v", err)
	}
	s.holds(1, 2)
	s.publish(successor, 3)
	s.publish(successor, 4)
	s.holds(1, 2, 3, 4)
}

func zombieBetweenCommits(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	hook, committed, release := stoppedAt("committed", 1)
	old := s.open(hook)
	for seq := 1; seq <= 3; seq++ { // the first one is committed; all three ids are in use
		if err := old.Publish(s.ctx(), s.batch(seq, seq), func() {
			if seq > 1 {
				t.Errorf("batch %d was committed by a fenced ring", seq)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	<-committed
	successor := s.open(nil)
	if got := s.tail(successor); len(got) != 1 {
		t.Errorf("the new ring's tail is %v, want 1", got)
	}
	release()
	s.fenced(old)
	s.holds(1)
	s.publish(successor, 2)
	s.holds(1, 2)
}

func zombieWithCommitUnderWay(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	old := s.open(nil, w.option())
	s.publish(old, 1)
	commit := w.stop(kmsg.EndTxn, "twinlog."+s.topic+".1")
	for seq := 2; seq <= 4; seq++ {
		if err := old.Publish(s.ctx(), s.batch(seq, seq), func() { t.Errorf("batch %d was committed by a fenced ring", seq) }); err != nil {
			t.Fatal(err)
		}
	}
	commit.await(t)
	if n := w.requests(kmsg.EndTxn, "twinlog."+s.topic+".2"); n != 0 {
		t.Errorf("%d commits of a later batch were sent before the answer to this one (rule 6)", n)
	}
	successor := s.open(nil)
	if got := s.tail(successor); len(got) != 1 {
		t.Errorf("the new ring's tail is %v, want 1", got)
	}
	s.publish(successor, 2)
	commit.release()
	s.fenced(old)
	s.holds(1, 2)
}

func firstIDIsTakenAlone(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	w.stop(kmsg.InitProducerID, "twinlog."+s.topic+".0")
	ctx, cancel := context.WithTimeout(s.ctx(), 500*time.Millisecond)
	defer cancel()
	_, err := kafka.OpenRing(ctx, s.ringConfig(nil, w.option()))
	if !errors.Is(err, context.DeadlineExceeded) || !kafka.Retryable(err) {
		t.Errorf("opening without an answer: %v", err)
	}
	for id, want := range []int{1, 0, 0} {
		if got := w.requests(kmsg.InitProducerID, "twinlog."+s.topic+"."+strconv.Itoa(id)); got != want {
			t.Errorf("id %d was asked for %d times before id 0 was taken, want %d", id, got, want)
		}
	}
}

// twoRingsAtOnce is the interleaving behind rules 1 and 2: a takes id 0, b
// takes them all, a takes the others from it.
func twoRingsAtOnce(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	one := w.stop(kmsg.InitProducerID, "twinlog."+s.topic+".1")
	two := w.stop(kmsg.InitProducerID, "twinlog."+s.topic+".2")
	type opened struct {
		ring *kafka.Ring
		err  error
	}
	opening := make(chan opened, 1)
	config, ctx := s.ringConfig(nil, w.option()), s.ctx()
	go func() {
		ring, err := kafka.OpenRing(ctx, config)
		opening <- opened{ring, err}
	}()
	one.await(t)
	two.await(t)
	b := s.open(nil)
	one.release()
	two.release()
	a := <-opening
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.ring.Close()
	if ta, tb := s.tail(a.ring), s.tail(b); len(ta)+len(tb) != 0 {
		t.Fatalf("tails %v and %v of an empty topic", ta, tb)
	}
	s.publish(b, 1) // on id 0, which is b's
	err := errors.Join(a.ring.Publish(s.ctx(), s.batch(1, 1), func() { t.Error("both committed seq 1") }), a.ring.Wait(s.ctx()))
	if !kafka.Fenced(err) {
		t.Errorf("the ring without id 0 got %v", err)
	}
	err = errors.Join(b.Publish(s.ctx(), s.batch(2, 2), func() { t.Error("b committed with an id that a had taken") }), b.Wait(s.ctx()))
	if !kafka.Fenced(err) {
		t.Errorf("the ring without id 1 got %v", err)
	}
	successor := s.open(nil)
	if got := s.tail(successor); len(got) != 1 {
		t.Errorf("the new ring's tail is %v, want 1", got)
	}
	s.publish(successor, 2)
	s.holds(1, 2)
}

func lostAnswerOfCommit(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	commits, cuts := 0, 0
	config := s.ringConfig(func(point string) {
		if point != "commit-sent" {
			return
		}
		if commits++; commits%7 == 0 && cuts < 5 {
			cuts++
			w.cut(cuts%2 == 0) // where it can dial, the client asks again by itself
		}
	}, w.option(), kgo.RequestRetries(2)) // else it takes half a minute
	rings, err := s.supervise(s.ctx(), 60, config, w.up)
	if err != nil {
		t.Fatal(err)
	}
	if cuts != 5 {
		t.Errorf("%d commits were cut, want 5", cuts)
	}
	if rings < 2 {
		t.Error("no ring met an unknown outcome")
	}
	s.holdsDense(60)
}

func lostCommit(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	ring := s.open(nil, w.option())
	s.publish(ring, 1)
	commit := w.stop(kmsg.EndTxn, "twinlog."+s.topic+".1")
	if err := ring.Publish(s.ctx(), s.batch(2, 2), nothing); err != nil {
		t.Fatal(err)
	}
	commit.await(t)
	ring.Close() // as a process that dies before the request leaves it
	if err := ring.Err(); err == nil {
		t.Error("a closed ring has no error")
	}
	successor := s.open(nil)
	if got := s.tail(successor); len(got) != 1 {
		t.Errorf("the new ring's tail is %v, want 1", got)
	}
	s.publish(successor, 2)
	s.holds(1, 2)
}

func recordTooLarge(t *testing.T, s *site) {
	for _, tt := range []struct {
		name          string
		broker, batch int
	}{
		{"refused by the broker", 20_000, 1 << 20},
		{"refused by the client", 1 << 20, 20_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, s.kafka)
			s.createTopic(tt.broker)
			config := s.ringConfig(nil)
			config.BatchMaxBytes = int32(tt.batch)
			ring, err := kafka.OpenRing(s.ctx(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer ring.Close()
			batch := s.records(1, 3)
			batch[1].Value = make([]byte, 50_000)
			if _, err := rand.Read(batch[1].Value); err != nil {
				t.Fatal(err)
			}
			err = ring.Publish(s.ctx(), slices.Values([][]*kgo.Record{batch}), func() { t.Error("a batch without one of its records was committed") })
			if !kafka.Permanent(err) || kafka.Retryable(err) || kafka.Fenced(err) || !strings.Contains(err.Error(), "max.message.bytes") {
				t.Errorf("the error is %v; Permanent %v, Retryable %v, Fenced %v", err, kafka.Permanent(err), kafka.Retryable(err), kafka.Fenced(err))
			}
			if again := ring.Publish(s.ctx(), s.batch(1, 1), nothing); again == nil || again.Error() != err.Error() {
				t.Errorf("the ring goes on with %v", again)
			}
			ring.Close()
			successor := s.open(nil)
			if got := s.tail(successor); len(got) != 0 {
				t.Errorf("the tail holds %v", got)
			}
			s.publish(successor, 1)
			s.holds(1)
		})
	}
}

func closedRing(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	s.publish(ring, 1)
	ring.Close()
	ring.Close()
	for range 20 {
		if err := ring.Publish(s.ctx(), s.batch(2, 2), nothing); err == nil {
			t.Fatal("a closed ring publishes")
		}
	}
	s.holds(1)
}

func closeWhileCommitting(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	ring := s.open(nil, w.option())
	commit := w.stop(kmsg.EndTxn, "twinlog."+s.topic+".0")
	ctx := s.ctx()
	published := make(chan error, 1)
	go func() { // the fourth waits for the first one's id
		var err error
		for seq := 1; err == nil && seq <= 4; seq++ {
			err = ring.Publish(ctx, s.batch(seq, seq), func() { t.Errorf("batch %d was committed", seq) })
		}
		published <- err
	}()
	commit.await(t)
	ring.Close()
	if err := <-published; err == nil {
		t.Error("a ring that was closed published on")
	}
	s.open(nil)
	s.holds()
}

func waitIsRepeatable(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	w := &wire{}
	ring := s.open(nil, w.option())
	commit := w.stop(kmsg.EndTxn, "twinlog."+s.topic+".0")
	if err := ring.Publish(s.ctx(), s.batch(1, 1), nothing); err != nil {
		t.Fatal(err)
	}
	commit.await(t)
	ctx, cancel := context.WithTimeout(s.ctx(), 50*time.Millisecond)
	defer cancel()
	if err := ring.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("waiting for a commit without an answer: %v", err)
	}
	commit.release()
	for seq := 2; seq <= 8; seq++ {
		s.publish(ring, seq)
	}
	s.holdsDense(8)
}

func deletedTopic(t *testing.T, s *site) {
	s.createTopic(1 << 20)
	ring := s.open(nil)
	s.publish(ring, 1)
	if _, err := s.admin().DeleteTopics(s.ctx(), s.topic); err != nil {
		t.Fatal(err)
	}
	var err error
	testkit.Eventually(t, patience, func() error { // until the broker has dropped it
		if err = ring.Publish(s.ctx(), s.batch(2, 2), nothing); err == nil {
			return errors.New("the deleted topic still takes events")
		}
		return nil
	})
	if !kafka.Retryable(err) || kafka.Fenced(err) {
		t.Errorf("the error is %v; Retryable %v, Fenced %v", err, kafka.Retryable(err), kafka.Fenced(err))
	}
	t.Log(err)
}

func brokerKilled(t *testing.T, s *site) {
	if !s.kafka.Real() {
		t.Log("nothing to kill: the embedded broker")
		return
	}
	s.createTopic(1 << 20)
	const events = 400
	due := make(chan struct{}, 2)
	produced := 0
	config := s.ringConfig(func(point string) {
		if point != "produced" {
			return
		}
		if produced++; produced == 100 || produced == 250 {
			due <- struct{}{}
		}
	})
	type result struct {
		rings int
		err   error
	}
	done := make(chan result, 1)
	ctx := s.ctx()
	go func() {
		rings, err := s.supervise(ctx, events, config, nothing)
		done <- result{rings, err}
	}()
	for range 2 {
		<-due
		s.kafka.Kill()
		s.kafka.Restart()
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Logf("%d rings", r.rings)
	s.holdsDense(events)
}

func brokerHangs(t *testing.T, s *site) {
	if !s.kafka.Real() {
		t.Log("nothing to freeze: the embedded broker")
		return
	}
	s.createTopic(1 << 20)
	s.kafka.Freeze()
	defer s.kafka.Thaw()
	ctx, cancel := context.WithTimeout(s.ctx(), 300*time.Millisecond)
	defer cancel()
	_, err := kafka.OpenRing(ctx, s.ringConfig(nil))
	if !kafka.Retryable(err) || kafka.Permanent(err) {
		t.Errorf("opening a ring at a frozen broker: %v", err)
	}
	s.kafka.Thaw()
	s.publish(s.open(nil), 1)
	s.holds(1)
}

func TestABrokerThatIsAwayIsWorthAnotherTry(t *testing.T) {
	opts, err := kafka.Config{Brokers: []string{"127.0.0.1:1"}}.Options()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = kafka.OpenRing(ctx, kafka.RingConfig{Client: opts, Prefix: "twinlog.l.a.0", Topic: "l.a-to-b", MaxBufferedBytes: 1 << 20, BatchMaxBytes: 1 << 20})
	if !kafka.Retryable(err) || kafka.Permanent(err) || kafka.Fenced(err) {
		t.Errorf("opening a ring: %v", err)
	}
	_, err = kafka.EnsureTopic(ctx, opts, "l.a-to-b", 1, kafka.TopicConfig{ReplicationFactor: 1})
	if !kafka.Retryable(err) {
		t.Errorf("creating a topic: %v", err)
	}
}
