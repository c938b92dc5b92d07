package offsets

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const topicID = "0123456789abcdef0123456789abcdef"

func TestMarkTextIsPinned(t *testing.T) {
	m := Mark{Generation: 2, TopicID: topicID, Seq: 42, Offset: 57, Epoch: 3, ReplOffset: 1234}
	const text = "2 2 " + topicID + " 42 57 3 1234"
	if m.String() != text {
		t.Errorf("String() = %q, want %q", m.String(), text)
	}
	got, err := ParseMark(text)
	if err != nil || got != m {
		t.Errorf("ParseMark = %v, %v", got, err)
	}
	got, err = ParseMark("1 2 " + topicID + " 42 -1")
	if err != nil || got != (Mark{Generation: 2, TopicID: topicID, Seq: 42, Offset: -1}) {
		t.Errorf("ParseMark of version 1 = %v, %v", got, err)
	}
}

func TestParseMarkNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "not a version"},
		{"a word too many", "1 0 " + topicID + " 1 2 3", "want 5 words, got 6"},
		{"a word too few", "2 0 " + topicID + " 1 2 3", "want 7 words, got 6"},
		{"a newer version", "3 0 " + topicID + " 1 2", "version 3 is not known"},
		{"a negative place", "2 0 " + topicID + " 1 2 3 -4", "not a count"},
		{"a negative seq", "1 0 " + topicID + " -1 2", "not a count"},
		{"a number that overflows", "1 0 " + topicID + " 99999999999999999999 2", "not a count"},
		{"a short topic id", "1 0 abc 1 2", "not a topic id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseMark(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestHigherGenerationWins(t *testing.T) {
	reset := Mark{Generation: 3, Seq: 1}
	old := Mark{Generation: 2, Seq: 100}
	if !reset.After(old) || old.After(reset) || old.After(old) || !old.After(Mark{Generation: 2, Seq: 99}) {
		t.Error("order of marks")
	}
}

func TestPositionTextIsPinned(t *testing.T) {
	p := Position{
		Replid: "abc", ReplOffset: 10, Database: 3, Epoch: 1, Seq: 5, Seen: 4, Settled: 4, Phase: PhaseStream, Instance: "i",
		Mark: Mark{Generation: 1, TopicID: topicID, Seq: 4, Offset: 6}, UnfinishedSeq: 2,
	}
	const text = `{"version":1,"replid":"abc","repl_offset":10,"database":3,"epoch":1,"seq":5,"seen":4,` +
		`"mark":{"generation":1,"topic_id":"` + topicID + `","seq":4,"offset":6},"settled":4,"phase":"stream","instance":"i","unfinished_seq":2}`
	b, err := AppendPosition(nil, p)
	if err != nil || string(b) != text {
		t.Fatalf("AppendPosition = %s, %v", b, err)
	}
	got, err := ParsePosition(b)
	p.Version = 1
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Error(diff)
	}
}

func TestParsePositionRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"not JSON", "x", "decoding position"},
		{"a newer version", `{"version":2,"phase":"stream"}`, "version 2 is not known"},
		{"an unknown phase", `{"version":1,"phase":"dance"}`, "unknown phase"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParsePosition([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestReservedKeys(t *testing.T) {
	for key, want := range map[string]bool{MarkKey("l", "a-to-b", "0"): true, BarrierKey("l"): true, Nothing: true, "__twinlo": false, "x__twinlog:": false} {
		if IsReserved([]byte(key)) != want {
			t.Errorf("IsReserved(%q) = %v", key, !want)
		}
	}
}
