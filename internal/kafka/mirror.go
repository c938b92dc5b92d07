package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Mirror is an offset as a consumer group holds it.
type Mirror struct {
	Offset   int64 // -1: none
	Metadata string
}

// FetchMirror reads what group has committed for a partition.
func FetchMirror(ctx context.Context, client []kgo.Opt, group, topic string, partition int32) (Mirror, error) {
	c, err := kgo.NewClient(client...)
	if err != nil {
		return Mirror{}, fmt.Errorf("making a client: %w", err)
	}
	defer c.Close()
	offsets, err := kadm.NewClient(c).FetchOffsets(ctx, group)
	if err != nil {
		return Mirror{}, fmt.Errorf("asking for the offsets of group %s: %w", group, explained(err))
	}
	at, ok := offsets.Lookup(topic, partition)
	if !ok {
		return Mirror{Offset: -1}, nil
	}
	if at.Err != nil {
		return Mirror{}, fmt.Errorf("asking for the offsets of group %s: %w", group, explained(at.Err))
	}
	return Mirror{Offset: at.At, Metadata: at.Metadata}, nil
}

// MirrorCommitter commits offsets to a consumer group without being a member
// of it, over one connection.
type MirrorCommitter struct {
	group, topic string
	partition    int32
	client       *kgo.Client
}

// NewMirrorCommitter does not connect yet.
func NewMirrorCommitter(client []kgo.Opt, group, topic string, partition int32) (*MirrorCommitter, error) {
	c, err := kgo.NewClient(client...)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return &MirrorCommitter{group, topic, partition, c}, nil
}

// Commit stores the next offset to read, and metadata with it.
func (m *MirrorCommitter) Commit(ctx context.Context, offset int64, metadata string) error {
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: m.topic, Partition: m.partition, At: offset, LeaderEpoch: -1, Metadata: metadata})
	responses, err := kadm.NewClient(m.client).CommitOffsets(ctx, m.group, os)
	if err := errors.Join(err, responses.Error()); err != nil {
		return fmt.Errorf("committing offset %d to group %s: %w", offset, m.group, explained(err))
	}
	return nil
}

// Close ends the committer.
func (m *MirrorCommitter) Close() { m.client.Close() }
