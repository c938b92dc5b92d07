package rdb

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"
)

// BenchmarkReader reads what a server with 300,000 keys saves: 60 % strings,
// half of them random bytes and a third compressible, 20 % hashes, 8 % lists,
// 6 % sets, 6 % sorted sets; one in a hundred large, one in ten expires. That
// is 150 bytes a key.
func BenchmarkReader(b *testing.B) {
	s := startServer(b)
	script := `
local pad = string.rep('0123456789abcdefghijklmnopqrstuvwxyz', 20)
local function random(n)
	local t = {}
	for i = 1, n do t[i] = string.char(math.random(33, 126)) end
	return table.concat(t)
end
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
	local kind, key = i % 100, 'key:' .. i
	local n = i % 101 == 0 and 300 or 8
	if kind < 30 then redis.call('SET', key, random(50 + i % 450))
	elseif kind < 50 then redis.call('SET', key, string.sub(pad, 1, 50 + i % 500))
	elseif kind < 60 then redis.call('SET', key, i)
	else
		local args = {}
		for j = 1, n do
			if kind < 80 then args[2*j-1] = 'field:' .. j; args[2*j] = j % 2 == 0 and i * j or 'value of ' .. i
			elseif kind < 88 then args[j] = 'element ' .. i .. ' ' .. j
			elseif kind < 91 then args[j] = i * j
			elseif kind < 94 then args[j] = 'member ' .. i .. ' ' .. j
			else args[2*j-1] = i * j / 7; args[2*j] = 'member ' .. j end
		end
		local command = kind < 80 and 'HSET' or kind < 88 and 'RPUSH' or kind < 94 and 'SADD' or 'ZADD'
		redis.call(command, key, unpack(args))
	end
	if i % 10 == 3 then redis.call('PEXPIREAT', key, 4102444800000 + i) end
end`
	const keys = 300_000
	for from := 1; from <= keys; from += 10_000 {
		if err := s.Eval(b.Context(), script, nil, from, from+9_999).Err(); err != nil && !errors.Is(err, redis.Nil) {
			b.Fatal(err)
		}
	}
	data := s.dump(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	found := 0
	buffer := bufio.NewReaderSize(nil, 64<<10)
	for b.Loop() {
		buffer.Reset(bytes.NewReader(data))
		r := NewReader(buffer, Options{})
		for found = 0; ; {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if e.Kind == Value && e.Last {
				found++
			}
		}
	}
	if found != keys {
		b.Fatalf("%d keys, want %d", found, keys)
	}
	b.ReportMetric(float64(keys)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

func BenchmarkChecksum(b *testing.B) {
	data := make([]byte, 64<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		updateCRC(0, data)
	}
}
