package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TopicConfig is what a topic is created with.
type TopicConfig struct {
	ReplicationFactor int
	Retention         time.Duration // 0: for ever
	MaxMessageBytes   int
}

// TopicInfo is what a topic is like.
type TopicInfo struct {
	ID                string // 32 hex digits; another one after the topic was created anew
	Partitions        int
	ReplicationFactor int
	Cleanup           string        // cleanup.policy
	Retention         time.Duration // -1: for ever
	MaxMessageBytes   int
	MinInsyncReplicas int
	UncleanElection   bool
}

// EnsureTopic creates a topic, or checks an existing one: the partition count
// must be the same and nothing may compact it, for both would break the order
// or lose events. What it finds wrong is a *TopicError.
func EnsureTopic(ctx context.Context, client []kgo.Opt, topic string, partitions int, want TopicConfig) (TopicInfo, error) {
	info, found, err := DescribeTopic(ctx, client, topic)
	if err != nil {
		return info, err
	}
	if !found {
		if err := createTopic(ctx, client, topic, partitions, want); err != nil {
			return info, err
		}
		if info, err = describeCreated(ctx, client, topic); err != nil {
			return info, err
		}
	}
	return info, info.check(topic, partitions, want)
}

// describeCreated waits until brokers know a topic that was just created.
func describeCreated(ctx context.Context, client []kgo.Opt, topic string) (TopicInfo, error) {
	pause := Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond}
	for attempt := range 12 {
		info, found, err := DescribeTopic(ctx, client, topic)
		if found && err == nil || err != nil && !Retryable(err) {
			return info, err
		}
		if err := pause.Wait(ctx, attempt); err != nil {
			return info, err
		}
	}
	return TopicInfo{}, fmt.Errorf("topic %s was created: %w", topic, errUnavailable)
}

func (i TopicInfo) check(topic string, partitions int, want TopicConfig) error {
	switch {
	case i.Partitions != partitions:
		return &TopicError{
			topic, fmt.Sprintf("has %d partitions, the link needs exactly %d", i.Partitions, partitions),
			"events would lose their order; delete the topic or give the link another name",
		}
	case i.Cleanup != "delete":
		return &TopicError{topic, "has cleanup.policy=" + i.Cleanup, "compaction removes events that the sink needs; set cleanup.policy=delete"}
	case i.MaxMessageBytes < want.MaxMessageBytes:
		return &TopicError{
			topic, fmt.Sprintf("takes messages of %d bytes at most, limits.max_event_bytes needs %d", i.MaxMessageBytes, want.MaxMessageBytes),
			"raise the topic's max.message.bytes or lower limits.max_event_bytes",
		}
	}
	return nil
}

func createTopic(ctx context.Context, client []kgo.Opt, topic string, partitions int, want TopicConfig) error {
	c, err := kgo.NewClient(client...)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	defer c.Close()
	retention := int64(-1)
	if want.Retention > 0 {
		retention = want.Retention.Milliseconds()
	}
	text := func(s string) *string { return &s }
	_, err = kadm.NewClient(c).CreateTopic(ctx, int32(partitions), int16(want.ReplicationFactor), map[string]*string{
		"cleanup.policy":    text("delete"),
		"retention.ms":      text(strconv.FormatInt(retention, 10)),
		"max.message.bytes": text(strconv.Itoa(want.MaxMessageBytes)),
	}, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating topic %s: %w", topic, explained(err))
	}
	return nil
}

// DescribeTopic tells what a topic is like; found is false where there is none.
func DescribeTopic(ctx context.Context, client []kgo.Opt, topic string) (info TopicInfo, found bool, err error) {
	c, err := kgo.NewClient(client...)
	if err != nil {
		return info, false, fmt.Errorf("making a client: %w", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	adm := kadm.NewClient(c)
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return info, false, fmt.Errorf("asking for topic %s: %w", topic, explained(err))
	}
	detail, ok := topics[topic]
	switch {
	case !ok || errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return info, false, nil
	case detail.Err != nil:
		return info, false, fmt.Errorf("asking for topic %s: %w", topic, explained(detail.Err))
	}
	info.ID, info.Partitions = hex.EncodeToString(detail.ID[:]), len(detail.Partitions)
	for _, p := range detail.Partitions {
		info.ReplicationFactor = len(p.Replicas)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return info, true, fmt.Errorf("asking for the configuration of topic %s: %w", topic, explained(err))
	}
	config, err := configs.On(topic, nil)
	if err == nil {
		err = config.Err
	}
	if err != nil {
		return info, true, fmt.Errorf("asking for the configuration of topic %s: %w", topic, explained(err))
	}
	for _, c := range config.Configs {
		info.set(c.Key, c.MaybeValue())
	}
	return info, true, nil
}

func (i *TopicInfo) set(key, value string) {
	n, _ := strconv.ParseInt(value, 10, 64) // the broker's own numbers; 0 where it is none
	switch key {
	case "cleanup.policy":
		i.Cleanup = value
	case "retention.ms":
		i.Retention = time.Duration(n) * time.Millisecond
		if n < 0 || n > math.MaxInt64/int64(time.Millisecond) {
			i.Retention = -1
		}
	case "max.message.bytes":
		i.MaxMessageBytes = int(n)
	case "min.insync.replicas":
		i.MinInsyncReplicas = int(n)
	case "unclean.leader.election.enable":
		i.UncleanElection = value == "true"
	}
}
