package kafka_test

import (
	"testing"

	"go.uber.org/goleak"

	"twinlog/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKafka runs what needs a broker. All share one, each has a topic of its own.
func TestKafka(t *testing.T) {
	k := testkit.StartKafka(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *site)
	}{
		{"a ring publishes every batch in order, exactly once, in a transaction of its own", publishesInOrder},
		{"what is not committed is not seen", uncommittedIsNotSeen},
		{"a ring of which someone is between produce and commit is fenced", zombieBetweenProduceAndCommit},
		{"a ring that goes on in the middle of its commits is fenced", zombieBetweenCommits},
		{"a ring whose commit was on its way when it was fenced changes nothing", zombieWithCommitUnderWay},
		{"id 0 is taken first and alone", firstIDIsTakenAlone},
		{"of two rings opened at the same time one commits", twoRingsAtOnce},
		{"a commit whose answer is lost is found in the tail", lostAnswerOfCommit},
		{"a commit that never arrived is not in the tail", lostCommit},
		{"a new ring's tail waits for transactions that are being settled", tailWaits},
		{"a tail is found behind more than a window of control records", tailBehindControlRecords},
		{"a topic without events has an empty tail", emptyTails},
		{"a record above the topic's limit ends a ring and nothing of its batch is committed", recordTooLarge},
		{"a closed ring answers with an error", closedRing},
		{"a ring is closed while its commit waits for an answer", closeWhileCommitting},
		{"waiting for commits can be given up and begun again", waitIsRepeatable},
		{"a deleted topic is an error and no endless wait", deletedTopic},
		{"a broker killed while a ring publishes costs no event and doubles none", brokerKilled},
		{"a broker that hangs is worth another try", brokerHangs},
		{"a topic is created as it was asked for, and found again", topicIsCreated},
		{"a topic that does not fit is refused with a remedy", topicIsRefused},
		{"a topic created anew has another id", topicIDChanges},
		{"a consumer hands out control records and the end", consumerSeesControlRecords},
		{"a consumer never jumps", consumerNeverJumps},
		{"a consumer given up in a poll goes on where it was", consumerGoesOn},
		{"a mirrored offset comes back with its metadata", mirrorRoundTrip},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, newSite(t, k)) })
	}
}
