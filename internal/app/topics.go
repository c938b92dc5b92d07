package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
)

// A topic that was deleted, or created anew under its name, is no error to
// Kafka's clients: they wait, or go on in the new one. So the worker looks.
const (
	topicPeriod = 5 * time.Second
	// missesAllowed is how often a topic may not be found: right after its
	// start a broker may not know any.
	missesAllowed = 1
)

// watchTopics ends both connectors of a direction whose topic is not the one
// that they began with, until ctx is done.
func (w *Worker) watchTopics(ctx context.Context, client []kgo.Opt) {
	misses := make([]int, len(w.halves))
	tick := time.NewTicker(topicPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i, h := range w.halves {
			info, found, err := kafka.DescribeTopic(ctx, client, h.topic)
			switch {
			case found && info.ID != h.topicID:
				h.lostTopic(w.o.Link, fmt.Sprintf("was created anew while the link ran (its id was %s, now %s)", h.topicID, info.ID))
			case found || err != nil: // Kafka away is for source and sink to wait for
				misses[i] = 0
			default:
				if misses[i]++; misses[i] > missesAllowed {
					h.lostTopic(w.o.Link, "is not there any more: someone deleted it")
				}
			}
		}
	}
}

// deadLetterTopic is where all directions of the link put what cannot be
// applied.
func (w *Worker) deadLetterTopic() string { return w.o.Link + ".dead-letter" }

func (w *Worker) wantsDeadLetters() bool {
	return slices.ContainsFunc(w.halves, func(h *half) bool { return h.DeadLetter })
}

func (h *half) lostTopic(link, how string) {
	err := &kafka.TopicError{
		Topic: h.topic, Problem: how,
		Remedy: fmt.Sprintf("start the link anew: stop twinlog, empty the target, delete the link's topics and the keys __twinlog:%s:* at both sites, run", link),
	}
	h.source.fail(err)
	h.sink.fail(err)
}
