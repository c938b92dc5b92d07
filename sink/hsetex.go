package sink

import (
	"fmt"
	"strconv"

	"twinlog/schema"
)

// withoutHSETEX applies HSETEX at a target that does not know it: as HSET,
// which ends the expiries of its fields, and HPEXPIREAT. Redis 8.6 replicates
// HINCRBYFLOAT as HSETEX … KEEPTTL, which is HSET exactly where fields cannot
// expire; Redis 7.4, which has expiries and no HSETEX, is left to refuse that.
func (t *translator) withoutHSETEX(b *batch, e *schema.Event, offset int64) (done bool, err error) {
	at := 1
	for at < len(e.Args) && string(e.Args[at]) != "FIELDS" {
		at++
	}
	if at+2 > len(e.Args) {
		return false, fmt.Errorf("HSETEX with %d arguments", len(e.Args))
	}
	options, pairs := e.Args[1:at], e.Args[at+2:]
	keeps := len(options) == 1 && string(options[0]) == "KEEPTTL"
	expires := len(options) == 2 && string(options[0]) == "PXAT"
	if keeps && t.expiresFields || len(options) > 0 && !keeps && !expires {
		return false, nil
	}
	b.command(e, offset, e.DB, "HSET", 2+len(pairs))
	b.arg(e.Key)
	b.args(pairs)
	if !expires {
		return true, nil
	}
	ms, err := strconv.ParseInt(string(options[1]), 10, 64)
	if err != nil {
		return true, fmt.Errorf("HSETEX: %q is not a time in ms", options[1])
	}
	b.command(e, offset, e.DB, "HPEXPIREAT", 5+len(pairs)/2)
	b.arg(e.Key)
	b.number(t.expiry(ms))
	b.text("FIELDS")
	b.number(int64(len(pairs) / 2))
	for i := 0; i < len(pairs); i += 2 {
		b.arg(pairs[i])
	}
	return true, nil
}
