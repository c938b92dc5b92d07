package simulate

import (
	"testing"
)

// What wins when both sites write at the same moment: the table of
// convergence.md 3, and its like for what the model lacks.
func TestWhatWins(t *testing.T) {
	for _, tt := range []struct{ name, before, home, b, after string }{
		{"SET/SET", "", "SET k 1", "SET k 2", "{k=2}"},
		{"SET/INCR", "SET k 5", "SET k 10", "INCR k", "{k=11}"},
		{"INCR/SET", "SET k 5", "INCR k", "SET k 10", "{k=10}"},
		{"INCR/INCR", "SET k 5", "INCR k", "INCR k", "{k=7}"},
		{"SET/DEL", "SET k 5", "SET k 1", "DEL k", "{k=1}"},
		{"DEL/SET", "SET k 5", "DEL k", "SET k 2", "{k=2}"},
		{"INCR/DEL", "SET k 5", "INCR k", "DEL k", "{k=6}"},
		{"DEL/INCR", "SET k 5", "DEL k", "INCR k", "{k=1}"},
		{"APPEND/APPEND", "SET k v", "APPEND k a", "APPEND k b", "{k=vab}"},
		{"HSET/DEL", "HSET h f 0", "HSET h g 1", "DEL h", "{h=(f:0)(g:1)}"},
		{"DEL/HSET", "HSET h f 0", "DEL h", "HSET h g 1", "{h=(g:1)}"},
		{"HSET/HSET same", "", "HSET h f 1", "HSET h f 2", "{h=(f:2)}"},
		{"HSET/HDEL same", "HSET h f 0", "HSET h f 1", "HDEL h f", "{h=(f:1)}"},
		{"SADD/SREM", "SADD s x y", "SADD s z", "SREM s x", "{s=(y)(z)}"},
		{"PUSH/PUSH", "", "RPUSH l a", "RPUSH l b", "{l=(a)(b)}"},
		{"PUSH/POP", "RPUSH l x", "RPUSH l a", "LPOP l", "{l=(x)(a)}"},
		{"POP/POP", "RPUSH l x y", "LPOP l", "LPOP l", "{l=(y)}"},
		{"RENAME/SET source", "SET k 5", "RENAME k j", "SET k 2", "{j=5 k=2}"},
		{"SET/RENAME source", "SET k 5", "SET k 1", "RENAME k j", "{j=1}"},
		{"RENAME/RENAME", "SET k 5", "RENAME k j", "RENAME k l", "{j=5}"},
		{"SET/FLUSH", "SET k 5 ; SET j 5", "SET k 1", "FLUSHDB", "{k=1}"},

		{"FLUSH/SET", "SET k 5 ; SET j 5", "FLUSHDB", "SET k 1", "{k=1}"},
		{"SREM/SMOVE", "SADD s x y", "SREM s x", "SMOVE s h x", "{s=(y)}"},
		{"SMOVE/SREM", "SADD s x y", "SMOVE s h x", "SREM s x", "{h=(x) s=(y)}"},
		{"SADD/SMOVE", "SADD s x y", "SADD h z", "SMOVE s h x", "{h=(x)(z) s=(y)}"},
		{"SMOVE/SMOVE", "SADD s x y", "SMOVE s h x", "SMOVE s m2 x", "{h=(x) s=(y)}"},
		{"PUSH/TRIM", "RPUSH l x y", "RPUSH l a", "LTRIM l 1 -1", "{l=(x)(y)(a)}"},
		{"TRIM/PUSH", "RPUSH l x y", "LTRIM l 1 -1", "RPUSH l b", "{l=(y)(b)}"},
		{"ZADD/ZREMRANGEBYRANK", "ZADD z 1 x 2 y", "ZADD z 0 a", "ZREMRANGEBYRANK z 0 0", "{z=(a)(x@1)(y@2)}"},
		{"ZADD/ZREM other", "ZADD z 1 x 2 y", "ZADD z 3 a", "ZREM z x", "{z=(y@2)(a@3)}"},
		{"ZADD/ZREM same", "ZADD z 1 x 2 y", "ZADD z 3 x", "ZREM z x y", "{z=(x@3)}"},
		{"ZINCRBY/ZINCRBY", "ZADD z 1 x", "ZINCRBY z 1 x", "ZINCRBY z 1 x", "{z=(x@3)}"},
		{"ZADD/ZPOPMIN", "ZADD z 1 x", "ZADD z 2 y", "ZPOPMIN z", "{z=(x@1)(y@2)}"},
		{"XADD/XTRIM", "XADD x 1-0 f v", "XADD x 2-0 f v", "XTRIM x MAXLEN = 0", "{x=(1-0:v@1)(2-0:v@2)}"},
		{"XADD/XDEL", "XADD x 1-0 f v", "XADD x 2-0 f v", "XDEL x 1-0", "{x=(2-0:v@2)}"},
		{"LREM of what was pushed", "RPUSH l x", "RPUSH l x", "LREM l 0 x", "{l=(x)(x)}"},
		{"SET with expiry/PERSIST", "SET k 5 PXAT 4102444800001", "SET k 1 PXAT 4102444800002", "PERSIST k", "{k=1}"},
		{"INCR/PEXPIREAT", "SET k 5", "INCR k", "PEXPIREAT k 4102444800001", "{k=6~1}"},
		{"HDEL/HINCRBY", "HSET h f 1", "HDEL h f", "HINCRBY h f 1", "{h=(f:1)}"},
		{"HINCRBY/HDEL", "HSET h f 1", "HINCRBY h f 1", "HDEL h f", "{h=(f:2)}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := "a write " + tt.home + "\nb write " + tt.b
			if tt.before != "" {
				text = "a write " + tt.before + "\nsync\n" + text
			}
			steps := scenario(t, text)
			wrong, w := run(steps, Rules{}, false, nil)
			if got := w.a.String(); wrong != "" || got != tt.after {
				t.Errorf("%s, want %s:\n%s", got, tt.after, show(steps, Rules{}, false))
			}
		})
	}
}
