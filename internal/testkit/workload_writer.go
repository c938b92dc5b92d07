package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	spread    = 8         // keys of each kind that a writer has
	lifetime  = time.Hour // of keys that expire: longer than any run
	fields    = 16        // of a hash, members of a sorted set
	longList  = 1000      // above it a list is trimmed
	longText  = 64 << 10  // above it a text is begun anew
	setNumber = 500       // different members of a set
)

// writer is one client with keys of its own, which it alone writes: so it
// knows their order and what each must hold.
type writer struct {
	redis  *goredis.Client
	random *rand.Rand
	prefix string
	ids    int64 // of stream entries

	counters map[string]int64
	texts    map[string]string
	lists    map[string][]string // head first
	hashes   map[string]map[string]int64
	scores   map[string]map[string]float64
	sets     map[string]map[string]bool
	streams  map[string][]string // canonical entries
	expiring map[string]bool
}

func newWriter(prefix string, redis *goredis.Client, random *rand.Rand) *writer {
	return &writer{
		redis: redis, random: random, prefix: prefix,
		counters: map[string]int64{}, texts: map[string]string{}, lists: map[string][]string{},
		hashes: map[string]map[string]int64{}, scores: map[string]map[string]float64{},
		sets: map[string]map[string]bool{}, streams: map[string][]string{}, expiring: map[string]bool{},
	}
}

// anew returns a writer with other keys, in place of one that does not know
// what its keys hold.
func (w *writer) anew(nth int64) *writer {
	prefix, _, _ := strings.Cut(w.prefix, "+")
	return newWriter(fmt.Sprintf("%s+%d", prefix, nth), w.redis, w.random)
}

// operations are what a writer does, each as likely as the others. Each
// returns the error of the server, and remembers what it wrote only without one.
var operations = []func(*writer, context.Context) error{
	(*writer).incr, (*writer).appendText, (*writer).push, (*writer).hincr, (*writer).zincr, (*writer).sadd,
	(*writer).xadd, (*writer).transaction, (*writer).script, (*writer).setex, (*writer).expire,
	(*writer).pop, (*writer).srem, (*writer).del,
}

// removing is how many of the operations, the last ones, remove.
const removing = 3

func (w *writer) operate(ctx context.Context, onlyAdds bool) error {
	n := len(operations)
	if onlyAdds {
		n -= removing
	}
	return operations[w.random.IntN(n)](w, ctx)
}

// key names one of the writer's keys of a kind.
func (w *writer) key(kind string) string {
	return w.prefix + ":" + kind + ":" + strconv.Itoa(w.random.IntN(spread))
}

func (w *writer) word() string { return strconv.FormatUint(w.random.Uint64()>>40, 36) }

func (w *writer) incr(ctx context.Context) error {
	k, n := w.key("counter"), w.random.Int64N(100)-20
	if err := w.redis.IncrBy(ctx, k, n).Err(); err != nil {
		return err
	}
	w.counters[k] += n
	return nil
}

func (w *writer) appendText(ctx context.Context) error {
	k, word := w.key("text"), w.word()+" "
	if len(w.texts[k]) > longText {
		if err := w.redis.Set(ctx, k, word, 0).Err(); err != nil {
			return err
		}
		w.texts[k] = word
		return nil
	}
	if err := w.redis.Append(ctx, k, word).Err(); err != nil {
		return err
	}
	w.texts[k] += word
	return nil
}

func (w *writer) push(ctx context.Context) error {
	k, x, y := w.key("list"), w.word(), w.word()
	if err := w.redis.LPush(ctx, k, x, y).Err(); err != nil {
		return err
	}
	w.lists[k] = append([]string{y, x}, w.lists[k]...)
	if len(w.lists[k]) <= longList {
		return nil
	}
	if err := w.redis.LTrim(ctx, k, 0, longList/2-1).Err(); err != nil {
		return err
	}
	w.lists[k] = w.lists[k][:longList/2]
	return nil
}

func (w *writer) pop(ctx context.Context) error {
	k := w.key("list")
	if len(w.lists[k]) == 0 {
		return w.push(ctx)
	}
	if err := w.redis.RPop(ctx, k).Err(); err != nil {
		return err
	}
	w.lists[k] = w.lists[k][:len(w.lists[k])-1]
	return nil
}

