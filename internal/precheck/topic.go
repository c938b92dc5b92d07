package precheck

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"twinlog/internal/kafka"
)

const (
	// headroom is what a record may have besides its value.
	headroom = 128 << 10
	// shortRetention is less than an outage may last that someone has to mend.
	shortRetention = 24 * time.Hour
)

func (b *brokers) topic(ctx context.Context, s *sheet, d Direction) {
	s.direction = d.name()
	topic := b.cfg.Link + "." + d.name()
	if b.existing(ctx, s, topic, headroom) {
		b.noteBegun(ctx, d, topic)
	}
}

// deadLetters checks the topic of what cannot be applied. Its records have
// headers of their own besides those of the events.
func (b *brokers) deadLetters(ctx context.Context, s *sheet) {
	b.existing(ctx, s, b.cfg.Link+".dead-letter", 2*headroom)
}

// existing checks a topic of the link, or whether it may be created, and tells
// whether it is there. Its records have up to headroom bytes besides their
// values.
func (b *brokers) existing(ctx context.Context, s *sheet, topic string, headroom int) bool {
	rights, err := b.rights(ctx, topic)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		b.creatable(ctx, s, topic)
		return false
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		s.error("topic-rights", "the user may not see topic "+topic, "grant Describe, DescribeConfigs, Create, Read and Write on topics with the prefix "+b.cfg.Link+".")
		return false
	case err != nil:
		s.error("topic-exists", "asking for topic "+topic+": "+err.Error(), "see the brokers' logs")
		return false
	}
	s.ok("topic-exists", "topic "+topic+" is there")
	judgeRights(s, topic, rights)
	info, found, err := kafka.DescribeTopic(ctx, b.opts, topic)
	if err == nil && !found {
		err = fmt.Errorf("topic %s was deleted meanwhile", topic)
	}
	if info.Partitions > 0 {
		judgePartitions(s, topic, info.Partitions)
	}
	if err != nil {
		for _, name := range []string{"topic-cleanup", "topic-retention", "topic-message-size", "topic-durability"} {
			s.warning(name, "cannot be told: "+err.Error(), "grant DescribeConfigs on topics with the prefix "+b.cfg.Link+".")
		}
		return true
	}
	b.judgeTopic(s, topic, info, headroom)
	return true
}

// noteBegun notes a direction whose topic holds events.
func (b *brokers) noteBegun(ctx context.Context, d Direction, topic string) {
	ends, err := kadm.NewClient(b.client).ListEndOffsets(ctx, topic)
	if end, ok := ends.Lookup(topic, 0); err != nil || !ok || end.Offset <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = append(b.begun, d.name())
}

// notFirst turns the refusal of a target that is not empty into a warning
// where it is not the link's first start: the target has lost its mark, and
// with it perhaps its data, which the worker finds out and tells.
func (b *brokers) notFirst(items []Item) {
	for i := range items {
		for _, d := range b.cfg.Directions {
			if items[i].Status == Error && items[i].Name == "target-empty" && items[i].Direction == d.name() && slices.Contains(b.begun, d.name()) {
				items[i].Status = Warning
				items[i].Detail += "; the link has run before, and its mark is gone there"
				items[i].Remedy = "see twinlog status once the worker runs: `twinlog resync --site " + d.To + "` empties the site and fills it again"
			}
		}
	}
}

// rights asks for what the user may do with a topic.
func (b *brokers) rights(ctx context.Context, topic string) (int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = []kmsg.MetadataRequestTopic{t}
	req.IncludeTopicAuthorizedOperations = true
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 {
		return 0, fmt.Errorf("the broker answers about %d topics", len(resp.Topics))
	}
	return resp.Topics[0].AuthorizedOperations, kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

func judgeRights(s *sheet, topic string, rights int32) {
	if rights == math.MinInt32 {
		s.warning("topic-rights", "the brokers do not tell the rights on topic "+topic, "make sure that the user has Describe, DescribeConfigs, Read and Write on it")
		return
	}
	lack := lacking(rights, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationRead, kmsg.ACLOperationWrite)
	if len(lack) > 0 {
		s.error("topic-rights", "the user lacks "+strings.Join(lack, ", ")+" on topic "+topic, "grant "+strings.Join(lack, ", ")+" on it, or on topics with the link's prefix")
		return
	}
	s.ok("topic-rights", "the user may read and write topic "+topic)
}

// creatable lets the brokers judge the topic that the start will create.
func (b *brokers) creatable(ctx context.Context, s *sheet, topic string) {
	want := b.cfg.Kafka.Topic
	policy, retention := "delete", strconv.FormatInt(retentionMillis(want.Retention), 10)
	resp, err := kadm.NewClient(b.client).ValidateCreateTopics(ctx, 1, int16(min(want.ReplicationFactor, math.MaxInt16)),
		map[string]*string{"cleanup.policy": &policy, "retention.ms": &retention}, topic)
	if err == nil {
		_, err = resp.On(topic, nil)
		if err == nil {
			err = resp[topic].Err
		}
	}
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
		s.ok("topic-exists", "topic "+topic+" is not there yet and will be created at the start; rights to read and write it are checked then")
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		s.error("topic-exists", "topic "+topic+" is not there and the user may not create it",
			"grant Create on topics with the prefix "+b.cfg.Link+"., or create it with 1 partition and cleanup.policy=delete")
	case errors.Is(err, kerr.InvalidReplicationFactor):
		s.error("topic-exists", fmt.Sprintf("topic %s cannot be created with kafka.topic.replication_factor %d: there are fewer brokers", topic, want.ReplicationFactor), "lower kafka.topic.replication_factor")
	default:
		s.error("topic-exists", "topic "+topic+" is not there and cannot be created: "+err.Error(), "create it with 1 partition and cleanup.policy=delete")
	}
}

