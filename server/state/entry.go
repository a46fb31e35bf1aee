package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/stackforge/magnum/structs"
)

// A log entry is
//
//	schema   2 bytes, big endian
//	checksum 4 bytes: CRC-32C of the schema and the payload
//	payload  term, prev, number of changes, then the changes
//
// A change is the table's code, flags, ID, version and, unless it deletes, the encoded
// row. Numbers in the payload are uvarints. Values of variable length follow their length.
const entryHead = 2 + 4

// The flags of a change in an entry.
const (
	flagRow    = 1 << iota // a row follows; otherwise the change deletes
	flagAssign             // Change.Assign
	flagApart              // Change.SpecApart, since schema 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeEntry returns the bytes of a log entry. Equal entries have equal bytes. Its errors
// are mistakes of the caller: a change without ID, a row under another ID or in another
// table, a schema above SchemaVersion.
func EncodeEntry(e *structs.Entry) ([]byte, error) { return encodeEntry(e, nil) }

// encodeEntry is EncodeEntry with a fault for tests, which may change the bytes of each row
// before the checksum is computed; nil for none.
func encodeEntry(e *structs.Entry, fault func(structs.Row, []byte)) ([]byte, error) {
	if e.Schema < structs.LeastSchema || e.Schema > structs.SchemaVersion {
		return nil, fmt.Errorf("entry of schema %d; this binary writes up to %d", e.Schema, structs.SchemaVersion)
	}
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	b := append(c.entry[:0], make([]byte, entryHead)...)
	binary.BigEndian.PutUint16(b, uint16(e.Schema))
	b = binary.AppendUvarint(b, e.Term)
	b = binary.AppendUvarint(b, e.Prev)
	b = binary.AppendUvarint(b, uint64(len(e.Changes)))
	for i := range e.Changes {
		ch := &e.Changes[i]
		if err := checkChange(ch); err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
		if (ch.SpecApart || ch.Table == structs.TableSpecs) && e.Schema < structs.SchemaSpecs {
			return nil, fmt.Errorf("change %d: there are no separate specs in schema %d", i, e.Schema)
		}
		if e.Schema < leastSchema(ch.Table) {
			return nil, fmt.Errorf("change %d: there is no table %s in schema %d", i, ch.Table, e.Schema)
		}
		b = appendChangeHead(b, ch)
		if ch.Row != nil {
			row := c.encode(ch.Row, ch.SpecApart)
			b = binary.AppendUvarint(b, uint64(len(row)))
			b = append(b, row...)
			if fault != nil {
				fault(ch.Row, b[len(b)-len(row):])
			}
		}
	}
	binary.BigEndian.PutUint32(b[2:], entrySum(b))
	if cap(b) <= maxKeptEntry {
		c.entry = b
	}
	return bytes.Clone(b), nil // in memory of its own size, because the cache of the log keeps it
}

// EntryHead is the largest number of bytes of an entry besides its changes.
const EntryHead = entryHead + 3*binary.MaxVarintLen64

// ChangeSize returns the size of the change in an entry, in bytes.
func ChangeSize(ch *structs.Change) int {
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	var room [64]byte
	n := len(appendChangeHead(room[:0], ch))
	if ch.Row != nil {
		row := len(c.encode(ch.Row, ch.SpecApart))
		n += len(binary.AppendUvarint(room[:0], uint64(row))) + row
	}
	return n
}

// appendChangeHead appends the part of a change before its row.
func appendChangeHead(b []byte, ch *structs.Change) []byte {
	var flags byte
	if ch.Assign {
		flags |= flagAssign
	}
	if ch.Row != nil {
		flags |= flagRow
	}
	if ch.SpecApart {
		flags |= flagApart
	}
	b = append(b, codeOf(ch.Table), flags)
	b = binary.AppendUvarint(b, uint64(len(ch.ID)))
	b = append(b, ch.ID...)
	return binary.AppendUvarint(b, ch.Version)
}

// entrySum returns the checksum of the entry without its checksum field.
func entrySum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:2], castagnoli), castagnoli, b[entryHead:])
}

