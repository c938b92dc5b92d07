//go:build matrix

package rdb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
	"twinlog/schema"
)

// Every version's RDB and DUMP hold what the server answers, expiries of hash
// fields included, and those of a cluster's node too.
func TestMatrixReaderAgreesWithEveryServer(t *testing.T) {
	for _, v := range []testkit.Server{testkit.Redis70, testkit.Valkey80, testkit.Redis80, testkit.Redis82, testkit.Redis86, testkit.Valkey91} {
		for _, cluster := range []string{"no", "yes"} {
			t.Run(fmt.Sprintf("%s, cluster %s", v, cluster), func(t *testing.T) {
				s := connect(t, testkit.StartServer(t, v, "--cluster-enabled", cluster))
				if cluster == "yes" {
					s.do(t, "CLUSTER ADDSLOTSRANGE 0 16383")
					testkit.Eventually(t, 10*time.Second, func() error { return s.Set(t.Context(), "up", 1, 0).Err() })
				}
				for _, entries := range []string{"128", "0"} { // packed and not
					s.do(t, "FLUSHALL", "CONFIG SET hash-max-listpack-entries "+entries)
					s.fill(t, "k")
					s.expireFields(t)
					s.agrees(t)
				}
			})
		}
	}
}

// expireFields makes hashes some of whose fields expire, where the server can.
func (s *server) expireFields(t *testing.T) {
	t.Helper()
	info, err := s.Do(t.Context(), "COMMAND", "INFO", "HPEXPIREAT").Slice()
	if err != nil {
		t.Fatal(err)
	}
	if info[0] == nil {
		return
	}
	for _, n := range []int{1, 7, 200, 700} {
		key := fmt.Sprintf("k:fields:%d", n)
		for i := range n {
			s.do(t, fmt.Sprintf("HSET %s f%d %d", key, i, i))
			if i%3 == 0 {
				s.do(t, fmt.Sprintf("HPEXPIREAT %s %d FIELDS 1 f%d", key, soon+i*1000, i))
			}
		}
	}
}

// agrees holds the RDB and each DUMP against what the server answers.
func (s *server) agrees(t *testing.T) {
	t.Helper()
	want := s.values(t)
	for key, it := range want {
		if strings.Contains(key, ":fields:") {
			for i := range it.Value.Hash {
				h := &it.Value.Hash[i]
				at, err := s.Do(t.Context(), "HPEXPIRETIME", key, "FIELDS", 1, h.Field).Int64Slice()
				if err != nil {
					t.Fatal(err)
				}
				if at[0] >= 0 {
					h.ExpireAt = schema.OptInt64{Set: true, Int64: at[0]}
				}
			}
		}
	}
	data := s.dump(t)
	for _, chunk := range []int{0, 1, 5000} {
		got := values(t, data, Options{ChunkBytes: chunk})
		if len(got) != len(want) {
			t.Fatalf("chunk %d: %d keys, want %d", chunk, len(got), len(want))
		}
		for key := range want {
			if d := diff(want[key], sorted(got[key])); d != "" {
				t.Fatalf("chunk %d, key %s (-server +reader):\n%s", chunk, key, d)
			}
		}
	}
	for key, it := range want {
		it.DB, it.ExpireAt = 3, schema.OptInt64{} // DUMP tells neither
		payload, err := s.Dump(t.Context(), key).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := readDump(payload, key, Options{ChunkBytes: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(it, sorted(got)); d != "" {
			t.Fatalf("DUMP of %s (-server +reader):\n%s", key, d)
		}
	}
}

// A stream of every version, groups and pending entries included.
func TestMatrixReaderAgreesWithEveryServerAboutStreams(t *testing.T) {
	for _, v := range []testkit.Server{testkit.Redis70, testkit.Valkey80, testkit.Redis80, testkit.Redis82, testkit.Redis86, testkit.Valkey91} {
		t.Run(string(v), func(t *testing.T) {
			s := connect(t, testkit.StartServer(t, v, "--stream-node-max-entries", "7"))
			for i := range 100 {
				s.do(t, fmt.Sprintf("XADD x %d-1 f %d g %d", i+1, i, -i))
			}
			s.do(t, "XDEL x 7-1", "XGROUP CREATE x one 0", "XGROUP CREATE x two $", "XREADGROUP GROUP one ann COUNT 20 STREAMS x >",
				"XREADGROUP GROUP one bob COUNT 10 STREAMS x >", "XGROUP CREATECONSUMER x two idle", "XACK x one 3-1", "XCLAIM x one bob 0 5-1")
			if v == testkit.Redis86 { // what recognises repeated messages is skipped
				s.do(t, "XADD x IDMP producer first * f v", "XADD x IDMP producer first * f v", "XADD x IDMP other second * f v")
			}
			want := s.streamValue(t, "x")
			data := s.dump(t)
			for _, chunk := range []int{0, 1, 500} {
				if d := diff(item{Value: want}, item{Value: values(t, data, Options{ChunkBytes: chunk})["x"].Value}); d != "" {
					t.Errorf("in parts of %d (-server +reader):\n%s", chunk, d)
				}
			}
		})
	}
}
