package command

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

// touchCases says what each command that writes touches: lines as they stand
// in a stream, run in database 0, and a touch for each event that they become.
// A touch is shown as its kind, the keys (read ones in brackets, the database
// in front where it is not 0) and, behind a colon, the elements.
var touchCases = []struct {
	line string
	want []string
}{
	{"APPEND k v", []string{"overwrite k"}},
	{"BITFIELD k SET u8 0 1", []string{"overwrite k"}},
	{"BITOP AND d a b", []string{"overwrite d (a) (b)"}},
	{"BITOP NOT d d", []string{"overwrite d"}},
	{"DECR k", []string{"increment k"}},
	{"DECRBY k 2", []string{"increment k"}},
	{"GETDEL k", []string{"deletion k"}},
	{"DELEX k IFEQ v", []string{"deletion k"}},
	{"DELIFEQ k v", []string{"deletion k"}},
	{"GETEX k PERSIST", []string{"overwrite k"}},
	{"GETSET k v", []string{"overwrite k"}},
	{"INCR k", []string{"increment k"}},
	{"INCRBY k 2", []string{"increment k"}},
	{"INCRBYFLOAT k 2.5", []string{"overwrite k"}},
	{"MSET a 1 b 2", []string{"overwrite a", "overwrite b"}},
	{"MSETEX 2 a 1 b 2 PXAT 99", []string{"overwrite a", "overwrite b"}},
	{"MSETNX a 1 b 2", []string{"overwrite a", "overwrite b"}},
	{"PFADD k a b", []string{"overwrite k"}},
	{"PFDEBUG ENCODING k", []string{"overwrite k"}},
	{"PFMERGE d a b", []string{"overwrite d (a) (b)"}},
	{"PSETEX k 99 v", nil},
	{"SET k v", []string{"overwrite k"}},
	{"SET k v PXAT 99", []string{"overwrite k"}},
	{"SETBIT k 1 1", []string{"overwrite k"}},
	{"SETEX k 99 v", nil},
	{"SETNX k v", []string{"overwrite k"}},
	{"SETRANGE k 1 v", []string{"overwrite k"}},

	{"COPY a b", []string{"overwrite b (a)"}},
	{"COPY a b DB 2", []string{"overwrite 2/b (a)"}},
	{"COPY a a DB 2", []string{"overwrite 2/a (a)"}},
	{"COPY a b db 2 REPLACE", []string{"overwrite 2/b (a)"}},
	{"DEL a b", []string{"deletion a", "deletion b"}},
	{"EXPIRE k 9", nil},
	{"EXPIREAT k 9", []string{"overwrite k"}},
	{"MIGRATE h 6379 k 0 100", nil},
	{"MOVE k 3", []string{"deletion 3/k", "overwrite k 3/k"}},
	{"PERSIST k", []string{"overwrite k"}},
	{"PEXPIRE k 9", nil},
	{"PEXPIREAT k 9", []string{"overwrite k"}},
	{"RENAME a b", []string{"overwrite a b"}},
	{"RENAMENX a b", []string{"overwrite a b"}},
	{"RESTORE k 0 payload", []string{"overwrite k"}},
	{"SORT a STORE d", []string{"overwrite d (a)"}},
	{"SORT a BY STORE STORE a", []string{"overwrite a"}},
	{"UNLINK a b", []string{"deletion a", "deletion b"}},

	{"BLMOVE l m LEFT RIGHT 0", []string{"pop l m"}},
	{"BLMPOP 0 1 l LEFT", nil},
	{"BLPOP l 0", nil},
	{"BRPOP l 0", nil},
	{"BRPOPLPUSH l m 0", []string{"pop l m"}},
	{"LINSERT l BEFORE p v", []string{"overwrite l: v"}},
	{"LMOVE l m LEFT RIGHT", []string{"pop l m"}},
	{"LMPOP 1 l LEFT", nil},
	{"LPOP l 2", []string{"pop l"}},
	{"LPUSH l a b", []string{"overwrite l: a b"}},
	{"LPUSHX l a b", []string{"overwrite l: a b"}},
	{"LREM l 1 a", []string{"removal l: a"}},
	{"LSET l 0 a", []string{"overwrite l: a"}},
	{"LTRIM l 0 1", []string{"pop l"}},
	{"RPOP l", []string{"pop l"}},
	{"RPOPLPUSH l m", []string{"pop l m"}},
	{"RPUSH l a b", []string{"overwrite l: a b"}},
	{"RPUSHX l a b", []string{"overwrite l: a b"}},

	{"SADD s a b", []string{"addition s: a b"}},
	{"SDIFFSTORE d a b", []string{"overwrite d (a) (b)"}},
	{"SINTERSTORE d a b", []string{"overwrite d (a) (b)"}},
	{"SMOVE s t a", []string{"overwrite s t"}},
	{"SPOP s", nil},
	{"SREM s a b", []string{"removal s: a b"}},
	{"SUNIONSTORE d d b", []string{"overwrite d (b)"}},

	{"HDEL h f g", []string{"removal h: f g"}},
	{"HEXPIRE h 9 FIELDS 1 f", nil},
	{"HEXPIREAT h 9 FIELDS 2 f g", []string{"overwrite h: f g"}},
	{"HGETDEL h FIELDS 2 f g", []string{"removal h: f g"}},
	{"HGETEX h PXAT 9 FIELDS 1 f", nil},
	{"HINCRBY h f 1", []string{"overwrite h: f"}},
	{"HINCRBYFLOAT h f 1.5", []string{"overwrite h: f"}},
	{"HMSET h f 1 g 2", []string{"put fields h: f g"}},
	{"HPERSIST h FIELDS 1 f", []string{"overwrite h: f"}},
	{"HPEXPIRE h 9 FIELDS 1 f", nil},
	{"HPEXPIREAT h 9 FIELDS 2 f g", []string{"overwrite h: f g"}},
	{"HPEXPIREAT FIELDS 9 NX FIELDS 2 f g", []string{"overwrite FIELDS: f g"}},
	{"HSET h f 1 g 2", []string{"put fields h: f g"}},
	{"HSETEX h PXAT 99 FIELDS 2 f 1 g 2", []string{"overwrite h: f g"}},
	{"HSETEX h FNX FIELDS 1 FIELDS 1", []string{"overwrite h: FIELDS"}},
	{"HSETNX h f 1", []string{"put fields h: f"}},

	{"BZMPOP 0 1 z MIN", nil},
	{"BZPOPMAX z 0", nil},
	{"BZPOPMIN z 0", nil},
	{"GEOADD g 1 2 a", []string{"overwrite g"}},
	{"GEORADIUS g 1 2 3 km STORE d", []string{"overwrite d (g)"}},
	{"GEORADIUSBYMEMBER g a 3 km STORE d", []string{"overwrite d (g)"}},
	{"GEOSEARCHSTORE d g FROMMEMBER a BYRADIUS 1 km", []string{"overwrite d (g)"}},
	{"VADD v VALUES 1 1 a", []string{"overwrite v"}},
	{"VREM v a", []string{"removal v: a"}},
	{"VSETATTR v a {}", []string{"overwrite v"}},
	{"ZADD z 1 a 2 b", []string{"put members z: a b"}},
	{"ZADD z NX 1 a", []string{"put members z: a"}},
	{"ZADD z NX 1 a 2 b", []string{"overwrite z: a b"}},
	{"ZADD z XX GT CH 1 a 2 b", []string{"overwrite z: a b"}},
	{"ZADD z INCR 1 a", []string{"overwrite z: a"}},
	{"ZDIFFSTORE d 2 a b", []string{"overwrite d (a) (b)"}},
	{"ZINCRBY z 1 a", []string{"overwrite z: a"}},
	{"ZINTERSTORE d 2 a d", []string{"overwrite d (a)"}},
	{"ZMPOP 1 z MIN", nil},
	{"ZPOPMAX z", []string{"pop z"}},
	{"ZPOPMIN z 2", []string{"pop z"}},
	{"ZRANGESTORE d z 0 1", []string{"overwrite d (z)"}},
	{"ZREM z a b", []string{"removal z: a b"}},
	{"ZREMRANGEBYLEX z - +", []string{"pop z"}},
	{"ZREMRANGEBYRANK z 0 1", []string{"pop z"}},
	{"ZREMRANGEBYSCORE z 0 1", []string{"pop z"}},
	{"ZUNIONSTORE d 2 a b WEIGHTS 1 2", []string{"overwrite d (a) (b)"}},

	{"XACK x g 1-1", []string{"overwrite x"}},
	{"XACKDEL x g DELREF IDS 1 1-1", []string{"overwrite x"}},
	{"XADD x 5-0 f v", []string{"overwrite x: 5-0"}},
	{"XADD x NOMKSTREAM KEEPREF MAXLEN = 3 LIMIT 9 5-0 f v", []string{"overwrite x: 5-0"}},
	{"XADD x MINID 3 5-0 f v", []string{"overwrite x: 5-0"}},
	{"XADD x IDMP p i * f v", nil},
	{"XAUTOCLAIM x g c 0 0", nil},
	{"XIDMPRECORD x p i 5-0", nil},
	{"XCFGSET x IDMP-DURATION 9", []string{"overwrite x"}},
	{"XCLAIM x g c 0 1-1", []string{"overwrite x"}},
	{"XDEL x 1-1 2-1", []string{"removal x: 1-1 2-1"}},
	{"XDELEX x KEEPREF IDS 1 1-1", []string{"overwrite x"}},
	{"XGROUP CREATE x g 0", []string{"overwrite x"}},
	{"XGROUP CREATECONSUMER x g c", []string{"overwrite x"}},
	{"XGROUP DELCONSUMER x g c", []string{"overwrite x"}},
	{"XGROUP DESTROY x g", []string{"overwrite x"}},
	{"XGROUP SETID x g 0", []string{"overwrite x"}},
	{"XREADGROUP GROUP g c STREAMS x >", nil},
	{"XSETID x 1-1", []string{"overwrite x"}},
	{"XTRIM x MAXLEN = 3", []string{"pop x"}},

	{"FLUSHALL", []string{"wipe"}},
	{"FLUSHDB ASYNC", []string{"wipe of 0"}},
	{"SWAPDB 0 3", []string{"swap of 0 3"}},
	{"PUBLISH c m", []string{"overwrite"}},
	{"FUNCTION DELETE f", []string{"overwrite"}},
}

