package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// WorkloadOptions says what load to make.
type WorkloadOptions struct {
	Addr    string // of the Redis
	Prefix  string // of every key: disjoint ones for the two sites of a link
	Seed    uint64 // equal seeds make equal operations
	Clients int    // 0: 4
	Rate    int    // operations a second of all clients together; 0: as fast as they can
	Most    int64  // operations, then the load ends by itself; 0: no end

	// Outages: the server may go away for a while. A client that was not
	// answered goes on with other keys, since it does not know those it has.
	Outages bool

	// OnlyAdds: no key is deleted, and no element removed.
	OnlyAdds bool
}

// Workload writes to a Redis what must not be applied twice or left out:
// counters, appends, pushes, transactions, scripts. It knows what every key
// must hold in the end, from the writes that the server acknowledged alone.
type Workload struct {
	o       WorkloadOptions
	redis   *goredis.Client
	writers []*writer
	wrong   []error // what each could not do
	done    atomic.Int64
	cut     atomic.Int64

	stop  context.CancelFunc
	ended chan struct{}
	err   error // why a writer gave up; read it after ended
}

// StartWorkload begins to write. The load goes on until Stop, at the latest
// until the test ends.
func StartWorkload(tb testing.TB, o WorkloadOptions) *Workload {
	tb.Helper()
	if o.Clients == 0 {
		o.Clients = 4
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Workload{o: o, redis: newClient(o.Addr), stop: stop, ended: make(chan struct{})}
	for i := range o.Clients {
		w.writers = append(w.writers, newWriter(fmt.Sprintf("%s:%d", o.Prefix, i), w.redis, rand.New(rand.NewPCG(o.Seed, uint64(i)))))
	}
	w.wrong = make([]error, o.Clients)
	var g errgroup.Group
	for i := range w.writers {
		g.Go(func() error { return w.write(ctx, i) })
	}
	go func() {
		defer close(w.ended)
		w.err = g.Wait()
		stop()
	}()
	tb.Cleanup(func() {
		stop()
		<-w.ended
		w.redis.Close()
	})
	return w
}

// Operations is how many operations the server has acknowledged so far.
func (w *Workload) Operations() int64 { return w.done.Load() }

// Cut is how many operations the server has not answered.
func (w *Workload) Cut() int64 { return w.cut.Load() }

// Stop ends the load and waits for its last answers. An error tells that an
// answer never came, so that what a key must hold is not known any more.
func (w *Workload) Stop() error {
	w.stop()
	<-w.ended
	return w.err
}

// Wait waits until the load has ended by itself.
func (w *Workload) Wait(ctx context.Context) error {
	select {
	case <-w.ended:
		return w.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the load to end: %w", ctx.Err())
	}
}

// Verify reads every key of the load from any Redis that must hold them, and
// tells each that does not hold what it must. Stop the load first.
func (w *Workload) Verify(ctx context.Context, client *goredis.Client) error {
	select {
	case <-w.ended:
	default:
		return errors.New("the load still runs: stop it first")
	}
	errs := slices.Clone(w.wrong)
	for _, wr := range w.writers {
		wrong, err := wr.verify(ctx, client)
		if err != nil {
			return err
		}
		errs = append(errs, wrong...)
	}
	return errors.Join(errs...)
}

// write makes one operation after another, at this writer's share of the rate.
// An operation that was begun is finished: ctx ends the load only between two.
func (w *Workload) write(ctx context.Context, writer int) error {
	var pause <-chan time.Time
	if w.o.Rate > 0 {
		tick := time.NewTicker(time.Second * time.Duration(w.o.Clients) / time.Duration(w.o.Rate))
		defer tick.Stop()
		pause = tick.C
	}
	finish := context.WithoutCancel(ctx)
	clients := int64(w.o.Clients)
	share := (w.o.Most + clients - 1) / clients // every writer has written, whatever the machine does
	for n := int64(0); ctx.Err() == nil; n++ {
		if w.o.Most > 0 && n >= share {
			return nil
		}
		if pause != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-pause:
			}
		}
		err := w.writers[writer].operate(finish, w.o.OnlyAdds)
		switch {
		case err == nil:
			w.done.Add(1)
		case w.o.Outages && isAway(err): // nothing was changed
		case w.o.Outages:
			if isReply(err) { // its keys do not hold what it wrote
				w.wrong[writer] = errors.Join(w.wrong[writer], err)
			}
			w.writers[writer] = w.writers[writer].anew(w.cut.Add(1))
			awaitServer(ctx, w.redis)
		default:
			return fmt.Errorf("load on %s: %w", w.o.Addr, err)
		}
	}
	return nil
}

// isAway tells whether a server answers that it cannot take writes now.
func isAway(err error) bool {
	text := strings.TrimPrefix(err.Error(), "EXECABORT ")
	return slices.ContainsFunc([]string{"LOADING", "READONLY", "MASTERDOWN", "UNBLOCKED", "Transaction discarded"}, func(code string) bool { return strings.HasPrefix(text, code) })
}
