package kafka_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
)

func topicIsCreated(t *testing.T, s *site) {
	want := kafka.TopicConfig{ReplicationFactor: 1, Retention: 168 * time.Hour, MaxMessageBytes: 2 << 20}
	if _, found, err := kafka.DescribeTopic(s.ctx(), s.options(), s.topic); found || err != nil {
		t.Fatalf("a topic that nobody created: found %v, error %v", found, err)
	}
	made, err := kafka.EnsureTopic(s.ctx(), s.options(), s.topic, 1, want)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.ID) != 32 || strings.Trim(made.ID, "0") == "" {
		t.Errorf("id %q", made.ID)
	}
	if made.Partitions != 1 || made.ReplicationFactor != 1 || made.Cleanup != "delete" || made.Retention != want.Retention || made.MaxMessageBytes != want.MaxMessageBytes {
		t.Errorf("created %+v, want %+v", made, want)
	}
	if made.MinInsyncReplicas != 1 || made.UncleanElection {
		t.Errorf("Kafka's defaults are %+v", made)
	}
	again, err := kafka.EnsureTopic(s.ctx(), s.options(), s.topic, 1, want)
	if err != nil || again != made {
		t.Errorf("the second time %+v, error %v; want %+v", again, err, made)
	}
	described, found, err := kafka.DescribeTopic(s.ctx(), s.options(), s.topic)
	if err != nil || !found || described != made {
		t.Errorf("described %+v, found %v, error %v", described, found, err)
	}
}

func topicIsRefused(t *testing.T, s *site) {
	value := func(v string) *string { return &v }
	for _, tt := range []struct {
		name       string
		partitions int32
		config     map[string]*string
		want       string
	}{
		{"another number of partitions", 3, nil, "has 3 partitions, the link needs exactly 1"},
		{"compacted", 1, map[string]*string{"cleanup.policy": value("compact")}, "set cleanup.policy=delete"},
		{"compacted as well", 1, map[string]*string{"cleanup.policy": value("compact,delete")}, "set cleanup.policy=delete"},
		{"small messages", 1, map[string]*string{"max.message.bytes": value("1000")}, "raise the topic's max.message.bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, s.kafka)
			if _, err := s.admin().CreateTopic(s.ctx(), tt.partitions, 1, tt.config, s.topic); err != nil {
				t.Fatal(err)
			}
			_, err := kafka.EnsureTopic(s.ctx(), s.options(), s.topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 1 << 20})
			var wrong *kafka.TopicError
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), s.topic) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if !kafka.Permanent(err) || kafka.Retryable(err) {
				t.Errorf("Permanent %v, Retryable %v", kafka.Permanent(err), kafka.Retryable(err))
			}
		})
	}
	for _, tt := range []struct {
		name, topic string
		replicas    int
		want        string
	}{
		{"more replicas than brokers", s.topic, 3, "kafka.topic.replication_factor"},
		{"a name that Kafka does not take", "no topic", 1, "not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := kafka.EnsureTopic(s.ctx(), s.options(), tt.topic, 1, kafka.TopicConfig{ReplicationFactor: tt.replicas, MaxMessageBytes: 1 << 20})
			if !kafka.Permanent(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func topicIDChanges(t *testing.T, s *site) {
	config := kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 1 << 20}
	first, err := kafka.EnsureTopic(s.ctx(), s.options(), s.topic, 1, config)
	if err != nil {
		t.Fatal(err)
	}
	if first.Retention != -1 {
		t.Errorf("retention %v, want for ever", first.Retention)
	}
	if _, err := s.admin().DeleteTopics(s.ctx(), s.topic); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() error { // it is gone a moment later
		second, err := kafka.EnsureTopic(s.ctx(), s.options(), s.topic, 1, config)
		if err == nil && first.ID == second.ID {
			err = fmt.Errorf("both have id %s", first.ID)
		}
		return err
	})
}
