package rdb

import "encoding/binary"

// The kinds of items in which a module writes its values.
const (
	moduleEnd    = 0
	moduleSigned = 1
	moduleNumber = 2
	moduleFloat  = 3
	moduleDouble = 4
	moduleString = 5
)

const typeModule = 7

// moduleName decodes the name of a module's type: nine characters of six
// bits, in front of ten bits of the type's own version.
func moduleName(id uint64) string {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var name [9]byte
	for i := range name {
		name[i] = chars[id>>(58-6*i)&0x3f]
	}
	return string(name[:])
}

func refuseOldModule(r *Reader) (decoder, error) {
	id, err := r.length("module type")
	if err != nil {
		return nil, err
	}
	return nil, unsupported("a value of module type %q as release candidates of Redis 4.0 wrote it, which cannot be read without the module", moduleName(id))
}

// startModule keeps a module's value as DUMP answers it, ready for RESTORE.
func startModule(r *Reader) (decoder, error) {
	r.in.startRecording(append(r.module[:0], typeModule))
	err := r.readModule()
	dump := r.in.stopRecording()
	if err != nil {
		return nil, err
	}
	dump = binary.LittleEndian.AppendUint16(dump, uint16(r.version))
	dump = binary.LittleEndian.AppendUint64(dump, updateCRC(0, dump))
	r.module = dump
	r.entry.Value.Data = dump
	return nil, nil
}

func (r *Reader) readModule() error {
	id, err := r.length("module type")
	if err != nil {
		return err
	}
	r.entry.Type = moduleName(id)
	return r.skipModuleItems("a module's value")
}

// skipModuleAux skips what a module stored beside the keys: only the module
// itself could make use of it.
func (r *Reader) skipModuleAux() error {
	if _, err := r.length("module type"); err != nil {
		return err
	}
	kind, err := r.length("module item")
	if err != nil {
		return err
	}
	if kind != moduleNumber {
		return corrupt("aux data of a module begins with item %d", kind)
	}
	if _, err := r.length("module item"); err != nil {
		return err
	}
	return r.skipModuleItems("a module's aux data")
}

// skipModuleItems reads to the end of a module's data; what names it.
func (r *Reader) skipModuleItems(what string) error {
	start := r.in.offset()
	for {
		kind, err := r.length("module item")
		if err != nil {
			return err
		}
		switch kind {
		case moduleEnd:
			return nil
		case moduleSigned, moduleNumber:
			_, err = r.length("module item")
		case moduleFloat:
			err = r.in.skip(4)
		case moduleDouble:
			err = r.in.skip(8)
		case moduleString:
			err = r.skipString(start)
		default:
			return corrupt("unknown item %d in %s", kind, what)
		}
		if err != nil {
			return err
		}
		if err := r.checkModule(start, 0); err != nil {
			return err
		}
	}
}

// skipString skips a string. If it belongs to a module value that is kept, start
// is where that began.
func (r *Reader) skipString(start int64) error {
	n, enc, err := r.lengthOrEncoding()
	if err != nil {
		return err
	}
	switch enc {
	case plain:
	case encLZF:
		z, err := r.lzf()
		if err != nil {
			return err
		}
		n = z.in
	default:
		n = 1 << enc
	}
	if err := r.checkModule(start, n); err != nil {
		return err
	}
	return r.in.skip(n)
}

// checkModule checks the size of a module value that began at start and goes
// on for more bytes, if it is kept.
func (r *Reader) checkModule(start int64, more uint64) error {
	if !r.in.recording {
		return nil
	}
	if err := r.checkSize("module value", more); err != nil {
		return err
	}
	return r.checkSize("module value", uint64(r.in.offset()-start)+more)
}
