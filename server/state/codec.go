package state

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"sync"
	"unique"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/stackforge/magnum/server/state/msgpack"
	"github.com/stackforge/magnum/structs"
)

// handle defines the encoding of rows, which package msgpack follows. Equal rows have equal bytes, and
// bytes that this package wrote are the same after decoding and encoding: map keys are
// sorted, empty fields are left out (nil and empty slices are equal, and decode to nil),
// times are in UTC.
var handle = func() *codec.MsgpackHandle {
	h := new(codec.MsgpackHandle)
	h.Canonical = true
	h.ErrorIfNoField = true // otherwise an unknown field would be lost silently
	h.WriteExt = true       // times as msgpack's own extension
	h.MaxInitLen = 1024     // elements allocated before they are read
	return h
}()

// rowCodec is two decoders and buffers, all of which are expensive to create.
type rowCodec struct {
	buf   []byte
	entry []byte // buffer of encodeEntry
	fast  msgpack.Decoder
	dec   *codec.Decoder // for what fast doesn't read
}

// maxKeptEntry is the size in bytes of the largest buffer of an entry that is used again.
const maxKeptEntry = 256 << 10

var rowCodecs = sync.Pool{New: func() any {
	return &rowCodec{dec: codec.NewDecoderBytes(nil, handle)}
}}

// encode returns the row's bytes, which are valid until the next encode; see appendRow.
func (c *rowCodec) encode(row structs.Row, apart bool) []byte {
	c.buf = appendRow(c.buf[:0], row, apart)
	return c.buf
}

// appendRow appends the row's bytes. Those of a workload with a separate spec contain an
// empty spec.
func appendRow(b []byte, row structs.Row, apart bool) []byte {
	if w, ok := row.(structs.Specced); ok && apart {
		bare := w.Copy().(structs.Specced)
		bare.SetSpec(nil)
		row = bare
	}
	return msgpack.Append(b, reflect.ValueOf(row).Elem())
}

// SpecSize returns the size of the encoded spec in bytes, and the Go name and the size of
// its largest field.
func SpecSize(s *structs.StoredSpec) (size int, largest string, of int) {
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	v := reflect.ValueOf(&s.Spec).Elem()
	if s.Pod != nil {
		v = reflect.ValueOf(s.Pod).Elem()
	}
	size, largest, of, c.buf = msgpack.Size(v, c.buf)
	return size, largest, of
}

// emptySpec reports whether the workload's own spec is empty.
func emptySpec(w structs.Specced) bool {
	s := w.StoredSpec()
	return reflect.ValueOf(&s.Spec).Elem().IsZero() && (s.Pod == nil || reflect.ValueOf(s.Pod).Elem().IsZero())
}

// decode decodes a row of the table.
func (c *rowCodec) decode(table structs.Table, b []byte) (structs.Row, error) {
	row := NewRow(table)
	if row == nil {
		return nil, fmt.Errorf("unknown table %q", table)
	}
	if c.fast.Decode(b, reflect.ValueOf(row).Elem()) {
		intern(row)
		return row, nil
	}
	row = NewRow(table)
	c.dec.ResetBytes(b)
	if err := c.dec.Decode(row); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if n := c.dec.NumBytesRead(); n != len(b) {
		return nil, fmt.Errorf("%d bytes follow the row", len(b)-n)
	}
	intern(row)
	return row, nil
}

// intern shares equal strings between all rows: most strings of 100,000 containers are the
// same few.
func intern(row structs.Row) {
	m := row.Base()
	internString(&m.ProjectID)
	internString(&m.UserID)
	switch r := row.(type) {
	case *structs.Host:
		internString(&r.BayID)
	case *structs.StoredSpec:
		internSpec(&r.Spec)
		if r.Pod != nil {
			internPodSpec(r.Pod)
		}
	case *structs.Pod:
		internPodSpec(&r.Spec)
		internString(&r.Observed.Reason)
		internString((*string)(&r.Observed.Status))
	case *structs.Container:
		internSpec(&r.Spec)
		internString(&r.Observed.Reason)
		internString((*string)(&r.Observed.Status))
	}
	if w, ok := row.(structs.Workload); ok {
		p := w.Place()
		internString(&p.BayID)
		internString(&p.HostID)
		internString(&p.PlaceReason)
		internString((*string)(&p.Desired))
	}
}

func internSpec(s *structs.PrivateSpec) {
	internString(&s.Image)
	internString(&s.RestartPolicy.Name)
	internString(&s.PullPolicy)
}

func internPodSpec(s *structs.PodSpec) {
	internString(&s.RestartPolicy)
	for _, containers := range [][]structs.PodContainer{s.InitContainers, s.Containers} {
		for i := range containers {
			internString(&containers[i].Name)
			internString(&containers[i].Image)
			internString(&containers[i].PullPolicy)
		}
	}
}

func internString(s *string) {
	if *s != "" {
		*s = unique.Make(*s).Value()
	}
}

// rowHash returns a 64-bit hash of the row and the indexes beside it. b is the encoded row,
// nil if it has to be encoded. A separate spec is covered by the hash of its own row.
func rowHash(row structs.Row, b []byte, apart bool) uint64 {
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	if table := codeOf(row.Table()); b != nil {
		c.buf = append(appendHashHead(c.buf[:0], table, row), b...)
	} else {
		c.buf = appendRow(appendHashHead(c.buf[:0], table, row), row, apart)
	}
	return hashOf(c.buf)
}

// appendHashHead appends what is hashed before the row's bytes.
func appendHashHead(b []byte, table byte, row structs.Row) []byte {
	m := row.Base()
	b = append(b, table)
	for _, n := range [...]uint64{m.CreateIndex, m.ModifyIndex, assignIndex(row), uint64(len(m.ID))} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, m.ID...)
}

func hashOf(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// assignIndex returns the AssignIndex of a workload, 0 for other rows.
func assignIndex(row structs.Row) uint64 {
	if w, ok := row.(structs.Workload); ok {
		return w.Place().AssignIndex
	}
	return 0
}
