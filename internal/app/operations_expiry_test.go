package app_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// longGrace is an expiry_grace that no pause of these tests reaches: a copy
// that is gone before was deleted by its origin.
const (
	longGrace  = 30 * time.Second
	withGrace  = "timing: {expiry_grace: 30s}\n"
	graceReads = longGrace + 100*time.Millisecond
)

func TestTheOriginDecidesWhenAKeyExpires(t *testing.T) {
	l := newLink(t, linkOptions{extra: withGrace, argsA: withDebug, argsB: withDebug})
	l.start()
	a, b := site{l.a, "a"}, site{l.b, "b"}
	for _, way := range [][2]site{{a, b}, {b, a}} {
		l.expiresByItself(way[0], way[1])
		l.isRenewedLate(way[0], way[1])
		l.expiresInsideAnAppliedBlock(way[0], way[1])
	}
	if err := l.audit.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// expiresByItself: keys expire at the origin, whose deletion removes them at
// the copy, which removes nothing by itself.
func (l *link) expiresByItself(origin, copied site) {
	t := l.t
	t.Helper()
	before := stat(t, copied, "expired_keys")
	client(t, origin.Redis, "SET %k v PX 300 ; SET %k2 v PX 300 ; RPUSH %k3 x ; PEXPIRE %k3 300 ; SET %there 1")
	testkit.Eventually(t, longGrace/2, func() error {
		if client(t, copied.Redis, "EXISTS %there")[0] == int64(0) {
			return fmt.Errorf("nothing came to %s", copied.name)
		}
		if n := client(t, copied.Redis, "EXISTS %k %k2 %k3")[0]; n != int64(0) {
			return fmt.Errorf("%v keys are still at %s", n, copied.name)
		}
		return nil
	})
	if after := stat(t, copied, "expired_keys"); after != before {
		t.Errorf("%d keys expired at %s, which holds copies only", after-before, copied.name)
	}
	client(t, origin.Redis, "DEL %there")
	l.equal(20*time.Second, graceReads)
}

// isRenewedLate: what renews an expiry comes to the copy when the time that
// it renews has passed there already. No command meets a missing key.
func (l *link) isRenewedLate(origin, copied site) {
	t := l.t
	t.Helper()
	const life = 3 * time.Second
	client(t, origin.Redis, "SET %k v ; SET %c 5 ; SET %p v ; RPUSH %q x y z ; SADD %s 1 2 ; SADD %big 1 2 3 ; SET %r v")
	client(t, origin.Redis, "PEXPIRE %k 3000 ; PEXPIRE %c 3000 ; PEXPIRE %p 3000 ; PEXPIRE %q 3000 ; PEXPIRE %s 3000 ; PEXPIRE %r 3000")
	ends := time.Now().Add(life)
	l.equal(20*time.Second, graceReads)
	l.pause("sink-" + copied.name)
	client(t, origin.Redis, "PEXPIRE %k 600000 ; INCR %c ; PEXPIRE %c 600000 ; PERSIST %p ; RPUSH %q w ; PERSIST %q ; SDIFFSTORE %d %big %s ; PERSIST %r ; RENAME %r %r2 ; "+
		"SET %late 1 PX 500 ; PEXPIRE %late 600000 ; INCR %late ; SET %gone v PX 1")
	awaitClock(t, copied, ends.Add(time.Second))
	l.resume("sink-" + copied.name)
	l.equal(20*time.Second, graceReads)
	for line, want := range map[string]string{
		"GET %k": "v", "GET %c": "6", "GET %p": "v", "LRANGE %q 0 -1": "[x,y,z,w]", "SMEMBERS %d": "[3]", "GET %r2": "v", "GET %late": "2",
		"EXISTS %s %r %gone": "0", "PTTL %q": "-1", "PTTL %d": "-1",
	} {
		l.holds(line, want)
	}
	client(t, origin.Redis, "DEL %k %c %p %q %d %big %r2 %late")
	l.equal(20*time.Second, graceReads)
}

// expiresInsideAnAppliedBlock: a key of a site expires when a block that the
// site's sink applies touches it. Its deletion stands inside the block, and
// is the site's own change nevertheless.
func (l *link) expiresInsideAnAppliedBlock(writer, owner site) {
	t := l.t
	t.Helper()
	l.debug("SET-ACTIVE-EXPIRE", 0)
	defer l.debug("SET-ACTIVE-EXPIRE", 1)
	client(t, writer.Redis, "SELECT 5 ; SADD %t 1")
	client(t, owner.Redis, "SELECT 5 ; SADD %s x")
	l.equal(20*time.Second, graceReads)
	client(t, owner.Redis, "SELECT 5 ; PEXPIRE %s 1")
	testkit.Eventually(t, 20*time.Second, func() error { // the writer's copy lives on for the grace
		if client(t, writer.Redis, "SELECT 5 ; PTTL %s")[1].(int64) < 0 {
			return fmt.Errorf("the expiry has not come to %s", writer.name)
		}
		return nil
	})
	awaitClock(t, owner, time.Now().Add(2*time.Millisecond))
	if n := client(t, owner.Redis, "SELECT 5 ; DBSIZE")[1]; n != int64(2) {
		t.Fatalf("%v keys at %s: the expired one is not there to be met", n, owner.name)
	}
	client(t, writer.Redis, "SELECT 5 ; SDIFFSTORE %d %t %s")
	for _, s := range []site{owner, writer} {
		testkit.Eventually(t, longGrace/2, func() error {
			if n := client(t, s.Redis, "SELECT 5 ; DBSIZE")[1]; n != int64(2) { // t and d; it counts what has expired
				return fmt.Errorf("%v keys at %s, want 2", n, s.name)
			}
			return nil
		})
	}
	l.equal(20*time.Second, graceReads)
	client(t, writer.Redis, "SELECT 5 ; DEL %t %d")
	l.equal(20*time.Second, graceReads)
}

// stat reads a number of INFO stats.
func stat(t testing.TB, s site, name string) int {
	t.Helper()
	info, err := s.Client().Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("INFO of %s has no %s", s.name, name)
	return 0
}

func TestWhatASiteEvictsIsDeletedAtTheOther(t *testing.T) {
	l := newLink(t, linkOptions{})
	l.start()
	for _, s := range []site{{l.a, "a"}, {l.b, "b"}} {
		value := strings.Repeat("x", 10_000)
		for i := range 400 {
			client(t, s.Redis, fmt.Sprintf("SET %%%s%d %s EX 3600", s.name, i, value))
		}
		l.settled(20 * time.Second)
		client(t, s.Redis, "CONFIG SET maxmemory-policy volatile-random ; CONFIG SET maxmemory 3mb")
		testkit.Eventually(t, 20*time.Second, func() error {
			client(t, s.Redis, "PING")
			if n := stat(t, s, "evicted_keys"); n < 100 {
				return fmt.Errorf("%d keys evicted", n)
			}
			return nil
		})
		client(t, s.Redis, "CONFIG SET maxmemory 0")
		l.settled(20 * time.Second)
	}
}
