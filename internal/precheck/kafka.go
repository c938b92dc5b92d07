package precheck

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"twinlog/internal/kafka"
)

// brokers checks the Kafka cluster and the link's topics in it.
type brokers struct {
	sheet
	cfg    *Config
	opts   []kgo.Opt
	client *kgo.Client
	begun  []string // directions that have published; mu guards it
	mu     sync.Mutex
}

// transactionTimeout is what a source asks the brokers for.
const transactionTimeout = 20 * time.Second

// ringSize is how many transactional ids a source uses in turn.
const ringSize = 3

func (b *brokers) check(ctx context.Context) {
	if err := b.connect(); err != nil {
		b.error("kafka-reachable", err.Error(), "correct the section kafka of the configuration")
		return
	}
	defer b.client.Close()
	if !b.reachable(ctx) {
		return
	}
	steps := []func(context.Context, *sheet){b.transactions, b.groups}
	for _, d := range b.cfg.Directions {
		steps = append(steps, func(ctx context.Context, s *sheet) { b.topic(ctx, s, d) })
	}
	if slices.ContainsFunc(b.cfg.Directions, func(d Direction) bool { return d.DeadLetter }) {
		steps = append(steps, b.deadLetters)
	}
	sheets := make([]sheet, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeLimit)
			defer cancel()
			step(ctx, &sheets[i])
		})
	}
	wg.Wait()
	for _, s := range sheets {
		b.items = append(b.items, s.items...)
	}
}

func (b *brokers) connect() error {
	opts, err := b.cfg.Kafka.Options()
	if err != nil {
		return err
	}
	versions := kafka.Versions()
	versions.SetMaxKeyVersion(kmsg.DescribeGroups.Int16(), 5) // newer ones tell no rights for a group that does not exist yet
	opts = append(opts, kgo.MaxVersions(versions), kgo.RetryTimeout(timeLimit))
	b.opts = opts
	if b.client, err = kgo.NewClient(b.opts...); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return nil
}

// reachable asks every broker that the first one names.
func (b *brokers) reachable(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	const remedy = "start Kafka, or correct kafka.brokers, kafka.tls and kafka.sasl"
	if err := b.client.Ping(ctx); err != nil {
		b.noAnswer("kafka-reachable", err, strings.Join(b.cfg.Kafka.Brokers, ", ")+": "+err.Error(), remedy, kafka.Retryable)
		return false
	}
	adm := kadm.NewClient(b.client)
	metadata, err := adm.BrokerMetadata(ctx)
	if err != nil {
		b.noAnswer("kafka-reachable", err, "asking for the brokers: "+err.Error(), remedy, kafka.Retryable)
		return false
	}
	versions, err := adm.ApiVersions(ctx)
	if err != nil {
		b.noAnswer("kafka-reachable", err, "asking for the brokers: "+err.Error(), remedy, kafka.Retryable)
		return false
	}
	var away []string
	for _, d := range metadata.Brokers {
		if v := versions[d.NodeID]; v.Err != nil {
			away = append(away, fmt.Sprintf("broker %d at %s:%d: %v", d.NodeID, d.Host, d.Port, v.Err))
		}
	}
	slices.Sort(away)
	switch {
	case len(away) == len(metadata.Brokers):
		b.error("kafka-reachable", "the brokers are announced under addresses that do not answer: "+strings.Join(away, "; "),
			"set advertised.listeners of the brokers to addresses that twinlog can reach")
		return false
	case len(away) > 0:
		b.warning("kafka-reachable", strings.Join(away, "; "), "start these brokers, or set their advertised.listeners to addresses that twinlog can reach")
	default:
		b.ok("kafka-reachable", fmt.Sprintf("%d of %d brokers answer", len(metadata.Brokers), len(metadata.Brokers)))
	}
	return true
}

// transactions tries the user's rights with a transactional id that no source
// uses: taking one that a source uses would fence it.
func (b *brokers) transactions(ctx context.Context, s *sheet) {
	const name = "kafka-transactions"
	prefix := "twinlog." + b.cfg.Link + "."
	err := awaitCoordinator(ctx, func() error { return b.takeID(ctx, prefix+"precheck") })
	if err == nil {
		err = awaitCoordinator(ctx, func() error { return b.describeRing(ctx, prefix) })
	}
	switch {
	case err == nil:
		s.ok(name, "the user may use the transactional ids "+prefix+"*")
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		s.error(name, fmt.Sprintf("the brokers' transaction.max.timeout.ms is below the %v that sources need", transactionTimeout), "raise transaction.max.timeout.ms (Kafka's default is 900000)")
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		s.error(name, "the user may not use the transactional ids "+prefix+"*", "grant Write and Describe on transactional ids with the prefix "+prefix)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		s.error(name, "the user may not write idempotently", "grant IdempotentWrite on the cluster")
	case errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, context.DeadlineExceeded):
		s.error(name, "no transaction coordinator answers: "+err.Error(),
			"see whether __transaction_state has a leader, and whether transaction.state.log.replication.factor is at most the number of brokers")
	default:
		s.error(name, "asking for a transactional id: "+err.Error(), "see the brokers' logs")
	}
}

