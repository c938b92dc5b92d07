package command

import (
	"testing"

	"twinlog/schema"
)

var hot = []string{
	"SET k v", "set k v", "SET k v PXAT 1700000000000", "SET k v KEEPTTL", "SET k v NX", "SETNX k v", "MSET a 1 b 2",
	"INCR k", "INCRBY k 7", "APPEND k v", "DEL k", "UNLINK a b", "PEXPIREAT k 1700000000000", "PEXPIREAT k 1700000000000 GT",
	"HSET h f v", "HDEL h f", "HINCRBY h f 1", "LPUSH l a", "LPUSHX l a", "LPOP l", "RPOPLPUSH l m", "LMOVE l m LEFT RIGHT",
	"SADD s a", "SREM s a", "SMOVE s t a", "ZADD z 1 a", "ZADD z NX 1 a 2 b", "ZINCRBY z 1 a",
	"XADD x MAXLEN = 3 5-0 f v", "XACK x g 1-1", "XCLAIM x g c 0 1-1 TIME 9 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1",
	"HPEXPIREAT h 1700000000000 FIELDS 1 a", "HSETEX h PXAT 1700000000000 FIELDS 1 a 1", "PUBLISH c m", "SUNIONSTORE d s t",
}

func TestHotCommandsDoNotAllocate(t *testing.T) {
	events := make([]schema.Event, 0, 8)
	keys := Keys{Written: make([][]byte, 0, 8), Read: make([][]byte, 0, 8)}
	for _, line := range hot {
		argv := bytesOf(line)
		var err error
		if n := testing.AllocsPerRun(100, func() {
			keys.Reset()
			events, err = AppendChanges(events[:0], 0, argv)
			if err == nil {
				err = Lookup(argv[0]).AppendKeys(&keys, argv[1:])
			}
		}); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, error %v", line, n, err)
		}
	}
}

func BenchmarkAppendChanges(b *testing.B) {
	for _, line := range []string{"SET k v", "HSET h f v", "ZADD z 1 a", "XADD x MAXLEN = 3 5-0 f v"} {
		b.Run(line, func(b *testing.B) {
			argv, events := bytesOf(line), make([]schema.Event, 0, 1)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if events, err = AppendChanges(events[:0], 0, argv); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