var kindNames = map[Kind]string{
	Overwrite: "overwrite", Deletion: "deletion", Increment: "increment", Addition: "addition", PutFields: "put fields",
	PutMembers: "put members", Removal: "removal", Pop: "pop", Whole: "whole", Wipe: "wipe", Swap: "swap",
}

func touchText(t *Touch) string {
	var b strings.Builder
	b.WriteString(kindNames[t.Kind])
	for _, k := range t.Keys {
		name := string(k.Name)
		if k.DB != 0 {
			name = fmt.Sprintf("%d/%s", k.DB, k.Name)
		}
		if !k.Written {
			name = "(" + name + ")"
		}
		b.WriteString(" " + name)
	}
	if len(t.Elements) > 0 {
		fmt.Fprintf(&b, ": %s", bytes.Join(t.Elements, []byte(" ")))
	}
	if len(t.DBs) > 0 {
		b.WriteString(" of " + strings.Trim(fmt.Sprint(t.DBs), "[]"))
	}
	return b.String()
}

func TestTouchOfEachCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range touchCases {
		events, err := AppendChanges(nil, 0, bytesOf(tt.line))
		if err != nil && len(tt.want) > 0 {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		var touch Touch
		var got []string
		for i := range events {
			if err := touch.Of(&events[i]); err != nil {
				t.Errorf("%s: %v", tt.line, err)
			}
			got = append(got, touchText(&touch))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
}

// A command that is new in the table must say here what it touches.
func TestEveryWriteHasATouchCase(t *testing.T) {
	t.Parallel()
	shown := map[*Command]bool{}
	for _, tt := range touchCases {
		argv := bytesOf(tt.line)
		shown[Lookup(argv[0]).sub(argv[1:])] = true
	}
	for _, c := range byName {
		if c.Class != Write && c.Class != Delete {
			continue
		}
		if c.subs == nil && !shown[c] {
			t.Errorf("%s has no row", c.Name)
		}
		for _, sub := range c.subs {
			if !shown[sub] {
				t.Errorf("%s has no row", sub.Name)
			}
		}
	}
}

func TestTouchOfValuesAndControlEvents(t *testing.T) {
	t.Parallel()
	key, part := []byte("k"), schema.OptPart{Set: true, Part: schema.Part{Arg: -1}}
	for _, tt := range []struct {
		name  string
		event schema.Event
		want  string
	}{
		{"a value", schema.Event{Op: schema.OpValue, DB: 2, Key: key, Value: schema.Value{Kind: schema.KindString}}, "whole 2/k"},
		{"a key that is gone", schema.Event{Op: schema.OpValue, Key: key}, "deletion k"},
		{"a part without elements", schema.Event{Op: schema.OpValue, Key: key, Part: part}, "whole k"},
		{"a heartbeat", schema.Event{Op: schema.OpControl, Command: schema.Heartbeat}, "overwrite"},
	} {
		var touch Touch
		if err := touch.Of(&tt.event); err != nil || touchText(&touch) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, touchText(&touch), err, tt.want)
		}
	}
}

func TestTouchNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		op   schema.Op
		want string
	}{
		{"NOSUCH k", schema.OpWrite, "NOSUCH"},
		{"COPY a b DB x", schema.OpWrite, `"x" is not a database`},
		{"MOVE k x", schema.OpWrite, `"x" is not a database`},
		{"MOVE k", schema.OpWrite, "wrong number"},
		{"SWAPDB 0 x", schema.OpTruncate, `"x" is not a database`},
		{"HSETEX h KEEPTTL", schema.OpWrite, "wrong number"},
		{"RENAME a", schema.OpWrite, "wrong number"},
	} {
		argv := bytesOf(tt.line)
		e := schema.Event{Op: tt.op, Key: argv[1], Command: string(argv[0]), Args: argv[1:]}
		if err := new(Touch).Of(&e); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want %q", tt.line, err, tt.want)
		}
	}
}

func TestOnlyRemoves(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SREM", "HDEL", "ZREM", "LREM", "XDEL", "VREM", "LPOP", "LTRIM", "XTRIM", "ZPOPMIN", "ZREMRANGEBYRANK", "LMOVE", "RPOPLPUSH"} {
		if !OnlyRemoves(name) {
			t.Errorf("%s does nothing but remove", name)
		}
	}
	for _, name := range []string{"SET", "RENAME", "SMOVE", "MOVE", "SADD", "HPEXPIREAT", "XADD", "DEL", "NOSUCH"} {
		if OnlyRemoves(name) {
			t.Errorf("%s does more than remove elements, or removes a whole key", name)
		}
	}
}

