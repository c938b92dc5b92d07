package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"twinlog/internal/redis"
	"twinlog/offsets"
)

// A full target (maxmemory, noeviction) refuses the mark's SET, and with it
// every batch: even one that would free memory. So there a batch that only
// removes goes as one script that is allowed to run (apply-rules 3). Redis has
// the flag since 7.0; before, the sink waits and says so.

// removals are the commands that free memory and need none.
var removals = map[string]bool{
	"DEL": true, "UNLINK": true, "HDEL": true, "SREM": true, "ZREM": true, "LREM": true, "XDEL": true, "XTRIM": true, "LTRIM": true,
	"LPOP": true, "RPOP": true, "ZPOPMIN": true, "ZPOPMAX": true, "ZREMRANGEBYLEX": true, "ZREMRANGEBYRANK": true, "ZREMRANGEBYSCORE": true,
	"FLUSHDB": true, "FLUSHALL": true, "SELECT": true,
}

// scriptArgs is how many arguments a command of the script may have: Lua's
// unpack takes 7,999 values.
const scriptArgs = 4000

// removeScript does what MULTI, mark, commands, EXEC does. Errors of the
// commands are collected, as EXEC collects them: the script must not end
// between the mark and what it stands for. An error of one word would be
// taken for the text of an ERR.
const removeScript = `#!lua flags=allow-oom
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return redis.error_reply('MARKMOVED by someone') end
if ARGV[3] ~= '' and string.match(redis.call('INFO', 'replication'), 'master_repl_offset:(%d+)') ~= ARGV[3] then
  return redis.error_reply('TOUCHED since its fence')
end
redis.call('SET', KEYS[1], ARGV[2])
local replies, failed, i = {}, false, 5
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  local reply = redis.pcall(unpack(ARGV, i + 1, i + n))
  if type(reply) == 'table' and reply.err then
    replies[#replies + 1], failed = reply.err, true
  else
    replies[#replies + 1] = ''
  end
  i = i + n + 1
end
redis.call('SELECT', 0)
redis.call('SET', KEYS[1], ARGV[2])
if failed and ARGV[4] ~= '' then redis.call('HSET', KEYS[1] .. ':quarantine', 'suspect', ARGV[4]) end
return replies`

// isFull tells whether the target refused a batch for want of memory.
func isFull(err error) bool {
	var wait *waitError
	return errors.As(err, &wait) && wait.full
}

// onlyRemoves tells whether b can be applied to a full target.
func (b *batch) onlyRemoves() bool {
	for i := range b.items {
		if !removals[b.items[i].command] {
			return false
		}
	}
	return len(b.items)+len(b.decisions) > 0 && b.widest <= scriptArgs // all may be left out
}

// applyFull applies a batch that only removes to a target that is full. A
// batch with decisions wants to know whether something was written since its
// fence. A script does not care for what is watched, and inside MULTI a full
// server refuses it, so it compares the replication offset: that moves with
// every write, of which a full server takes few.
func (t *target) applyFull(ctx context.Context, b *batch, mark offsets.Mark) error {
	text := mark.String()
	args, n := scriptCommands(b.body)
	fence := ""
	if len(b.decisions) > 0 {
		fence = strconv.FormatInt(t.replOffset, 10)
	}
	note := ""
	if t.notes(b) {
		note = (&suspect{from: b.from}).text()
	}
	t.out = appendArray(t.out[:0], 8+n)
	for _, word := range []string{"EVAL", removeScript, "1", t.markKey, t.expect, text, fence, note} {
		t.out = appendText(t.out, word)
	}
	t.conn.Raw(t.out)
	t.conn.Raw(args)
	t.out = appendCommand(t.out[:0], "UNWATCH") // the script has touched what was watched
	t.out = appendCommand(t.out, "WATCH", t.markKey)
	t.out = appendCommand(t.out, "GET", t.markKey)
	t.conn.Raw(t.out)
	if err := t.conn.Flush(ctx); err != nil {
		return &cutError{fmt.Errorf("target %s: sending %d removals: %w", t.cfg.Target, len(b.items), err)}
	}
	reply, err := t.receive(ctx)
	if err != nil {
		return err
	}
	evalErr, data := reply.Err(), t.removalErrors(b, &reply)
	for range 3 { // UNWATCH, WATCH, GET
		if reply, err = t.receive(ctx); err != nil {
			return err
		}
	}
	var server *redis.ServerError
	switch {
	case errors.As(evalErr, &server) && server.Code == "MARKMOVED":
		return errMarkMoved
	case errors.As(evalErr, &server) && server.Code == "TOUCHED":
		return errTouched
	case evalErr != nil:
		return t.refused("EVAL", evalErr)
	}
	return t.took(string(reply.Str), text, data)
}

// removalErrors finds the commands that the script could not do.
func (t *target) removalErrors(b *batch, reply *redis.Reply) *DataError {
	var sum *DataError
	for i, e := range reply.Elems {
		if len(e.Str) > 0 {
			sum = t.noteError(sum, b.item(i), b, &redis.Reply{Kind: '-', Str: e.Str})
		}
	}
	return sum
}

// scriptCommands turns a batch's body into arguments of the script: before
// each command's own the number of them.
func scriptCommands(body []byte) (args []byte, n int) {
	for len(body) > 0 {
		words, rest := count(body)
		args = appendNumber(args, int64(words))
		n += 1 + words
		body = rest
		for range words {
			size, rest := count(body)
			end := len(body) - len(rest) + size + 2
			args = append(args, body[:end]...)
			body = body[end:]
		}
	}
	return args, n
}

// count reads "*<n>\r\n" or "$<n>\r\n" of a body that this package made.
func count(b []byte) (n int, rest []byte) {
	end := bytes.IndexByte(b, '\n')
	n, _ = strconv.Atoi(string(b[1 : end-1])) // our own digits
	return n, b[end+1:]
}