func (b *brokers) takeID(ctx context.Context, id string) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = &id
	req.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// awaitCoordinator asks again while there is no coordinator: the first who
// asks makes the brokers create the topic that it works with.
func awaitCoordinator(ctx context.Context, ask func() error) error {
	backoff := kafka.Backoff{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}
	for attempt := 0; ; attempt++ {
		err := ask()
		if !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.NotCoordinator) {
			return err
		}
		if backoff.Wait(ctx, attempt) != nil {
			return err
		}
	}
}

// describeRing asks about the ids that sources use, without taking them.
func (b *brokers) describeRing(ctx context.Context, prefix string) error {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	for _, d := range b.cfg.Directions {
		for n := range ringSize {
			req.TransactionalIDs = append(req.TransactionalIDs, fmt.Sprintf("%s%s.%s.%d", prefix, d.From, lane, n))
		}
	}
	if len(req.TransactionalIDs) == 0 {
		return nil
	}
	for _, shard := range b.client.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.DescribeTransactionsResponse)
		if shard.Err != nil || !ok {
			return shard.Err
		}
		for _, state := range resp.TransactionStates {
			if err := kerr.ErrorForCode(state.ErrorCode); err != nil && !errors.Is(err, kerr.TransactionalIDNotFound) {
				return err
			}
		}
	}
	return nil
}

// groups asks for the rights on the workers' group and on those that mirror
// the sinks' offsets.
func (b *brokers) groups(ctx context.Context, s *sheet) {
	const name = "kafka-groups"
	prefix := "twinlog." + b.cfg.Link
	groups := append(make([]string, 0, 1+len(b.cfg.Directions)), prefix)
	for _, d := range b.cfg.Directions {
		groups = append(groups, prefix+"."+d.name())
	}
	var denied []string
	unknown := false
	for _, group := range groups {
		var rights int32
		err := awaitCoordinator(ctx, func() (err error) {
			rights, err = b.groupRights(ctx, group)
			return err
		})
		switch {
		case errors.Is(err, kerr.GroupAuthorizationFailed):
			denied = append(denied, group)
		case err != nil:
			s.noAnswer(name, err, "asking for group "+group+": "+err.Error(),
				"see whether __consumer_offsets has a leader, and whether offsets.topic.replication.factor is at most the number of brokers", kafka.Retryable)
			return
		case rights == math.MinInt32:
			unknown = true
		case len(lacking(rights, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)) > 0:
			denied = append(denied, group)
		}
	}
	switch {
	case len(denied) > 0:
		s.error(name, "the user may not use the groups "+strings.Join(denied, ", "), "grant Read and Describe on groups with the prefix "+prefix)
	case unknown:
		s.warning(name, "the brokers do not tell the rights on groups", "make sure that the user has Read and Describe on groups with the prefix "+prefix)
	default:
		s.ok(name, "the user may use the groups "+prefix+" and "+prefix+".*")
	}
}

func (b *brokers) groupRights(ctx context.Context, group string) (int32, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	req.IncludeAuthorizedOperations = true
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return 0, err
	}
	if len(resp.Groups) != 1 {
		return 0, fmt.Errorf("the broker answers about %d groups", len(resp.Groups))
	}
	return resp.Groups[0].AuthorizedOperations, kerr.ErrorForCode(resp.Groups[0].ErrorCode)
}

// lacking names the operations that are not in a bit field of rights.
func lacking(rights int32, need ...kmsg.ACLOperation) []string {
	var names []string
	for _, op := range need {
		if rights&(1<<op) == 0 {
			names = append(names, operationNames[op])
		}
	}
	return names
}

var operationNames = map[kmsg.ACLOperation]string{
	kmsg.ACLOperationRead: "Read", kmsg.ACLOperationWrite: "Write", kmsg.ACLOperationDescribe: "Describe", kmsg.ACLOperationDescribeConfigs: "DescribeConfigs",
}