func TestTouchDoesNotAllocate(t *testing.T) {
	var touch Touch
	for _, line := range hot {
		events, err := AppendChanges(nil, 0, bytesOf(line))
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() {
			for i := range events {
				err = touch.Of(&events[i])
			}
		}); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, error %v", line, n, err)
		}
	}
}

// Whatever stands in a stream, or in a topic: no panic, and all keys that the
// event names are touched.
func FuzzTouch(f *testing.F) {
	for _, tt := range touchCases {
		f.Add(bytes.Join(bytesOf(tt.line), []byte{0}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		argv := bytes.Split(data, []byte{0})
		var touch Touch
		raw := schema.Event{Op: schema.OpWrite, Key: argv[0], Command: strings.ToUpper(string(argv[0])), Args: argv[1:]}
		_ = touch.Of(&raw) // an event that no source made
		raw.Op = schema.OpTruncate
		_ = touch.Of(&raw)
		events, err := AppendChanges(nil, 0, argv)
		if err != nil {
			return
		}
		for i := range events {
			e := &events[i]
			if err := touch.Of(e); err != nil {
				continue // a database that is no number
			}
			for _, k := range append(e.OtherKeys, e.Key) {
				if k != nil && !touchesKey(&touch, k) {
					t.Fatalf("%s: %q is not touched: %s", lineOf(e), k, touchText(&touch))
				}
			}
			if e.Op == schema.OpWrite && OnlyRemoves(e.Command) != (touch.Kind == Removal || touch.Kind == Pop) {
				t.Fatalf("%s: OnlyRemoves does not fit %s", lineOf(e), touchText(&touch))
			}
		}
	})
}

func touchesKey(t *Touch, key []byte) bool {
	for _, k := range t.Keys {
		if k.Written && bytes.Equal(k.Name, key) {
			return true
		}
	}
	return false
}
