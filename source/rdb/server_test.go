package rdb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
	"twinlog/schema"
)

// server is a private redis-server, and one connection to it.
type server struct {
	*redis.Client
	dir string
}

func startServer(tb testing.TB, args ...string) *server {
	tb.Helper()
	return connect(tb, testkit.StartRedis(tb, append([]string{"--enable-debug-command", "yes"}, args...)...))
}

func connect(tb testing.TB, r *testkit.Redis) *server {
	tb.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: r.Addr(), Protocol: 2, MaxRetries: -1, DisableIdentity: true,
		PoolSize: 1, // so that SELECT holds
	})
	tb.Cleanup(func() { client.Close() })
	return &server{client, r.Dir()}
}

// do runs commands, words separated by blanks.
func (s *server) do(tb testing.TB, commands ...string) {
	tb.Helper()
	for _, c := range commands {
		var args []any
		for _, w := range strings.Fields(c) {
			args = append(args, w)
		}
		if err := s.Do(tb.Context(), args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			tb.Fatalf("%s: %v", c, err)
		}
	}
}

// dump returns what SAVE writes.
func (s *server) dump(tb testing.TB) []byte {
	tb.Helper()
	s.do(tb, "SAVE")
	data, err := os.ReadFile(filepath.Join(s.dir, "dump.rdb"))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// values asks the server for all keys.
func (s *server) values(t *testing.T) map[string]item {
	t.Helper()
	all := map[string]item{}
	for _, k := range s.strings(t, "KEYS", "*") {
		all[string(k)] = sorted(s.value(t, string(k)))
	}
	return all
}

// value asks the server for what the reader should have found.
func (s *server) value(t *testing.T, key string) item {
	t.Helper()
	ctx := t.Context()
	it := item{Kind: Value, Key: key}
	var err error
	check := func() {
		if err != nil {
			t.Fatalf("asking for %q: %v", key, err)
		}
	}
	it.Type, err = s.Type(ctx, key).Result()
	check()
	at, err := s.Do(ctx, "PEXPIRETIME", key).Int64()
	check()
	if at != -1 {
		it.ExpireAt = schema.OptInt64{Set: true, Int64: at}
	}
	switch it.Type {
	case "string":
		it.Value.Kind = schema.KindString
		it.Value.Data, err = s.Get(ctx, key).Bytes()
	case "list":
		it.Value.Kind = schema.KindList
		it.Value.Elements = s.strings(t, "LRANGE", key, 0, -1)
	case "set":
		it.Value.Kind = schema.KindSet
		it.Value.Elements = s.strings(t, "SMEMBERS", key)
	case "hash":
		it.Value.Kind = schema.KindHash
		all := s.strings(t, "HGETALL", key)
		for i := 0; i < len(all); i += 2 {
			it.Value.Hash = append(it.Value.Hash, schema.HashEntry{Field: all[i], Value: all[i+1]})
		}
	case "zset":
		it.Value.Kind = schema.KindZSet
		all := s.strings(t, "ZRANGE", key, 0, -1, "WITHSCORES")
		for i := 0; i < len(all); i += 2 {
			score, err := strconv.ParseFloat(string(all[i+1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			it.Value.ZSet = append(it.Value.ZSet, schema.ZSetMember{Member: all[i], Score: score})
		}
	default:
		t.Fatalf("key %q is of type %s", key, it.Type)
	}
	check()
	return it
}

func (s *server) strings(t *testing.T, args ...any) [][]byte {
	t.Helper()
	all, err := s.Do(t.Context(), args...).StringSlice()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	var out [][]byte
	for _, v := range all {
		out = append(out, []byte(v))
	}
	return out
}

// sorted makes items comparable: the order of hashes, sets and sorted sets
// says nothing.
func sorted(it item) item {
	it.parts = 0
	sortValue(&it.Value)
	return it
}

// text returns n bytes, some of which repeat.
func text(rnd *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.IntN(256))
		if i >= 16 && i%64 < 40 {
			b[i] = b[i-16]
		}
	}
	return string(b)
}

// fill makes keys of every type and many sizes.
func (s *server) fill(t *testing.T, prefix string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	ctx := t.Context()
	numbers := []string{
		"0", "-1", "12", "13", "127", "-128", "128", "4095", "-4096", "4096", "32767", "-32768", "32768",
		"8388607", "-8388608", "8388608", "2147483647", "-2147483648", "2147483648", "9223372036854775807", "-9223372036854775808", "01", "1.5",
	}
	element := func(i int) string {
		switch i % 7 {
		case 0:
			return numbers[i/7%len(numbers)]
		case 6:
			return fmt.Sprint(i) + text(rnd, rnd.IntN(300))
		default:
			return fmt.Sprint("element:", i)
		}
	}
	for _, n := range []int{1, 2, 7, 60, 200, 700} {
		p := s.Pipeline()
		name := func(kind string) string { return fmt.Sprintf("%s:%s:%d", prefix, kind, n) }
		str, list, set, ints, hash, zset := name("string"), name("list"), name("set"), name("ints"), name("hash"), name("zset")
		p.Set(ctx, str, text(rnd, n*37), 0)
		for i := range n {
			p.RPush(ctx, list, element(i))
			p.SAdd(ctx, set, element(i))
			p.SAdd(ctx, ints, int64(i)<<(n%50)-1000)
			p.HSet(ctx, hash, element(i), element(i+3))
			p.ZAdd(ctx, zset, redis.Z{Score: rnd.NormFloat64() * 1000, Member: element(i)})
			p.ZAdd(ctx, zset, redis.Z{Score: float64(i - 3), Member: "whole" + element(i)})
		}
		p.Do(ctx, "ZADD", zset, "inf", "top", "-inf", "bottom", "-0", "zero", "5e-324", "tiny", "1.7976931348623157e308", "huge")
		p.PExpireAt(ctx, list, time.UnixMilli(4102444800123))
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range numbers {
		s.do(t, fmt.Sprintf("SET %s:number:%d %s", prefix, i, n))
	}
	s.do(t, "PEXPIREAT "+prefix+":number:0 9999999999999", "PEXPIREAT "+prefix+":number:1 99999999999999")
}

func TestReaderAgreesWithTheServerThatWroteTheFile(t *testing.T) {
	s := startServer(t)
	for _, c := range []struct{ name, compress, size, entries string }{
		{"default encodings", "yes", "-2", "128"},
		{"nothing compressed", "no", "-2", "128"},
		{"everything packed", "yes", "-5", "100000"},
		{"nothing packed", "yes", "1", "0"},
		{"plain list nodes", "yes", "-1", "128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.do(t, "FLUSHALL", "CONFIG SET rdbcompression "+c.compress, "CONFIG SET list-max-listpack-size "+c.size,
				"CONFIG SET hash-max-listpack-entries "+c.entries, "CONFIG SET hash-max-listpack-value 1000",
				"CONFIG SET zset-max-listpack-entries "+c.entries, "CONFIG SET zset-max-listpack-value 1000",
				"CONFIG SET set-max-intset-entries "+c.entries, "DEBUG QUICKLIST-PACKED-THRESHOLD 1073741824")
			if c.name == "plain list nodes" {
				s.do(t, "DEBUG QUICKLIST-PACKED-THRESHOLD 100")
			}
			s.fill(t, "k")
			want := s.values(t)
			data := s.dump(t)
			// In one part, element by element, blobs over many parts, parts of many blobs.
			for _, chunk := range []int{0, 1, 100, 5000} {
				got := values(t, data, Options{ChunkBytes: chunk})
				if len(got) != len(want) {
					t.Fatalf("chunk %d: %d keys, want %d", chunk, len(got), len(want))
				}
				for k := range want {
					if d := diff(want[k], sorted(got[k])); d != "" {
						t.Fatalf("chunk %d, key %s (-server +reader):\n%s", chunk, k, d)
					}
				}
			}
			if c.name == "plain list nodes" {
				// The oracle measures each list it reads, and there panics on a
				// packed node behind a plain one. These lists have some.
				s.do(t, "DEL k:list:60 k:list:200 k:list:700")
				data = s.dump(t)
			}
			compareWithOracle(t, data)
		})
	}
}

func TestReaderGivesDatabasesFunctionsAndAuxFields(t *testing.T) {
	s := startServer(t)
	code := "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
	if err := s.FunctionLoad(t.Context(), code).Err(); err != nil {
		t.Fatal(err)
	}
	s.do(t, "SELECT 0", "SET a 1", "SELECT 9", "SET b 2", "CONFIG SET maxmemory-policy allkeys-lfu", "SET c 3 PXAT 4102444800000")
	for _, policy := range []string{"allkeys-lfu", "allkeys-lru"} {
		s.do(t, "CONFIG SET maxmemory-policy "+policy)
		items, err := collect(s.dump(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		aux := map[string]string{}
		var functions []string
		dbs := map[string]int32{}
		for _, it := range items {
			switch it.Kind {
			case Aux:
				aux[it.Name] = it.Text
			case Function:
				functions = append(functions, it.Text)
			case Value:
				dbs[it.Key] = it.DB
			}
		}
		if !strings.HasPrefix(aux["redis-ver"], "7.") {
			t.Errorf("redis-ver is %q", aux["redis-ver"])
		}
		if d := cmp.Diff([]string{code}, functions); d != "" {
			t.Errorf("functions (-want +got):\n%s", d)
		}
		if d := cmp.Diff(map[string]int32{"a": 0, "b": 9, "c": 9}, dbs); d != "" {
			t.Errorf("databases (-want +got):\n%s", d)
		}
	}
}

// Above 65,534 elements a listpack does not know how many it has; the oracle
// reads a part of it. Only a server that loads an RDB makes such large ones.
func TestReaderIteratesAListpackWithoutACount(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	const n = 33_000 // of two elements each
	p := s.Pipeline()
	for i := range n {
		p.HSet(ctx, "hash", fmt.Sprint("field", i), i)
		p.ZAdd(ctx, "zset", redis.Z{Score: float64(i) / 8, Member: i})
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	s.do(t, "CONFIG SET hash-max-listpack-entries 100000", "CONFIG SET zset-max-listpack-entries 100000", "DEBUG RELOAD")
	for _, k := range []string{"hash", "zset"} {
		if enc := s.ObjectEncoding(ctx, k).Val(); enc != "listpack" {
			t.Fatalf("encoding of %s is %q", k, enc)
		}
	}
	got := values(t, s.dump(t), Options{ChunkBytes: 10_000})
	for _, k := range []string{"hash", "zset"} {
		if d := diff(sorted(s.value(t, k)), sorted(got[k])); d != "" {
			t.Errorf("%s (-server +reader):\n%s", k, d)
		}
	}
}
