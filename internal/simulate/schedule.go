package simulate

import (
	"math/rand/v2"
	"strconv"
)

// Config says which commands and faults schedules have.
type Config struct {
	Name     string
	Multi    bool // commands of several keys, transactions, FLUSHDB
	Crash    bool // sources, sinks and workers that begin again
	Snapshot bool // full synchronisations
	Rewind   bool // Redis goes back to what it was
	Disjoint bool // the sites write different keys
	Chains   bool // little else than commands of several keys, few barriers
	Demand   bool // snapshots of chosen keys
	Crowded  bool // hardly any room for keys in conflict, many FLUSHDB
	Old      bool // only commands that every version of Redis has
}

// Configs are what schedules are made of.
func Configs() []Config {
	return []Config{
		{Name: "single"},
		{Name: "multi", Multi: true},
		{Name: "crash", Multi: true, Crash: true},
		{Name: "chains", Multi: true, Crash: true, Chains: true},
		{Name: "snapshot", Multi: true, Crash: true, Snapshot: true},
		{Name: "rewind", Multi: true, Crash: true, Rewind: true},
		{Name: "all", Multi: true, Crash: true, Snapshot: true, Rewind: true},
		{Name: "demand", Multi: true, Crash: true, Snapshot: true, Rewind: true, Demand: true},
		{Name: "crowded", Multi: true, Crash: true, Snapshot: true, Rewind: true, Demand: true, Crowded: true},
		{Name: "disjoint", Multi: true, Crash: true, Disjoint: true},
		{Name: "disjoint-demand", Multi: true, Crash: true, Disjoint: true, Demand: true},
	}
}

// generator makes one schedule.
type generator struct {
	Config
	*rand.Rand

	keys  []string          // of this schedule
	mine  map[byte][]string // keys that a site writes
	log   byte              // the one site that writes streams
	flush bool              // clients use FLUSHDB
	step  int               // number of the step that is made
}

// Keys are named by what is in them first; RENAME and COPY mix it up.
var allKeys = []string{"k", "j", "l", "s", "h", "z"}

const (
	maxSteps    = 60
	streamKey   = "x"
	someInstant = 4102444800000 // times to live are values here: nothing expires by a clock
)

// scheduleOf returns the schedule that a seed stands for.
func scheduleOf(c Config, seed uint64) []step {
	g := &generator{Config: c, Rand: rand.New(rand.NewPCG(seed, 0))}
	g.choose()
	steps := make([]step, 0, maxSteps)
	for g.step = range 10 + g.IntN(maxSteps-10) {
		if s, ok := g.next(); ok {
			steps = append(steps, s)
		}
	}
	return steps
}

func (g *generator) choose() {
	for _, i := range g.Perm(len(allKeys))[:2+g.IntN(3)] {
		g.keys = append(g.keys, allKeys[i])
	}
	g.log = "ab"[g.IntN(2)]
	flushes := .1
	if g.Crowded {
		flushes = .6
	}
	g.flush = g.Multi && !g.Disjoint && g.chance(flushes)
	exact := []string{counter, members, fields}
	if g.Disjoint {
		half := len(g.keys) / 2
		g.mine = map[byte][]string{'a': append(g.keys[:half:half], counter), 'b': append(g.keys[half:len(g.keys):len(g.keys)], members)}
	} else {
		g.mine = map[byte][]string{}
		for _, s := range []byte("ab") {
			g.mine[s] = append(g.keys[:len(g.keys):len(g.keys)], exact[g.IntN(len(exact))])
		}
	}
	if g.chance(.2) {
		g.mine[g.log] = append(g.mine[g.log], streamKey)
	}
}

func (g *generator) chance(p float64) bool { return g.Float64() < p }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// next makes a step; none if the configuration lacks what was drawn.
func (g *generator) next() (step, bool) {
	s := step{site: "ab"[g.IntN(2)], quiet: g.chance(.3)}
	switch r := g.Float64(); {
	case r < .30:
		s.action, s.commands = write, g.unit(s.site)
	case r < .35:
		s.action, s.hide = expire, []string{g.mortal()}
		s.both = g.Disjoint && g.chance(.5)
		if g.Disjoint && !s.both {
			s.hide = []string{pick(g, g.mine[s.site]...)}
		}
	case r < .48:
		s.action, s.n = read, pick(g, 1, 2, 5)
	case r < .58:
		s.action, s.n = commit, pick(g, 1, 3, 9)
	case r < .72:
		s.action, s.n, s.hide = apply, pick(g, 1, 2, 4), g.hidden(.2)
	case r < .78:
		s.action, s.n = decide, pick(g, 1, 2, 4)
	case r < .85:
		s.action, s.hide = execute, g.hidden(.5)
	case r < .93 && !(g.Chains && g.chance(.7)):
		s.action, s.n = setBarrier, pick(g, 1, 2, 9)
		if g.Demand && g.chance(.5) {
			s.action, s.n, s.hide = demand, 0, []string{pick(g, g.mine["ab"[g.IntN(2)]]...), pick(g, g.keys...)}
		}
	case r < .93 && g.chance(.5):
		s.action = restartSource
	case r < .95:
		s.action = heartbeat
	case g.Crash && r < .985:
		s.action = pick(g, restartSource, restartSource, restartSink, restartWorker)
	case g.Snapshot && (r < .991 || !g.Rewind):
		s.action = pick(g, resnapshot, resnapshotGap)
	case g.Rewind:
		s.action, s.n = rewind, pick(g, 1, 2, 4, 8)
	default:
		return s, false
	}
	return s, true
}