func (w *writer) hincr(ctx context.Context) error {
	k, f, n := w.key("hash"), "f"+strconv.Itoa(w.random.IntN(fields)), w.random.Int64N(10)
	if err := w.redis.HIncrBy(ctx, k, f, n).Err(); err != nil {
		return err
	}
	entry(w.hashes, k)[f] += n
	return nil
}

// zincr adds halves, which sums hold exactly.
func (w *writer) zincr(ctx context.Context) error {
	k, m, n := w.key("zset"), "m"+strconv.Itoa(w.random.IntN(fields)), float64(w.random.IntN(20)-5)/2
	if err := w.redis.ZIncrBy(ctx, k, n, m).Err(); err != nil {
		return err
	}
	entry(w.scores, k)[m] += n
	return nil
}

func (w *writer) sadd(ctx context.Context) error {
	k, m := w.key("set"), strconv.Itoa(w.random.IntN(setNumber))
	if err := w.redis.SAdd(ctx, k, m).Err(); err != nil {
		return err
	}
	entry(w.sets, k)[m] = true
	return nil
}

func (w *writer) srem(ctx context.Context) error {
	k, m := w.key("set"), strconv.Itoa(w.random.IntN(setNumber))
	if err := w.redis.SRem(ctx, k, m).Err(); err != nil {
		return err
	}
	delete(entry(w.sets, k), m)
	return nil
}

func (w *writer) xadd(ctx context.Context) error {
	w.ids++
	k, id, word := w.key("stream"), fmt.Sprintf("%d-1", w.ids), w.word()
	if err := w.redis.XAdd(ctx, &goredis.XAddArgs{Stream: k, ID: id, Values: []string{"w", word}}).Err(); err != nil {
		return err
	}
	w.streams[k] = append(w.streams[k], fmt.Sprintf("entry %s %q", id, []string{"w", word}))
	return nil
}

// transaction writes several keys at once.
func (w *writer) transaction(ctx context.Context) error {
	counter, list, hash, word := w.key("counter"), w.key("list"), w.key("hash"), w.word()
	_, err := w.redis.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.Incr(ctx, counter)
		p.LPush(ctx, list, word)
		p.HIncrBy(ctx, hash, "t", 1)
		p.Decr(ctx, counter+"-down")
		return nil
	})
	if err != nil {
		return err
	}
	w.counters[counter]++
	w.counters[counter+"-down"]--
	w.lists[list] = append([]string{word}, w.lists[list]...)
	entry(w.hashes, hash)["t"]++
	return nil
}

func (w *writer) script(ctx context.Context) error {
	counter, text, word := w.key("counter"), w.key("text"), w.word()
	const code = `redis.call('INCRBY', KEYS[1], ARGV[1]); redis.call('APPEND', KEYS[2], ARGV[2]); return redis.call('GET', KEYS[1])`
	n := w.random.Int64N(7)
	if err := w.redis.Eval(ctx, code, []string{counter, text}, n, word).Err(); err != nil {
		return err
	}
	w.counters[counter] += n
	w.texts[text] += word
	return nil
}

func (w *writer) setex(ctx context.Context) error {
	k, word := w.key("session"), w.word()
	if err := w.redis.Set(ctx, k, word, lifetime).Err(); err != nil {
		return err
	}
	w.texts[k], w.expiring[k] = word, true
	return nil
}

func (w *writer) expire(ctx context.Context) error {
	k := w.key("counter")
	done, err := w.redis.Expire(ctx, k, lifetime).Result()
	if err != nil {
		return err
	}
	if done {
		w.expiring[k] = true
	}
	return nil
}

// del deletes two keys at once.
func (w *writer) del(ctx context.Context) error {
	hash, session := w.key("hash"), w.key("session")
	if err := w.redis.Del(ctx, hash, session).Err(); err != nil {
		return err
	}
	delete(w.hashes, hash)
	delete(w.texts, session)
	delete(w.expiring, session)
	return nil
}

func entry[V any](m map[string]map[string]V, k string) map[string]V {
	if m[k] == nil {
		m[k] = map[string]V{}
	}
	return m[k]
}
