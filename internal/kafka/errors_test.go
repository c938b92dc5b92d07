package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
)

func TestErrorsAreClassified(t *testing.T) {
	type class struct{ permanent, fenced, retryable bool }
	permanent, fenced, retryable, neither := class{permanent: true}, class{fenced: true, retryable: true}, class{retryable: true}, class{}
	for _, tt := range []struct {
		err  error
		want class
	}{
		{nil, neither},
		{errors.New("a bug"), neither},
		{context.Canceled, neither},
		{kgo.ErrClientClosed, neither},
		{&kafka.TopicError{Topic: "t"}, permanent},
		{&kafka.RangeError{Topic: "t"}, permanent},
		{kerr.MessageTooLarge, permanent},
		{kerr.RecordListTooLarge, permanent},
		{kerr.InvalidTransactionTimeout, permanent},
		{kerr.TopicAuthorizationFailed, permanent},
		{kerr.TransactionalIDAuthorizationFailed, permanent},
		{kerr.GroupAuthorizationFailed, permanent},
		{kerr.ClusterAuthorizationFailed, permanent},
		{kerr.SaslAuthenticationFailed, permanent},
		{kerr.UnsupportedSaslMechanism, permanent},
		{kerr.InvalidTopicException, permanent},
		{kerr.InvalidReplicationFactor, permanent},
		{kerr.PolicyViolation, permanent},
		{kerr.InvalidProducerEpoch, fenced},
		{kerr.ProducerFenced, fenced},
		{kerr.InvalidTxnState, fenced},
		{kerr.InvalidProducerIDMapping, fenced},
		{kerr.OperationNotAttempted, retryable},
		{kerr.UnknownTopicOrPartition, retryable},
		{kerr.NotLeaderForPartition, retryable},
		{kerr.CoordinatorNotAvailable, retryable},
		{context.DeadlineExceeded, retryable},
		{io.EOF, retryable},
		{io.ErrUnexpectedEOF, retryable},
		{net.ErrClosed, retryable},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, retryable},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, retryable},
		{&net.DNSError{Name: "broker"}, retryable},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("committing: %w", tt.err)} {
			if tt.err == nil {
				err = nil
			}
			if got := (class{kafka.Permanent(err), kafka.Fenced(err), kafka.Retryable(err)}); got != tt.want {
				t.Errorf("%v: %+v, want %+v", err, got, tt.want)
			}
		}
	}
}