// mortal is a key that expires, or a field of it.
func (g *generator) mortal() string {
	k := pick(g, g.keys...)
	if k == "h" && g.chance(.5) {
		k += "." + pick(g, "f", "g")
	}
	return k
}

// hidden are expiries inside an applied block. On disjoint keys there are
// none: the copy waits for its origin.
func (g *generator) hidden(p float64) []string {
	if g.Disjoint || !g.chance(p) {
		return nil
	}
	return []string{g.mortal()}
}

func (g *generator) unit(site byte) [][][]byte {
	n := 1
	if g.Multi && g.chance(.15) {
		n = 2 + g.IntN(2)
	}
	if g.flush && g.chance(.1) {
		return commandsOf("FLUSHDB")
	}
	commands := make([][][]byte, 0, n)
	for range n {
		commands = append(commands, commandsOf(g.command(site))...)
	}
	return commands
}

func (g *generator) command(site byte) string {
	k, tag := pick(g, g.mine[site]...), "t"+strconv.Itoa(g.step)
	switch {
	case k == counter:
		return "INCR n"
	case k == members:
		return "SADD m " + tag
	case k == fields:
		return "HINCRBY q f 1"
	case k == streamKey:
		return g.stream(tag)
	case g.Multi && g.chance(.3), g.Chains && g.chance(.4):
		if d := pick(g, g.mine[site]...); d != k && d != streamKey && !isExact(d) {
			return g.several(k, d)
		}
	}
	switch r := g.Float64(); {
	case g.Chains && r < .22:
	case r < .15:
		return "DEL " + k
	case r < .17:
		return "SET " + k + " " + tag
	case r < .20:
		return "PEXPIREAT " + k + " " + g.time()
	case r < .22:
		return "PERSIST " + k
	}
	return g.typed(k, tag)
}

func (g *generator) time() string { return strconv.Itoa(someInstant + g.step) }

// several is a command of two keys.
func (g *generator) several(k, d string) string {
	most := 8
	if g.Chains {
		most = 4
	}
	switch g.IntN(most) {
	case 0:
		return "COPY " + k + " " + d + " REPLACE"
	case 1:
		return "RENAME " + k + " " + d
	case 2:
		return "LMOVE " + k + " " + d + " LEFT RIGHT"
	case 3:
		return "SUNIONSTORE " + d + " " + d + " " + k
	case 4:
		return "RENAME " + k + " " + d
	case 5:
		return "SMOVE " + k + " " + d + " " + g.member()
	case 6:
		return "MSET " + k + " 5 " + d + " 7"
	}
	return "DEL " + k + " " + d
}

func (g *generator) member() string { return pick(g, "x", "y", "z") }
func (g *generator) field() string  { return pick(g, "f", "g") }

// typed is a command for the type that a key has at first.
func (g *generator) typed(k, tag string) string {
	m, f := g.member(), g.field()
	switch k {
	case "k":
		return pick(g, "SET k 5", "INCR k", "INCR k", "APPEND k "+tag, "SET k "+tag+" PXAT "+g.time())
	case "j":
		return pick(g, "SET j 7", "SET j "+tag, "APPEND j "+tag, "INCR j")
	case "l":
		return pick(g, "RPUSH l "+tag, "RPUSH l "+tag, "RPUSH l "+m+" "+tag, "LPUSH l "+m, "LPOP l", "LPOP l",
			"LTRIM l 1 -1", "LTRIM l 0 1", "LREM l 0 "+m, "LSET l 0 "+tag)
	case "s":
		return pick(g, "SADD s "+m, "SADD s "+m, "SADD s "+tag, "SADD s "+tag, "SREM s "+m, "SREM s "+m, "SREM s x y")
	case "h":
		if !g.Old && g.chance(.15) {
			return "HPEXPIREAT h " + g.time() + " FIELDS 1 " + f
		}
		return pick(g, "HSET h "+f+" "+tag, "HSET h "+f+" "+tag, "HSET h f 1 g 1", "HDEL h "+f, "HDEL h "+f, "HINCRBY h f 1")
	}
	return pick(g, "ZADD z 1 "+m, "ZADD z 2 "+m, "ZADD z 3 "+tag, "ZADD z 1 x 2 y", "ZINCRBY z 1 "+m, "ZREM z "+m, "ZREM z x y",
		"ZREMRANGEBYRANK z 0 0", "ZPOPMIN z")
}

func (g *generator) stream(tag string) string {
	id := strconv.Itoa(g.step+1) + "-0"
	old := strconv.Itoa(1+g.IntN(g.step+1)) + "-0"
	return pick(g, "XADD x "+id+" f "+tag, "XADD x "+id+" f "+tag, "XADD x "+id+" f "+tag, "XDEL x "+old, "XTRIM x MAXLEN = 1", "DEL x")
}
