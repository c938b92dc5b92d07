package schema

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Encoder writes events as they stand in Kafka: framed, so that a reader
// knows the schema. It may be used by several goroutines.
type Encoder struct {
	header []byte
}

// NewEncoder gives the encoder for events whose schema has registryID in a
// schema registry (Confluent wire format), or, with 0, for links without a
// registry (Avro single-object encoding).
func NewEncoder(registryID int) *Encoder {
	if registryID > 0 {
		return &Encoder{header: binary.BigEndian.AppendUint32([]byte{0}, uint32(registryID))}
	}
	return &Encoder{header: singleObjectHeader()}
}

// Append appends e, framed, and returns the extended buffer.
func (enc *Encoder) Append(b []byte, e *Event) []byte {
	return AppendEvent(append(b, enc.header...), e)
}

func singleObjectHeader() []byte {
	return binary.LittleEndian.AppendUint64(singleObjectMagic, Fingerprint())
}

// Decoder reads events of both framings, of this release's schema and of
// others. It remembers strings and schemas, so use one for many events; it
// may not be used by several goroutines at a time.
type Decoder struct {
	registry *Registry
	reader   reader
	own      uint64 // fingerprint of this release's schema
	ownID    uint32 // a registry's id of that schema, when ownIDSet
	ownIDSet bool
	byID     map[uint32]*writer // other writers' schemas in the registry
	released map[uint64]*writer // of releases, by fingerprint
}

// NewDecoder makes a Decoder that looks schema ids up in registry. nil: there
// is none.
func NewDecoder(registry *Registry) *Decoder {
	return &Decoder{registry: registry, own: Fingerprint(), byID: make(map[uint32]*writer), released: released()}
}

// Decode reads the framed event b into e, overwriting it. Byte slices of e
// alias b. ctx bounds the look-up of a schema id not seen before; an error
// that is ErrRegistryUnavailable may be gone later, any other stays. After an
// error e holds nothing of use.
func (d *Decoder) Decode(ctx context.Context, b []byte, e *Event) error {
	if err := d.decode(ctx, b, e); err != nil {
		return fmt.Errorf("decoding change event: %w", err)
	}
	return nil
}

func (d *Decoder) decode(ctx context.Context, b []byte, e *Event) error {
	switch {
	case isSingleObject(b):
		fp := binary.LittleEndian.Uint64(b[2:])
		if fp == d.own {
			return d.reader.decode(b, singleObjectLen, e)
		}
		w := d.released[fp]
		if w == nil {
			return fmt.Errorf("its schema, fingerprint %016x, is not of this or an earlier release; run the newer twinlog that wrote it", fp)
		}
		return w.decode(b[singleObjectLen:], e)
	case isRegistry(b):
		return d.decodeRegistered(ctx, binary.BigEndian.Uint32(b[1:]), b, e)
	default:
		return fmt.Errorf("it begins with % x: neither Avro single-object encoding nor a schema registry's framing", clip(b)[:min(len(b), singleObjectLen)])
	}
}

func (d *Decoder) decodeRegistered(ctx context.Context, id uint32, b []byte, e *Event) error {
	if d.ownIDSet && id == d.ownID {
		return d.reader.decode(b, registryLen, e)
	}
	w := d.byID[id]
	if w == nil {
		if d.registry == nil {
			return errors.New("it was written with a schema registry, and none is configured; set schema_registry.url")
		}
		schema, err := d.registry.Schema(ctx, id)
		if err != nil {
			return err
		}
		if w, err = compile(fmt.Sprintf("the writer's schema, registry id %d", id), schema); err != nil {
			return err
		}
		if w.codec.Rabin == d.own {
			d.ownID, d.ownIDSet = id, true
			return d.reader.decode(b, registryLen, e)
		}
		d.byID[id] = w
	}
	return w.decode(b[registryLen:], e)
}
