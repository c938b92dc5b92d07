// Package offsets knows how far we got: positions in a Redis replication
// stream, and marks in a target Redis.
package offsets

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Reserved is the prefix of Twinlog's own keys in a Redis: never published,
// counted, compared or applied from an event.
const Reserved = "__twinlog:"

// Nothing is a reserved key that never exists. A sink names it as a second
// key in its own deletions, so that they can be told from the deletions that
// the target makes by itself inside the same block (expiry).
const Nothing = Reserved + "-"

var reservedBytes = []byte(Reserved)

// IsReserved tells whether key is one of Twinlog's own.
func IsReserved(key []byte) bool { return bytes.HasPrefix(key, reservedBytes) }

// MarkKey is the key of a direction's mark at its target, in database 0.
func MarkKey(link, direction, lane string) string {
	return Reserved + link + ":" + direction + ":" + lane
}

// BarrierKey is the key that a barrier of link writes.
func BarrierKey(link string) string { return Reserved + link + ":barrier" }

// WitnessKey is the key that a source writes where it begins to follow a site.
// Where it is missing together with the mark, the site is not the one it was.
func WitnessKey(link string) string { return Reserved + link + ":followed" }

// ReseedKey is the key that a re-seeding of a site writes when it empties the
// site: while it is there and nobody follows the site, or no snapshot fills it,
// the re-seeding has to be begun anew.
func ReseedKey(link string) string { return Reserved + link + ":reseed" }

// HaltKey is the key in which a sink records, at the target, the event that
// stopped it for good: the mark has passed it already, so nothing else would
// remember it after a restart.
func HaltKey(link, direction, lane string) string { return MarkKey(link, direction, lane) + ":halt" }

// QuarantineKey is the hash in which a sink records, at the target, the keys
// whose events go to the dead-letter topic.
func QuarantineKey(link, direction, lane string) string {
	return MarkKey(link, direction, lane) + ":quarantine"
}

// PartKey is the nth temporary key of a direction at its target, where a sink
// builds what is too big for one batch.
func PartKey(link, direction, lane string, n int) string {
	return MarkKey(link, direction, lane) + ":part:" + strconv.Itoa(n)
}

// markVersion is the first word of every mark. Version 1 had no epoch and no
// replication offset.
const markVersion = 2

// Mark is what a sink writes inside every transaction on its Redis:
// everything up to Seq, at Kafka offset Offset, has taken effect there.
// The zero Mark means that nothing has.
//
// Seq and offset tell the place in the topic. Epoch and ReplOffset tell the
// place in the origin's replication stream, which remains when Kafka loses what
// it had confirmed: all units up to there have taken effect.
type Mark struct {
	Generation int64  `json:"generation"` // of two marks the higher one wins; offsets reset raises it
	TopicID    string `json:"topic_id"`   // Kafka's id of the topic, in hex
	Seq        int64  `json:"seq"`
	Offset     int64  `json:"offset"`
	Epoch      int64  `json:"epoch,omitempty"`       // 0: not known
	ReplOffset int64  `json:"repl_offset,omitempty"` // within the epoch
}

// AppendMark appends m as it is stored: "<version> <generation> <topic id> <seq> <offset> <epoch> <replication offset>".
func AppendMark(b []byte, m Mark) []byte {
	b = strconv.AppendInt(b, markVersion, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, m.Generation, 10)
	b = append(b, ' ')
	b = append(b, m.TopicID...)
	b = append(b, ' ')
	for _, n := range []int64{m.Seq, m.Offset, m.Epoch} {
		b = strconv.AppendInt(b, n, 10)
		b = append(b, ' ')
	}
	return strconv.AppendInt(b, m.ReplOffset, 10)
}

func (m Mark) String() string { return string(AppendMark(nil, m)) }

// IsZero tells whether nothing was ever applied.
func (m Mark) IsZero() bool { return m == Mark{} }

// After tells whether m was written after o.
func (m Mark) After(o Mark) bool {
	if m.Generation != o.Generation {
		return m.Generation > o.Generation
	}
	return m.Seq > o.Seq
}

// ParseMark reads what AppendMark wrote. Its error names the text.
func ParseMark(s string) (Mark, error) {
	words := strings.Split(s, " ")
	version, err := strconv.ParseInt(words[0], 10, 64)
	var m Mark
	numbers := []*int64{&m.Generation, &m.Seq, &m.Offset, &m.Epoch, &m.ReplOffset}
	switch {
	case err != nil:
		return Mark{}, fmt.Errorf("mark %q: %q is not a version", s, words[0])
	case version == 1:
		numbers = numbers[:3]
	case version != markVersion:
		return Mark{}, fmt.Errorf("mark %q: version %d is not known to this program; run the newer twinlog that wrote it", s, version)
	}
	if want := 2 + len(numbers); len(words) != want {
		return Mark{}, fmt.Errorf("mark %q: want %d words, got %d", s, want, len(words))
	}
	if m.TopicID = words[2]; len(m.TopicID) != 32 {
		return Mark{}, fmt.Errorf("mark %q: %q is not a topic id", s, words[2])
	}
	for i, w := range slices.Delete(words[1:], 1, 2) {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil || n < 0 && (numbers[i] != &m.Offset || n < -1) { // offset -1: before the first event
			return Mark{}, fmt.Errorf("mark %q: %q is not a count", s, w)
		}
		*numbers[i] = n
	}
	return m, nil
}
