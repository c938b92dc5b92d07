package testkit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
)

// Kafka is a broker of a test's own: Apache Kafka (KRaft, one node) where
// Java and Maven are there, else the embedded one, which makes no claim about
// crashes. Under CI=true only the real one will do.
type Kafka struct {
	tb       testing.TB
	addr     string
	far      *Delay // nil: no second listener
	farAddr  string // where the broker listens for what came through far
	dir      string
	lib      string
	server   *child
	embedded *kafka.Embedded
}

// StartKafka starts a broker that is gone when the test ends.
func StartKafka(tb testing.TB) *Kafka {
	tb.Helper()
	k := &Kafka{tb: tb}
	k.start()
	return k
}

// StartDistantKafka starts a broker that clients of Distant's addresses reach
// over a distance, which SetDistance sets. The embedded broker is always near.
func StartDistantKafka(tb testing.TB) *Kafka {
	tb.Helper()
	k := &Kafka{tb: tb, farAddr: freeAddr(tb)}
	k.far = StartDelay(tb, "127.0.0.1:0", k.farAddr)
	k.start()
	return k
}

func (k *Kafka) start() {
	tb := k.tb
	tb.Helper()
	lib, err := ResolveKafka(tb.Context())
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("CI needs real Apache Kafka: %v", err)
		}
		tb.Logf("using the embedded broker: %v", err)
		if k.embedded, err = kafka.StartEmbedded(tb.TempDir()); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { k.embedded.Close() })
		k.addr = k.embedded.Brokers()[0]
		return
	}
	k.lib, k.dir, k.addr = lib, tb.TempDir(), freeAddr(tb)
	k.format()
	tb.Cleanup(func() {
		if k.server != nil && !k.server.ended() {
			if err := k.server.kill(); err != nil {
				tb.Error(err)
			}
		}
		if tb.Failed() {
			tb.Logf("log of Kafka %s:\n%s", k.addr, tail(k.logFile()))
		}
	})
	k.Restart()
}

// Brokers are the addresses that clients dial.
func (k *Kafka) Brokers() []string { return []string{k.addr} }

// Distant are the addresses of StartDistantKafka that lead over the distance.
func (k *Kafka) Distant() []string {
	if k.far == nil || !k.Real() {
		return k.Brokers()
	}
	return []string{k.far.Addr()}
}

// SetDistance sets how long each way to and from a distant broker takes.
func (k *Kafka) SetDistance(oneWay time.Duration) { k.far.Set(oneWay) }

// Far is what lies between a distant broker and its clients.
func (k *Kafka) Far() *Delay { return k.far }

// Real tells whether this is Apache Kafka, so that crashes of it mean something.
func (k *Kafka) Real() bool { return k.embedded == nil }

// Kill ends the broker as kill -9 does.
func (k *Kafka) Kill() {
	k.tb.Helper()
	if !k.Real() {
		k.tb.Fatal("the embedded broker cannot be killed")
	}
	if err := k.server.kill(); err != nil {
		k.tb.Fatal(err)
	}
}

// Stop ends the broker in good order, as SIGTERM does.
func (k *Kafka) Stop() {
	k.tb.Helper()
	k.signal(syscall.SIGTERM)
	select {
	case <-k.server.done:
	case <-time.After(startTimeout):
		k.tb.Fatalf("Kafka %s does not end", k.addr)
	}
}

// Save keeps what the broker holds now, for GoBack. The broker is restarted.
func (k *Kafka) Save() {
	k.tb.Helper()
	k.Stop()
	if err := os.CopyFS(filepath.Join(k.dir, "saved"), os.DirFS(filepath.Join(k.dir, "data"))); err != nil {
		k.tb.Fatal(err)
	}
	k.Restart()
}

// GoBack makes the broker hold again what it held at Save, as if the machine
// had died before its disk had the rest.
func (k *Kafka) GoBack() { k.goBack("") }

// GoBackIn is GoBack for partition 0 of one topic: a disk has the logs of a
// machine that died as it likes.
func (k *Kafka) GoBackIn(topic string) { k.goBack(topic + "-0") }

