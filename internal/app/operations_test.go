package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// withDebug lets a test say when expired keys are removed.
var withDebug = []string{"--enable-debug-command", "yes"}

// Every operation is run at one site, alone, inside MULTI with another write
// and inside a script, and its result compared at the other; then the other
// way round. The audit sees that nothing came back.
func TestEveryOperationReachesTheOtherSite(t *testing.T) {
	l := newLink(t, linkOptions{argsA: withDebug, argsB: withDebug})
	l.start()
	tab := newTable(t, l)
	a, b := site{l.a, "a"}, site{l.b, "b"}
	for _, s := range []site{a, b} {
		tab.run(s, tab.trials(s, 0))
		l.debug("SET-ACTIVE-EXPIRE", 0)
		tab.run(s, tab.trials(s, expired))
		l.debug("SET-ACTIVE-EXPIRE", 1)
	}
	for i, one := range tab.trials(a, shared) { // each site's marks go while the other writes
		tab.run(a, []trial{one})
		tab.run(b, []trial{tab.trials(b, shared)[i]})
	}
	for _, name := range promised {
		if !tab.exercised[name] {
			t.Errorf("no row runs %s", name)
		}
	}
	l.settled(20 * time.Second)
}

// debug runs DEBUG at both sites.
func (l *link) debug(args ...any) {
	l.t.Helper()
	for _, r := range []*testkit.Redis{l.a, l.b} {
		if err := r.Client().Do(l.t.Context(), append([]any{"DEBUG"}, args...)...).Err(); err != nil {
			l.t.Fatal(err)
		}
	}
}

// promised are the commands that the service we model carries, and those
// beyond it. A container's subcommands are commands of their own.
var promised = slices.Concat(
	strings.Fields(`APPEND BITOP BLPOP BRPOP BRPOPLPUSH DECR DECRBY DEL EVAL EVALSHA EXEC EXPIRE EXPIREAT GEOADD GETSET HDEL HINCRBY
		HINCRBYFLOAT HMSET HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE MSET MSETNX MULTI PERSIST
		PEXPIRE PEXPIREAT PFADD PFMERGE PSETEX PUBLISH RENAME RENAMENX RPOP RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE SELECT SET SETBIT
		SETEX SETNX SETRANGE SINTERSTORE SMOVE SPOP SREM SUNIONSTORE SWAPDB ZADD ZINCRBY ZINTERSTORE ZREM ZREMRANGEBYLEX
		ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE`),
	strings.Fields(`FLUSHDB FLUSHALL UNLINK COPY LMOVE BLMOVE LMPOP BLMPOP RESTORE SORT GETEX GETDEL BITFIELD XADD XDEL XTRIM XSETID
		XREADGROUP XACK XCLAIM XAUTOCLAIM ZPOPMIN ZPOPMAX ZMPOP BZPOPMIN BZPOPMAX BZMPOP ZRANGESTORE ZDIFFSTORE GEOSEARCHSTORE
		GEORADIUS GEORADIUSBYMEMBER FCALL SPUBLISH`),
	[]string{
		"XGROUP CREATE", "XGROUP SETID", "XGROUP CREATECONSUMER", "XGROUP DELCONSUMER", "XGROUP DESTROY",
		"FUNCTION LOAD", "FUNCTION DELETE", "FUNCTION FLUSH", "FUNCTION RESTORE",
	},
)

// site is where operations are run.
type site struct {
	*testkit.Redis
	name string
}

// variant is how an operation is run.
type variant string

const (
	alone    variant = "alone"
	inMulti  variant = "multi"
	inScript variant = "script"
)

// trial is an operation in one variant at one site, with keys of its own.
type trial struct {
	operation
	variant
	prefix string
	kept   string // what DUMP answered
}

// table runs operations and holds their replies against what was recorded.
type table struct {
	l         *link
	recorded  map[string][]string // replies, by the operation's name
	flags     map[string]string   // as COMMAND INFO answers
	exercised map[string]bool
}

