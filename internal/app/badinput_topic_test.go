package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// again is how every error says so that filling the target again mends.
const again = "`twinlog resync --site b` empties site b and fills it again from site a"

// anew is how every error that only a new start mends says so.
var anew = []string{"stop twinlog", "empty the target", "delete the link's topics", "at both sites", "run"}

// runs has a link at work with one key at both sites.
func running(t *testing.T, broker *testkit.Kafka, o linkOptions) *badLink {
	t.Helper()
	l := newBadLink(t, broker, o)
	l.does(l.a, "SET", "k", "1")
	l.run()
	l.arrives("k", "1")
	return l
}

func foreignRecord(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	at := l.produce([]byte("hello"))
	l.does(l.a, "SET", "k", "2")
	place := fmt.Sprintf("topic %s, offset %d", l.topic(), at)
	l.fails("sink-b", place, "not an event of this link", "Nothing was skipped")
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b: the sink went on behind a record that it could not read", got)
	}
	l.resume("sink-b") // it cannot be passed
	l.fails("sink-b", again, place)
	l.fillAgain()
	l.stop()

	// The record in between does not hide from the source either, when it is
	// the last one.
	last := l.produce([]byte("hello"))
	l.worker.Start()
	l.fails("source-a", fmt.Sprintf("offset %d", last), "this link did not write", "give the link a topic of its own")
	l.startAnew()
}

// event is a change as a source might have written it.
func event(seq int64) []byte {
	return schema.NewEncoder(0).Append(nil, &schema.Event{
		Op: schema.OpWrite, Origin: "a", Key: []byte("k"), Command: "SET", Args: [][]byte{[]byte("k"), []byte("foreign")}, Seq: seq,
		Source: schema.Source{Snapshot: "false"},
	})
}

func (l *badLink) applied() offsets.Mark {
	l.t.Helper()
	mark, err := offsets.ParseMark(l.value(l.b, l.markKey()))
	if err != nil {
		l.t.Fatal(err)
	}
	return mark
}

// published waits until the source has published up to a seq.
func (l *badLink) published(seq int64) {
	l.t.Helper()
	testkit.Eventually(l.t, 20*time.Second, func() error {
		st, err := status(l.worker)
		if err == nil && st.Directions[0].Source.Seq < seq {
			err = fmt.Errorf("seq %d", st.Directions[0].Source.Seq)
		}
		return err
	})
}

func repeatedSeq(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	seq := l.applied().Seq
	at := l.produce(event(seq))
	l.fails("sink-b", again, fmt.Sprintf("topic %s, offset %d: seq %d comes after seq %d", l.topic(), at, seq, seq))
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b: an event that comes twice was applied", got)
	}
	l.does(l.a, "SET", "k", "2") // its event carries the source's position
	l.published(seq + 1)
	l.fillAgain()
}

func skippedSeq(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	seq := l.applied().Seq
	at := l.produce(event(seq + 2))
	l.fails("sink-b", again, fmt.Sprintf("topic %s, offset %d: seq %d follows seq %d", l.topic(), at, seq+2, seq), "events are missing")
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b: an event behind a hole was applied", got)
	}
	l.does(l.a, "SET", "k", "2") // its event carries the source's position
	l.published(seq + 1)
	l.fillAgain()
}

func deletedRecords(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	l.pause("sink-b")
	mark := l.applied()
	for i := range 10 {
		l.does(l.a, "SET", "k", i)
	}
	var end int64
	l.published(mark.Seq + 10)
	l.admin(func(ctx context.Context, adm *kadm.Client) error {
		testkit.Eventually(t, 20*time.Second, func() error { // the commits are settled
			ends, err := adm.ListCommittedOffsets(ctx, l.topic())
			at, _ := ends.Lookup(l.topic(), 0)
			if end = at.Offset; err == nil && end < mark.Offset+10 {
				err = fmt.Errorf("the topic ends at %d", end)
			}
			return err
		})
		var to kadm.Offsets
		to.Add(kadm.Offset{Topic: l.topic(), At: end, LeaderEpoch: -1})
		_, err := adm.DeleteRecords(ctx, to)
		return err
	})
	l.resume("sink-b")
	l.fails("sink-b", again, fmt.Sprintf("topic %s: offset %d ", l.topic(), mark.Offset+1), fmt.Sprintf("begins at %d", end), "retention")
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b", got)
	}
	l.fillAgain()
}

func (l *badLink) epoch() int64 {
	l.t.Helper()
	st, err := status(l.worker)
	if err != nil {
		l.t.Fatal(err)
	}
	return st.Directions[0].Source.Epoch
}

// What a snapshot lacks is found by reading the topic once more, which begins
// far behind the offset that the snapshot's seqs would tell.
func snapshotBehindRetention(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	for i := range 20 { // one transaction each
		l.does(l.a, "SET", "k", i)
		l.arrives("k", fmt.Sprint(i))
	}
	l.admin(func(ctx context.Context, adm *kadm.Client) error {
		var to kadm.Offsets
		to.Add(kadm.Offset{Topic: l.topic(), At: l.applied().Offset, LeaderEpoch: -1})
		_, err := adm.DeleteRecords(ctx, to)
		return err
	})
	l.does(l.b, "SET", "mine", "1")
	epoch := l.epoch()
	l.twinlog("resume", "source-a", "--snapshot")
	testkit.Eventually(t, 30*time.Second, func() error {
		if l.epoch() == epoch {
			return fmt.Errorf("it is epoch %d still", epoch)
		}
		return nil
	})
	l.does(l.a, "SET", "k", "end") // its event comes behind SNAPSHOT_END
	l.arrives("k", "end")
	if got := l.value(l.b, "mine"); got != "1" {
		t.Errorf("mine is %q: it was removed without proof", got)
	}
	l.does(l.b, "DEL", "mine")
	l.goesOn()
	l.equal()
}

func deletedTopic(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	l.deleteTopics()
	l.does(l.a, "SET", "k", "2")
	l.fails("source-a", append(anew, l.topic())...)
	l.fails("sink-b", append(anew, l.topic())...)
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b", got)
	}
	l.startAnew()
}

func topicReplaced(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	l.deleteTopics()
	l.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": kadm.StringPtr("2000000")}, l.topic())
		return err
	})
	l.does(l.a, "SET", "k", "2")
	l.fails("source-a", append(anew, l.topic())...)
	l.fails("sink-b", append(anew, l.topic())...)
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b", got)
	}
	l.startAnew()
}

func topicCreatedAnew(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	old := l.applied().TopicID
	l.stop()
	l.deleteTopics()
	l.does(l.a, "SET", "k", "2")
	l.worker.Start() // creates the topic
	l.fails("sink-b", again, l.topic(), old, "created anew")
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b", got)
	}
	l.fillAgain()
}