func retentionMillis(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return d.Milliseconds()
}

func judgePartitions(s *sheet, topic string, partitions int) {
	if partitions == 1 {
		s.ok("topic-partitions", "1 partition")
		return
	}
	s.error("topic-partitions", fmt.Sprintf("topic %s has %d partitions, the link needs exactly 1", topic, partitions),
		"events would lose their order: delete the topic or give the link another name")
}

func (b *brokers) judgeTopic(s *sheet, topic string, info kafka.TopicInfo, headroom int) {
	alter := func(config string) string {
		return "kafka-configs.sh --alter --entity-type topics --entity-name " + topic + " --add-config " + config
	}
	if info.Cleanup == "delete" {
		s.ok("topic-cleanup", "cleanup.policy is delete")
	} else {
		s.error("topic-cleanup", "topic "+topic+" has cleanup.policy="+info.Cleanup+": compaction removes events that the sink needs", alter("cleanup.policy=delete"))
	}
	b.judgeRetention(s, topic, info.Retention, alter)
	if need := b.cfg.MaxEventBytes + headroom; b.cfg.MaxEventBytes > 0 && info.MaxMessageBytes < need {
		s.error("topic-message-size", fmt.Sprintf("topic %s takes messages of %d bytes at most, limits.max_event_bytes needs %d", topic, info.MaxMessageBytes, need),
			alter("max.message.bytes="+strconv.Itoa(need))+", or lower limits.max_event_bytes")
	} else {
		s.ok("topic-message-size", fmt.Sprintf("max.message.bytes is %d", info.MaxMessageBytes))
	}
	judgeDurability(s, topic, info, alter)
}

func (b *brokers) judgeRetention(s *sheet, topic string, has time.Duration, alter func(string) string) {
	want := b.cfg.Kafka.Topic.Retention
	config := alter("retention.ms=" + strconv.FormatInt(retentionMillis(want), 10))
	switch {
	case has < 0:
		s.ok("topic-retention", "events are kept for ever")
	case has < shortRetention:
		if want > 0 && want < shortRetention {
			config = alter("retention.ms=604800000") + ", and set kafka.topic.retention"
		}
		s.warning("topic-retention", fmt.Sprintf("topic %s keeps events for %v: what a sink has not applied by then is lost, and the direction stops", topic, has), config)
	case want <= 0 || has < want:
		s.warning("topic-retention", fmt.Sprintf("topic %s keeps events for %v, less than kafka.topic.retention", topic, has), config)
	default:
		s.ok("topic-retention", fmt.Sprintf("events are kept for %v", has))
	}
}

func judgeDurability(s *sheet, topic string, info kafka.TopicInfo, alter func(string) string) {
	const name = "topic-durability"
	switch {
	case info.MinInsyncReplicas > info.ReplicationFactor:
		s.error(name, fmt.Sprintf("topic %s has %d replicas but min.insync.replicas=%d: nothing can be written to it", topic, info.ReplicationFactor, info.MinInsyncReplicas), alter("min.insync.replicas="+strconv.Itoa(max(1, info.ReplicationFactor-1))))
	case info.UncleanElection:
		s.warning(name, "topic "+topic+" has unclean.leader.election.enable=true: a broker that lagged may become leader, and acknowledged events are lost", alter("unclean.leader.election.enable=false"))
	case info.ReplicationFactor < 2:
		s.warning(name, "topic "+topic+" has one replica: when its broker is away everything waits, and when its disk is lost events are", "use 3 brokers and kafka.topic.replication_factor: 3 outside of tests")
	case info.ReplicationFactor >= 3 && info.MinInsyncReplicas < 2:
		s.warning(name, fmt.Sprintf("topic %s has %d replicas but min.insync.replicas=%d: an event may be acknowledged by a single broker", topic, info.ReplicationFactor, info.MinInsyncReplicas), alter("min.insync.replicas=2"))
	default:
		s.ok(name, fmt.Sprintf("%d replicas, min.insync.replicas=%d", info.ReplicationFactor, info.MinInsyncReplicas))
	}
}
