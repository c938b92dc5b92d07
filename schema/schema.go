package schema

import (
	"bytes"
	"embed"
	"fmt"
	"sync"

	"github.com/linkedin/goavro/v2"
)

//go:embed change_event.avsc
var text string

// releases holds the schema of every release, change_event.v1.avsc and so on:
// events written with them stay in topics.
//
//go:embed change_event.v*.avsc
var releases embed.FS

// eventName is the full name of the record that an event is.
const eventName = "twinlog.v1.ChangeEvent"

// goavro takes memory for the item count that an array announces, 34 GB for
// five hostile bytes by default. The limit is a variable of that package, so
// it is set once, here, before anything is decoded. It also splits the arrays
// that goavro encodes; appendArray splits ours alike.
func init() { goavro.MaxBlockCount = maxBlock }

// Bytes is the Avro schema of the events that AppendEvent writes, as JSON.
func Bytes() []byte { return []byte(text) }

// Fingerprint is the schema's CRC-64-AVRO fingerprint, over its canonical form.
func Fingerprint() uint64 { return fingerprint() }

var fingerprint = sync.OnceValue(func() uint64 { return mustCompile(text).Rabin })

// released gives the writers of all releases by fingerprint.
var released = sync.OnceValue(func() map[uint64]*writer {
	files, err := releases.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("schema: reading embedded releases: %v", err))
	}
	writers := make(map[uint64]*writer, len(files))
	for _, f := range files {
		b, err := releases.ReadFile(f.Name())
		if err != nil {
			panic(fmt.Sprintf("schema: reading embedded release: %v", err))
		}
		c := mustCompile(string(b))
		writers[c.Rabin] = &writer{name: f.Name(), codec: c}
	}
	return writers
})

// mustCompile is for embedded schemas, which tests compile.
func mustCompile(schema string) *goavro.Codec {
	c, err := goavro.NewCodec(schema)
	if err != nil {
		panic(fmt.Sprintf("schema: compiling embedded schema: %v", err))
	}
	return c
}

// compile makes a writer of a schema that came from outside.
func compile(name, schema string) (*writer, error) {
	schema, err := bounded(schema)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var c *goavro.Codec
	if err := guarded(func() (err error) { c, err = goavro.NewCodec(schema); return err }); err != nil {
		return nil, fmt.Errorf("compiling %s: %w", name, err)
	}
	if full := c.TypeName(); full.String() != eventName {
		return nil, fmt.Errorf("%s describes %s, not %s: the topic holds records of another program", name, full.String(), eventName)
	}
	return &writer{name: name, codec: c}, nil
}

// guarded turns a panic of goavro into an error: schemas and events from
// outside have made it panic, and it is no longer developed.
func guarded(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("goavro panicked: %v", p)
		}
	}()
	return call()
}

// Framing: what stands before an event's Avro body.
const (
	singleObjectLen = 2 + 8 // c3 01, fingerprint as little-endian
	registryLen     = 1 + 4 // 00, schema id as big-endian
)

var singleObjectMagic = []byte{0xc3, 0x01}

func isSingleObject(b []byte) bool {
	return len(b) >= singleObjectLen && bytes.HasPrefix(b, singleObjectMagic)
}

func isRegistry(b []byte) bool { return len(b) >= registryLen && b[0] == 0 }
