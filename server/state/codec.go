package state

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"unique"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/stackforge/magnum/structs"
)

// handle is how rows become bytes. Equal rows give equal bytes, and bytes that
// this package wrote are written again just so once they are decoded: map keys
// are sorted, empty fields are left out (a nil and an empty slice are the
// same, and come back nil), times are in UTC.
var handle = func() *codec.MsgpackHandle {
	h := new(codec.MsgpackHandle)
	h.Canonical = true
	h.ErrorIfNoField = true // a field that this binary doesn't know would silently be lost
	h.WriteExt = true       // times as msgpack's own extension
	h.MaxInitLen = 1024     // elements allocated on the word of a length that is not yet read
	return h
}()

// rowCodec is an encoder and its buffer. Both are expensive to make.
type rowCodec struct {
	buf []byte
	enc *codec.Encoder
	dec *codec.Decoder
}

var rowCodecs = sync.Pool{New: func() any {
	return &rowCodec{enc: codec.NewEncoderBytes(nil, handle), dec: codec.NewDecoderBytes(nil, handle)}
}}

// encode returns the row's bytes, which are valid until the next encode.
func (c *rowCodec) encode(row structs.Row) ([]byte, error) {
	c.buf = c.buf[:0]
	c.enc.ResetBytes(&c.buf)
	if err := c.enc.Encode(row); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return c.buf, nil
}

// decode returns the row that the bytes hold.
func (c *rowCodec) decode(table structs.Table, b []byte) (structs.Row, error) {
	row := structs.NewRow(table)
	if row == nil {
		return nil, fmt.Errorf("unknown table %q", table)
	}
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

// intern makes equal strings of different rows one string: of the strings of
// 100,000 containers most are the same few.
func intern(row structs.Row) {
	m := row.Base()
	one(&m.ProjectID)
	one(&m.UserID)
	switch r := row.(type) {
	case *structs.Host:
		one(&r.BayID)
	case *structs.Container:
		one(&r.BayID)
		one(&r.HostID)
		one(&r.Spec.Image)
		one(&r.Spec.RestartPolicy.Name)
		one(&r.Spec.PullPolicy)
		one(&r.PlaceReason)
		one(&r.Observed.Reason)
		one((*string)(&r.Desired))
		one((*string)(&r.Observed.Status))
	}
}

func one(s *string) {
	if *s != "" {
		*s = unique.Make(*s).Value()
	}
}

// rowHash returns 64 bits over what the row is and the indexes beside it.
func rowHash(row structs.Row) (uint64, error) {
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	b, err := c.encode(row)
	if err != nil {
		return 0, err
	}
	return hashRow(tableCodes[row.Table()], row, b), nil
}

// hashRow is rowHash for a row whose bytes are at hand.
func hashRow(table byte, row structs.Row, b []byte) uint64 {
	m, assign := row.Base(), assignIndex(row)
	h := sha256.New()
	var head [1 + 8*4]byte
	head[0] = table
	binary.BigEndian.PutUint64(head[1:], m.CreateIndex)
	binary.BigEndian.PutUint64(head[9:], m.ModifyIndex)
	binary.BigEndian.PutUint64(head[17:], assign)
	binary.BigEndian.PutUint64(head[25:], uint64(len(m.ID)))
	h.Write(head[:])
	h.Write([]byte(m.ID))
	h.Write(b)
	var sum [sha256.Size]byte
	return binary.BigEndian.Uint64(h.Sum(sum[:0]))
}

// assignIndex returns the AssignIndex of a container, 0 for other rows.
func assignIndex(row structs.Row) uint64 {
	if c, ok := row.(*structs.Container); ok {
		return c.AssignIndex
	}
	return 0
}
