package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TopicError tells that a topic is not what a link needs. It stays until
// someone acts.
type TopicError struct{ Topic, Problem, Remedy string }

func (e *TopicError) Error() string {
	return fmt.Sprintf("topic %s %s: %s", e.Topic, e.Problem, e.Remedy)
}

// RangeError tells that the offset to read from is not in the log.
type RangeError struct {
	Topic  string
	Offset int64 // asked for
	Start  int64 // of the log; -1 unknown
	End    int64 // of the log; -1 unknown
}

// BehindEnd tells that the offset was behind the end of the log, which may have
// grown past it since.
func (e *RangeError) BehindEnd() bool {
	return e.Start >= 0 && e.Offset >= e.Start || e.End >= 0 && e.Offset > e.End
}

func (e *RangeError) Error() string {
	if e.BehindEnd() {
		return fmt.Sprintf("topic %s: offset %d was behind the end of the log, which is at %d now: Kafka lost what it had confirmed, or someone created the topic anew", e.Topic, e.Offset, e.End)
	}
	return fmt.Sprintf("topic %s: offset %d is not in the log any more, which begins at %d: retention (or someone) removed events that were not applied. "+
		"Give the topic a retention longer than any outage", e.Topic, e.Offset, e.Start)
}

// permanent are the answers that no retry changes, with what to do.
var permanent = []struct {
	err    *kerr.Error
	remedy string
}{
	{kerr.MessageTooLarge, "a batch is larger than the topic takes: raise the topic's max.message.bytes above limits.max_event_bytes"},
	{kerr.RecordListTooLarge, "a batch is larger than the broker takes: raise message.max.bytes, or lower limits.max_event_bytes"},
	{kerr.InvalidTransactionTimeout, "the broker's transaction.max.timeout.ms is below 20 s: raise it"},
	{kerr.TopicAuthorizationFailed, "the user may not use the topic: grant Describe, DescribeConfigs, Read, Write and Create on the link's topics"},
	{kerr.TransactionalIDAuthorizationFailed, "the user may not use the transactional ids: grant Write and Describe on transactional ids with the prefix twinlog."},
	{kerr.GroupAuthorizationFailed, "the user may not use the group: grant Read on groups with the prefix twinlog."},
	{kerr.ClusterAuthorizationFailed, "the user may not write idempotently: grant IdempotentWrite on the cluster"},
	{kerr.SaslAuthenticationFailed, "the broker refuses user or password: see kafka.sasl"},
	{kerr.UnsupportedSaslMechanism, "the broker does not offer kafka.sasl.mechanism"},
	{kerr.InvalidTopicException, "the topic's name is not valid"},
	{kerr.InvalidReplicationFactor, "there are fewer brokers than kafka.topic.replication_factor"},
	{kerr.PolicyViolation, "a policy of the cluster forbids it"},
}

// Permanent tells whether no retry can help.
func Permanent(err error) bool {
	var topic *TopicError
	var gone *RangeError
	if errors.As(err, &topic) || errors.As(err, &gone) {
		return true
	}
	for _, p := range permanent {
		if errors.Is(err, p.err) {
			return true
		}
	}
	return false
}

// explained adds to a permanent error what to do about it.
func explained(err error) error {
	for _, p := range permanent {
		if errors.Is(err, p.err) {
			return fmt.Errorf("%w (%s)", err, p.remedy)
		}
	}
	return err
}

// Fenced tells whether another producer may have taken over, or the
// transaction timed out: the two cannot be told apart by code (publishing.md 3).
func Fenced(err error) bool {
	for _, e := range []error{kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Retryable tells whether trying again later may help: brokers away, leaders
// moving, connections cut. Errors that are not Kafka's own are not.
func Retryable(err error) bool {
	if err == nil || Permanent(err) {
		return false
	}
	var kafkaErr *kerr.Error
	var netErr net.Error
	var first *kgo.ErrFirstReadEOF
	return errors.As(err, &kafkaErr) || errors.As(err, &netErr) || errors.As(err, &first) || kgo.IsRetryableBrokerErr(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errUnavailable)
}

// errUnavailable marks answers that will be different soon.
var errUnavailable = errors.New("not available yet")