func (k *Kafka) goBack(log string) {
	k.tb.Helper()
	k.Kill()
	data := filepath.Join(k.dir, "data", log)
	if err := errors.Join(os.RemoveAll(data), os.Rename(filepath.Join(k.dir, "saved", log), data)); err != nil {
		k.tb.Fatal(err)
	}
	k.Restart()
}

// Configure adds to the broker's configuration file, which Restart reads.
func (k *Kafka) Configure(property string) {
	k.tb.Helper()
	file, err := os.OpenFile(k.properties(), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintln(file, property)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		k.tb.Fatal(err)
	}
}

// Freeze stops the broker's process without ending it, and Thaw lets it go on.
func (k *Kafka) Freeze() { k.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (k *Kafka) Thaw() { k.signal(syscall.SIGCONT) }

func (k *Kafka) signal(sig syscall.Signal) {
	k.tb.Helper()
	if err := k.server.signal(sig); err != nil {
		k.tb.Fatal(err)
	}
}

// Restart starts the broker on its address and data, and waits until it answers.
func (k *Kafka) Restart() {
	k.tb.Helper()
	log, err := os.OpenFile(k.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		k.tb.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("java", "-Djava.io.tmpdir="+k.dir, "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", k.lib+"/*", "kafka.Kafka", k.properties())
	cmd.Dir, cmd.Stdout, cmd.Stderr = k.dir, log, log
	if k.server, err = startChild(cmd); err != nil {
		k.tb.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(k.addr))
	if err != nil {
		k.tb.Fatal(err)
	}
	defer client.Close()
	Eventually(k.tb, time.Minute, func() error {
		if k.server.ended() {
			k.tb.Fatalf("Kafka ended at start: %v\n%s", k.server.err, tail(k.logFile()))
		}
		ctx, cancel := context.WithTimeout(k.tb.Context(), time.Second)
		defer cancel()
		brokers, err := kadm.NewClient(client).ListBrokers(ctx)
		if err == nil && len(brokers) == 0 {
			err = fmt.Errorf("no broker is registered at %s", k.addr)
		}
		return err
	})
}

func (k *Kafka) logFile() string    { return filepath.Join(k.dir, "kafka.log") }
func (k *Kafka) properties() string { return filepath.Join(k.dir, "server.properties") }

// format writes the configuration and an empty log directory.
func (k *Kafka) format() {
	k.tb.Helper()
	controller := freeAddr(k.tb)
	listeners, advertised := "PLAINTEXT://"+k.addr, "PLAINTEXT://"+k.addr
	if k.far != nil {
		listeners, advertised = listeners+",DISTANT://"+k.farAddr, advertised+",DISTANT://"+k.far.Addr()
	}
	text := fmt.Sprintf(`process.roles=broker,controller
node.id=1
listeners=%[1]s,CONTROLLER://%[2]s
advertised.listeners=%[3]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,DISTANT:PLAINTEXT
controller.quorum.bootstrap.servers=%[2]s
log.dirs=data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
controller.quorum.election.timeout.ms=200
controller.quorum.fetch.timeout.ms=400
controller.quorum.election.backoff.max.ms=200
`, listeners, controller, advertised)
	if err := os.WriteFile(k.properties(), []byte(text), 0o600); err != nil {
		k.tb.Fatal(err)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		k.tb.Fatal(err)
	}
	id[0] &= 0x7f // an id that begins with "-" would be taken for an option
	cmd := exec.CommandContext(k.tb.Context(), "java", "-Djava.io.tmpdir="+k.dir, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", k.lib+"/*",
		"kafka.tools.StorageTool", "format", "-t", base64.RawURLEncoding.EncodeToString(id), "-c", k.properties(), "--standalone")
	cmd.Dir = k.dir // log.dirs is a list: a path in it must not hold a comma
	if out, err := cmd.CombinedOutput(); err != nil {
		k.tb.Fatalf("formatting Kafka's storage: %v\n%s", err, out)
	}
}