func newTable(t *testing.T, l *link) *table {
	t.Helper()
	raw, err := os.ReadFile("../command/testdata/replication-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]map[string]struct{ Replies []string }
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for name, servers := range cases {
		if replies := servers["redis-7.0.15"].Replies; len(replies) > 0 && !notIn7.MatchString(replies[0]) {
			known[name] = replies
		}
	}
	checkComplete(t, known)
	tab := &table{l: l, flags: map[string]string{}, exercised: map[string]bool{}}
	tab.recorded = known
	for _, r := range []*testkit.Redis{l.a, l.b} {
		if info := r.Client().Info(t.Context(), "server").Val(); !strings.Contains(info, "redis_version:7.0.") {
			tab.recorded = nil
		}
	}
	return tab
}

// notIn7 are the answers to operations that Redis 7.0 does not have.
var notIn7 = regexp.MustCompile("^-ERR (unknown command|syntax error|Invalid stream ID)")

// checkComplete holds the rows against the recordings.
func checkComplete(t *testing.T, known map[string][]string) {
	t.Helper()
	rows := map[string]bool{}
	for _, o := range operations {
		if rows[o.name] {
			t.Errorf("two rows are called %q", o.name)
		}
		rows[o.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !rows[name] && recordedElsewhere[name] == "" {
			t.Errorf("no row runs the recorded operation %q", name)
		}
	}
}

// notInNames is what the name of a function library cannot have.
var notInNames = regexp.MustCompile("[^A-Za-z0-9]+")

// trials returns the operations with an option, in every variant that the
// server allows.
func (tab *table) trials(s site, option rowOption) []trial {
	tab.l.t.Helper()
	var all []trial
	for i, o := range operations {
		if o.options&(shared|expired) != option {
			continue
		}
		for _, v := range []variant{alone, inMulti, inScript} {
			one := trial{operation: o, variant: v, prefix: fmt.Sprintf("%s_%d_%s_%s_", notInNames.ReplaceAllString(o.name, "_"), i, v, s.name)}
			if tab.allowed(one) {
				all = append(all, one)
			}
		}
	}
	return all
}

// allowed tells whether the server runs a trial's commands in its variant.
func (tab *table) allowed(one trial) bool {
	for _, args := range one.commands(one.run) {
		name := fmt.Sprint(args[0])
		flags := tab.flagsOf(args)
		switch {
		case one.variant == alone:
		case name == "MULTI", name == "WATCH", strings.Contains(flags, "no_multi"):
			return false
		case one.variant == inScript && strings.Contains(flags, "noscript"):
			return false
		}
	}
	return true
}

// flagsOf returns what COMMAND INFO tells of a command or its subcommand, at
// both sites.
func (tab *table) flagsOf(args []any) string {
	t := tab.l.t
	t.Helper()
	names := []string{strings.ToLower(fmt.Sprint(args[0]))}
	if len(args) > 1 {
		names = append(names, names[0]+"|"+strings.ToLower(fmt.Sprint(args[1])))
	}
	all := ""
	for _, name := range names {
		flags, ok := tab.flags[name]
		if !ok {
			for _, r := range []*testkit.Redis{tab.l.a, tab.l.b} { // which may be of two versions
				reply, err := r.Client().Do(t.Context(), "COMMAND", "INFO", name).Slice()
				if err != nil {
					t.Fatal(err)
				}
				if row, ok := reply[0].([]any); ok {
					flags += fmt.Sprint(row[2])
				}
			}
			tab.flags[name] = flags
		}
		all += flags
	}
	return all
}

// run runs trials at a site: what comes before all of them, then all of them,
// and compares the sites after each.
func (tab *table) run(s site, trials []trial) {
	t := tab.l.t
	t.Helper()
	conn := s.Client().Conn()
	defer conn.Close()
	overExpired := false
	for i := range trials {
		one := &trials[i]
		overExpired = overExpired || one.is(expired)
		for _, args := range one.commands(one.before) {
			reply, err := do(t, conn, args)
			if err != nil {
				t.Fatalf("%s: before: %q: %v", one.prefix, args, err)
			}
			if args[0] == "DUMP" || args[0] == "SCRIPT" || args[0] == "FUNCTION" && args[1] == "DUMP" {
				one.kept = fmt.Sprint(reply)
			}
		}
		selectFirst(t, conn)
	}
	if overExpired {
		awaitClock(t, s, time.Now().Add(2*time.Millisecond))
	} else {
		tab.l.equal(20*time.Second, grace)
	}
	for i := range trials {
		tab.runOne(s, conn, &trials[i])
		selectFirst(t, conn)
	}
	tab.l.equal(20*time.Second, grace)
}

// equal waits until both sites hold the same, expiries within grace.
func (l *link) equal(timeout, grace time.Duration) {
	l.t.Helper()
	l.a.Equal(l.b, timeout, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
}

// awaitClock waits until a server's clock has passed at.
func awaitClock(t testing.TB, s site, at time.Time) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() error {
		now, err := s.Client().Time(t.Context()).Result()
		if err == nil && !now.After(at) {
			err = fmt.Errorf("it is %v, not yet %v", now, at)
		}
		return err
	})
}

func selectFirst(t testing.TB, conn *goredis.Conn) {
	t.Helper()
	if err := conn.Select(t.Context(), 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// do runs one command. A reply that is an error is returned as the error.
func do(t testing.TB, conn *goredis.Conn, args []any) (any, error) {
	reply, err := conn.Do(t.Context(), args...).Result()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	return reply, err
}

// runOne runs one trial while its other clients wait.
func (tab *table) runOne(s site, conn *goredis.Conn, one *trial) {
	t := tab.l.t
	t.Helper()
	waiting := tab.block(s, one)
	var replies []any
	commands := one.commands(one.run)
	switch one.variant {
	case alone:
	case inMulti:
		commands = slices.Concat([][]any{{"MULTI"}}, commands, one.commands("SET %other 1"), [][]any{{"EXEC"}})
	case inScript:
		commands = [][]any{scriptOf(append(commands, one.commands("SET %other 1")...))}
	}
	for _, args := range commands {
		reply, err := do(t, conn, args)
		if err != nil {
			reply = err
		}
		replies = append(replies, reply)
	}
	for _, reply := range waiting {
		replies = append(replies, <-reply)
	}
	tab.judge(one, replies)
	for _, args := range one.commands(one.after) {
		if _, err := do(t, conn, args); err != nil {
			t.Fatalf("%s: after: %q: %v", one.prefix, args, err)
		}
	}
}

// block sends what the other clients of a trial wait in and returns where
// their replies will be.
func (tab *table) block(s site, one *trial) []chan any {
	t := tab.l.t
	t.Helper()
	var replies []chan any
	for _, args := range one.commands(one.blocked) {
		tab.exercised[nameOf(args)] = true
		reply := make(chan any, 1)
		replies = append(replies, reply)
		go func() {
			conn := s.Client().Conn()
			defer conn.Close()
			value, err := do(t, conn, args)
			if err != nil {
				value = err
			}
			reply <- value
		}()
		testkit.Eventually(t, 10*time.Second, func() error {
			info, err := s.Client().Info(t.Context(), "clients").Result()
			if err == nil && !strings.Contains(info, fmt.Sprintf("blocked_clients:%d\r\n", len(replies))) {
				err = fmt.Errorf("%s: %q does not wait", one.prefix, args)
			}
			return err
		})
	}
	return replies
}

// scriptOf makes a script that runs commands, their names in lower case as
// scripts have them, and returns the errors.
func scriptOf(commands [][]any) []any {
	args := []any{"EVAL", `
		local failed, at = {}, 1
		while at < #ARGV do
			local n = tonumber(ARGV[at])
			local reply = redis.pcall(unpack(ARGV, at + 1, at + n))
			if type(reply) == 'table' and reply.err then failed[#failed + 1] = reply.err end
			at = at + n + 1
		end
		return failed`, 0}
	for _, c := range commands {
		args = append(args, len(c), strings.ToLower(fmt.Sprint(c[0])))
		args = append(args, c[1:]...)
	}
	return args
}

// judge checks that a trial did what it is there for: no error, and what was
// recorded.
func (tab *table) judge(one *trial, replies []any) {
	t := tab.l.t
	t.Helper()
	var texts []string
	failed := false
	for _, reply := range replies {
		text := strings.ReplaceAll(textOf(reply), one.prefix, "")
		failed = failed || errorText.MatchString(text)
		texts = append(texts, text)
	}
	switch last := texts[len(texts)-1-len(one.commands(one.blocked))]; one.variant {
	case alone:
	case inMulti:
		failed = failed || last == "None"
	case inScript:
		failed = last != "[]"
	}
	if failed != one.is(refused) {
		t.Errorf("%s: replies %q", one.prefix, texts)
	}
	want, ok := tab.recorded[one.name]
	if ok && one.variant == alone && !one.is(random) && !slices.EqualFunc(want, texts, sameReply) {
		t.Errorf("%s: replies %q, recorded were %q", one.prefix, texts, want)
	}
	for _, args := range one.commands(one.run) {
		tab.exercised[nameOf(args)] = true
	}
}

var (
	errorText = regexp.MustCompile(`(^|[\[,])-[A-Z]+ `)
	clockText = regexp.MustCompile(`^\d{13}-\d+$`) // an id of XADD *
)

func sameReply(want, got string) bool {
	if clockText.MatchString(want) {
		return clockText.MatchString(got)
	}
	before, _, isError := strings.Cut(want, " script: ") // a script's error names its hash
	return want == got || isError && strings.HasPrefix(got, before)
}

// textOf shows a reply as the recordings do.
func textOf(reply any) string {
	switch v := reply.(type) {
	case nil:
		return "None"
	case error:
		return "-" + v.Error()
	case []any:
		texts := make([]string, len(v))
		for i, e := range v {
			texts[i] = textOf(e)
		}
		return "[" + strings.Join(texts, ",") + "]"
	}
	return fmt.Sprint(reply)
}

// nameOf is a command's name, with the subcommand where there are rows for it.
func nameOf(args []any) string {
	if args[0] == "FUNCTION" || args[0] == "XGROUP" {
		return fmt.Sprint(args[0], " ", args[1])
	}
	return fmt.Sprint(args[0])
}

var (
	words  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^ ]+`)
	times  = regexp.MustCompile(`^<(s|ms)\+(\d+)>$`)
	series = regexp.MustCompile(`^<(\d+)\.\.(\d+)>$`)
	repeat = regexp.MustCompile(`^(\d+)\*`)
)

// commands reads lines as operation describes them.
func (one *trial) commands(lines string) [][]any {
	var all [][]any
	if lines == "" {
		return nil
	}
	for line := range strings.SplitSeq(lines, " ; ") {
		n := 1
		if m := repeat.FindStringSubmatch(line); m != nil {
			n, line = number(m[1]), line[len(m[0]):]
		}
		var args []any
		for _, w := range words.FindAllString(line, -1) {
			args = append(args, one.values(w)...)
		}
		for range n {
			all = append(all, args)
		}
	}
	return all
}

// values returns what one word stands for.
func (one *trial) values(w string) []any {
	if text, err := strconv.Unquote(w); err == nil {
		w = text
	}
	if m := times.FindStringSubmatch(w); m != nil {
		at := time.Now().Add(time.Duration(number(m[2])) * time.Second)
		if m[1] == "s" {
			return []any{at.Unix()}
		}
		return []any{at.UnixMilli()}
	}
	if m := series.FindStringSubmatch(w); m != nil {
		var all []any
		for i := number(m[1]); i <= number(m[2]); i++ {
			all = append(all, i)
		}
		return all
	}
	if w == "<kept>" {
		return []any{one.kept}
	}
	return []any{strings.ReplaceAll(w, "%", one.prefix)}
}

// number reads digits that a pattern has found.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(err) // more digits than a number has: a mistake in the table
	}
	return n
}