// CheckEntry returns an error if the bytes are not an entry of a schema that this binary
// reads (ErrSchema), or are damaged. It is cheaper than DecodeEntry.
func CheckEntry(b []byte) error {
	if len(b) < entryHead {
		return fmt.Errorf("entry of %d bytes is cut off", len(b))
	}
	if schema := int(binary.BigEndian.Uint16(b)); schema < structs.LeastSchema || schema > structs.SchemaVersion {
		return fmt.Errorf("entry of schema %d; this binary reads up to %d: run the version of magnum that wrote it, or a newer one (%w)",
			schema, structs.SchemaVersion, ErrSchema)
	}
	if want, got := binary.BigEndian.Uint32(b[2:]), entrySum(b); want != got {
		return fmt.Errorf("entry is damaged: its checksum is %08x, its content's is %08x", want, got)
	}
	return nil
}

// DecodeEntry decodes an entry. An error means that this binary can't know what the entry
// does: the entry is damaged, or has a schema, table or field that this binary doesn't
// know.
func DecodeEntry(b []byte) (*structs.Entry, error) {
	if err := CheckEntry(b); err != nil {
		return nil, err
	}
	e := &structs.Entry{Schema: int(binary.BigEndian.Uint16(b))}
	r := reader{rest: b[entryHead:]}
	e.Term, e.Prev = r.uvarint("term"), r.uvarint("prev")
	n := r.uvarint("number of changes")
	if r.err == nil && n > uint64(len(r.rest)) {
		return nil, fmt.Errorf("entry of %d bytes can't contain %d changes", len(b), n)
	}
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	e.Changes = make([]structs.Change, 0, min(n, structs.MaxBatch))
	for i := range n {
		ch, err := r.change(c, e.Schema)
		if err != nil {
			return nil, fmt.Errorf("change %d of %d: %w", i, n, err)
		}
		e.Changes = append(e.Changes, ch)
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last change", len(r.rest))
	}
	return e, nil
}

// reader reads values from the front of a payload and keeps the first error.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is cut off or malformed", what)
	}
	r.rest = nil
}

func (r *reader) uvarint(what string) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) byte(what string) byte {
	if len(r.rest) == 0 {
		r.fail(what)
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) bytes(what string) []byte {
	n := r.uvarint("length of " + what)
	if n > uint64(len(r.rest)) || n > math.MaxInt32 {
		r.fail(what)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// change reads one change.
func (r *reader) change(c *rowCodec, schema int) (structs.Change, error) {
	code, flags := r.byte("table"), r.byte("flags")
	ch := structs.Change{ID: string(r.bytes("ID")), Version: r.uvarint("version"), Assign: flags&flagAssign != 0,
		SpecApart: flags&flagApart != 0}
	if r.err != nil {
		return ch, r.err
	}
	table, known := tableOf(code)
	if !known {
		return ch, fmt.Errorf("unknown table number %d", code)
	}
	known = schema >= leastSchema(table) && (schema >= structs.SchemaSpecs || !ch.SpecApart)
	if flags&^(flagRow|flagAssign|flagApart) != 0 || !known {
		return ch, fmt.Errorf("unknown flags %#x or table %s in an entry of schema %d", flags, table, schema)
	}
	ch.Table = table
	if flags&flagRow != 0 {
		b := r.bytes("row")
		if r.err != nil {
			return ch, r.err
		}
		row, err := c.decode(table, b)
		if err != nil {
			return ch, fmt.Errorf("%s: row %q: %w", table, ch.ID, err)
		}
		ch.Row, ch.Encoded = row, b
	}
	if w, ok := ch.Row.(structs.Specced); ok && ch.SpecApart && !emptySpec(w) {
		return ch, fmt.Errorf("%s: row %q contains its spec as well", table, ch.ID)
	}
	return ch, checkChange(&ch)
}
