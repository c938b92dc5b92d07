package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"twinlog/internal/app"
	"twinlog/internal/kafka"
	"twinlog/internal/redis"
)

func newDemoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Two private Redis, an embedded broker and a two-way link, to try",
		Long: `Starts two private redis-servers and an embedded Kafka broker in a temporary
directory, links the two in both directions, and shows writes at each site
arriving at the other. It keeps running until Ctrl-C, which leaves no process
and no file behind.

The embedded broker is for trying only: production and every claim about
crashes need a real Apache Kafka.`,
		Example: `  twinlog demo          # keep running: write with redis-cli, look at the console
  twinlog demo --once   # one round trip, a summary, exit 0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "do one round trip, print a summary and exit")
	return cmd
}

// seeded is how many keys site a holds before the link starts.
const seeded = 1002

const demoPrefix = "twinlog-demo-"

// runDemo starts everything, shows the round trip, and takes everything down.
func runDemo(ctx context.Context, out io.Writer, once bool) (err error) {
	if _, err := redis.FindServer(); err != nil {
		return err
	}
	if n := removeDeadDemos(os.TempDir()); n > 0 {
		fmt.Fprintf(out, "removed the directories of %d demos that were killed\n", n)
	}
	dir, unlock, err := demoDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock(), os.RemoveAll(dir)) }()

	d := &demo{dir: dir, out: out}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.seed(ctx); err != nil {
		return err
	}
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return d.worker.Run(runCtx) })
	showErr := d.show(runCtx, once)
	if showErr == nil && !once {
		fmt.Fprintln(out, "\nCtrl-C ends the demo.")
		<-ctx.Done()
		fmt.Fprintln(out, "\nstopping …")
	}
	stop()
	return errors.Join(showErr, g.Wait())
}

// demo owns the servers and the worker of one demonstration.
type demo struct {
	dir    string
	out    io.Writer
	redis  [2]*redis.Server
	broker *kafka.Embedded
	worker *app.Worker
	config string
	log    *os.File
}

func (d *demo) start(ctx context.Context) error {
	for i, site := range []string{"a", "b"} {
		dir := filepath.Join(d.dir, "redis-"+site)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("making a directory for site %s: %w", site, err)
		}
		server, err := redis.StartServer(ctx, redis.ServerOptions{Dir: dir, Args: []string{"--save", "", "--repl-diskless-sync-delay", "0"}})
		if err != nil {
			return fmt.Errorf("starting the Redis of site %s: %w", site, err)
		}
		d.redis[i] = server
	}
	broker, err := kafka.StartEmbedded(filepath.Join(d.dir, "kafka"))
	if err != nil {
		return fmt.Errorf("starting the embedded broker: %w", err)
	}
	d.broker = broker
	return d.startWorker()
}

func (d *demo) startWorker() error {
	log, err := os.OpenFile(filepath.Join(d.dir, "twinlog.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the demo's log: %w", err)
	}
	d.log = log
	d.config = filepath.Join(d.dir, "twinlog.yml")
	write := func(listen string) error {
		text := fmt.Sprintf("link: demo\nkafka:\n  brokers: [%s]\nsites:\n  a: {redis: {addrs: [\"%s\"]}}\n  b: {redis: {addrs: [\"%s\"]}}\n"+
			"directions:\n  - {from: a, to: b, snapshot: initial}\n  - {from: b, to: a, snapshot: no_data}\nhttp: {listen: %s}\nspool: {dir: %s}\n",
			strings.Join(d.broker.Brokers(), ", "), d.redis[0].Addr(), d.redis[1].Addr(), listen, filepath.Join(d.dir, "spool"))
		return os.WriteFile(d.config, []byte(text), 0o600)
	}
	if err := write("127.0.0.1:0"); err != nil {
		return fmt.Errorf("writing the demo's configuration: %w", err)
	}
	c, err := loadConfig(d.config)
	if err != nil {
		return err
	}
	if d.worker, err = app.New(workerOptions(c, slog.New(slog.NewTextHandler(log, nil)))); err != nil {
		return err
	}
	if err := write(d.worker.Addr()); err != nil {
		return fmt.Errorf("writing the demo's configuration: %w", err)
	}
	return nil
}

// close takes down what was started, last first.
func (d *demo) close() error {
	var errs []error
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	if d.broker != nil {
		errs = append(errs, d.broker.Close())
	}
	for _, server := range d.redis {
		if server != nil {
			errs = append(errs, server.Stop())
		}
	}
	return errors.Join(errs...)
}

// showTimeout bounds the round trip.
const showTimeout = 60 * time.Second

// seed writes at site a what the link finds there when it starts.
func (d *demo) seed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	a := demoClient(d.redis[0])
	defer a.Close()
	pipe := a.Pipeline()
	for i := range 1000 {
		pipe.HSet(ctx, fmt.Sprintf("user:%d", i), "name", fmt.Sprintf("user %d", i), "visits", i)
	}
	pipe.RPush(ctx, "queue", "first", "second", "third")
	pipe.Set(ctx, "greeting", "hello", time.Hour)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("seeding site a: %w", err)
	}
	return nil
}

// show waits for the copy, and then writes at each site what must arrive at
// the other.
func (d *demo) show(ctx context.Context, once bool) error {
	limit, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	a, b := demoClient(d.redis[0]), demoClient(d.redis[1])
	defer a.Close()
	defer b.Close()

	fmt.Fprintf(d.out, "site a  redis-cli -p %s\nsite b  redis-cli -p %s\nKafka   %s (embedded, topics demo.a-to-b and demo.b-to-a)\n\n",
		port(d.redis[0]), port(d.redis[1]), strings.Join(d.broker.Brokers(), ","))
	started := time.Now()
	if err := d.until(limit, func() bool {
		return b.Exists(limit, "greeting", "queue", "user:999").Val() == 3 && b.DBSize(limit).Val() >= seeded
	}); err != nil {
		return fmt.Errorf("waiting for the copy at site b: %w", err)
	}
	fmt.Fprintf(d.out, "a → b   copied %d keys that were there %18d ms (start included)\n", seeded, time.Since(started).Milliseconds())
	steps := []struct {
		from, to *goredis.Client
		arrow    string
		command  []any
		arrived  func() bool
	}{
		{a, b, "a → b", []any{"SET", "from:a", "1"}, func() bool { return b.Get(limit, "from:a").Val() == "1" }},
		{b, a, "b → a", []any{"SET", "from:b", "2"}, func() bool { return a.Get(limit, "from:b").Val() == "2" }},
		{a, b, "a → b", []any{"INCRBY", "counter:a", "41"}, func() bool { return b.Get(limit, "counter:a").Val() == "41" }},
		{b, a, "b → a", []any{"LPUSH", "list:b", "x", "y"}, func() bool { return a.LLen(limit, "list:b").Val() == 2 }},
		{a, b, "a → b", []any{"DEL", "greeting"}, func() bool { return b.Exists(limit, "greeting").Val() == 0 }},
	}
	for _, s := range steps {
		started := time.Now()
		if err := s.from.Do(limit, s.command...).Err(); err != nil {
			return fmt.Errorf("%s: %w", fmt.Sprint(s.command...), err)
		}
		if err := d.until(limit, s.arrived); err != nil {
			return fmt.Errorf("waiting for %v, %s: %w", s.command, s.arrow, err)
		}
		fmt.Fprintf(d.out, "%s   %-35s %10.1f ms\n", s.arrow, strings.Trim(fmt.Sprint(s.command), "[]"), float64(time.Since(started).Microseconds())/1000)
	}
	return d.summary(limit, a, b, once)
}

func (d *demo) summary(ctx context.Context, a, b *goredis.Client, once bool) error {
	fmt.Fprintln(d.out)
	for _, s := range []struct {
		site, mark string
		client     *goredis.Client
	}{{"a", "__twinlog:demo:b-to-a:0", a}, {"b", "__twinlog:demo:a-to-b:0", b}} {
		mark, err := s.client.Get(ctx, s.mark).Result()
		if err != nil {
			return fmt.Errorf("reading the mark at site %s: %w", s.site, err)
		}
		words := strings.Fields(mark)
		fmt.Fprintf(d.out, "mark at %s: seq %s at Kafka offset %s; %d keys\n", s.site, words[3], words[4], s.client.DBSize(ctx).Val()-1)
	}
	if once {
		fmt.Fprintln(d.out, "both directions work")
		return nil
	}
	fmt.Fprintf(d.out, `
write    redis-cli -p %[1]s set greeting hello     (site a; site b: -p %[2]s)
read     redis-cli -p %[2]s get greeting
console  http://%[3]s/
events   %[4]s tail -c %[5]s --direction a-to-b --from-beginning
status   %[4]s status -c %[5]s
log      %[6]s
`, port(d.redis[0]), port(d.redis[1]), d.worker.Addr(), os.Args[0], d.config, filepath.Join(d.dir, "twinlog.log"))
	return nil
}

// until asks again and again, a millisecond apart, until done is true.
func (d *demo) until(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			status := d.worker.Status()
			return fmt.Errorf("%w; the link: %+v", ctx.Err(), status.Directions)
		case <-tick.C:
		}
	}
	return nil
}

func demoClient(s *redis.Server) *goredis.Client {
	return redis.Config{Addrs: []string{s.Addr()}}.Client()
}

func port(s *redis.Server) string { return s.Addr()[strings.LastIndexByte(s.Addr(), ':')+1:] }

// demoDir makes the demo's directory. Its lock tells later demos whether the
// one that made it still lives.
func demoDir() (dir string, unlock func() error, err error) {
	dir, err = os.MkdirTemp("", demoPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("making the demo's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("locking the demo's directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return "", nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return dir, lock.Close, nil
}

// removeDeadDemos removes the directories of demos that were killed.
func removeDeadDemos(parent string) (removed int) {
	dirs, err := filepath.Glob(filepath.Join(parent, demoPrefix+"*"))
	if err != nil {
		return 0
	}
	for _, dir := range dirs {
		lock, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue // another user's, or just being made
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && os.RemoveAll(dir) == nil {
			removed++
		}
		lock.Close()
	}
	return removed
}
