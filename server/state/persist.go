package state

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/stackforge/magnum/structs"
)

// A snapshot is a stream of frames, each
//
//	kind     1 byte
//	length   4 bytes, big endian, of the payload
//	payload
//	checksum 4 bytes: CRC-32C of all earlier bytes of the stream
//
// Each checksum covers everything before it, so a frame that is missing, repeated or moved
// is detected like a flipped bit. The first frame is the header, followed by the lists, the
// rows in the order of tables, and the trailer. Nothing may follow the trailer.
const (
	frameHeader  = 'H' // magic, schema, index, lastSeq, numbers of lists and of rows; since schema 2 the seconds of lastTime
	frameLists   = 'L' // table, project, index of each list
	frameRows    = 'R' // table, three indexes and bytes of each row
	frameTrailer = 'E' // hash of the state
)

const (
	magic      = "magnum-state"
	frameSize  = 64 << 10 // bytes of payload after which a frame ends
	maxPayload = 64 << 20 // bytes; every row is much smaller
)

// Persist writes the present state; see PersistSnapshot.
func (s *Store) Persist(w io.Writer) error { return PersistSnapshot(s.Snapshot(), w) }

// PersistSnapshot writes the snapshot as a stream for Restore. Equal states have equal
// streams. It keeps one frame in memory.
func PersistSnapshot(s *Snapshot, w io.Writer) error {
	fw := newFrameWriter(w)
	lists, rows := countRows(s)
	fw.payload = append(fw.payload, magic...)
	schema := s.Cluster().SchemaInUse()
	fw.payload = binary.BigEndian.AppendUint16(fw.payload, uint16(schema))
	for _, v := range []uint64{s.index, s.lastSeq, lists, rows} {
		fw.payload = binary.AppendUvarint(fw.payload, v)
	}
	if schema >= structs.SchemaLastTime {
		fw.payload = binary.AppendUvarint(fw.payload, secondsOf(s.lastTime))
	}
	if err := fw.end(frameHeader); err != nil {
		return err
	}
	if err := persistLists(s, fw); err != nil {
		return err
	}
	if err := persistRows(s, fw); err != nil {
		return err
	}
	fw.payload = binary.BigEndian.AppendUint64(fw.payload, s.hash)
	if err := fw.end(frameTrailer); err != nil {
		return err
	}
	return fw.w.Flush()
}

// secondsOf returns the Unix time, 0 for the zero time. Times of rows are whole seconds.
func secondsOf(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.Unix(), 0))
}

// countRows returns the numbers of lists and rows.
func countRows(s *Snapshot) (lists, rows uint64) {
	for i := range s.rows {
		rows += uint64(s.rows[i][indexID].Len())
	}
	return uint64(s.lists.Len()), rows
}

func persistLists(s *Snapshot, fw *frameWriter) error {
	it := s.lists.Seek(nil)
	for l := it.Next(); l != nil; l = it.Next() {
		fw.payload = append(fw.payload, codeOf(l.table))
		fw.bytes([]byte(l.projectID))
		fw.payload = binary.AppendUvarint(fw.payload, l.index)
		if err := fw.endIfFull(frameLists); err != nil {
			return err
		}
	}
	return fw.endIfAny(frameLists)
}

func persistRows(s *Snapshot, fw *frameWriter) error {
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	for _, t := range tables {
		table := t.Name
		it := s.table(table)[indexID].Seek(nil)
		for r := it.Next(); r != nil; r = it.Next() {
			row := r.row
			w, ok := row.(structs.Specced)
			b := c.encode(row, ok && s.HasSpecs() && specOf(s, w.Ref().BesideID()) != nil)
			m := row.Base()
			fw.payload = append(fw.payload, t.Code)
			for _, v := range []uint64{m.CreateIndex, m.ModifyIndex, assignIndex(row)} {
				fw.payload = binary.AppendUvarint(fw.payload, v)
			}
			fw.bytes(b)
			if err := fw.endIfFull(frameRows); err != nil {
				return err
			}
		}
	}
	return fw.endIfAny(frameRows)
}

// frameWriter collects a payload and writes it as a frame.
type frameWriter struct {
	w       *bufio.Writer
	sum     uint32
	payload []byte
}

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: bufio.NewWriterSize(w, frameSize)}
}

func (fw *frameWriter) bytes(b []byte) {
	fw.payload = binary.AppendUvarint(fw.payload, uint64(len(b)))
	fw.payload = append(fw.payload, b...)
}

func (fw *frameWriter) endIfFull(kind byte) error {
	if len(fw.payload) < frameSize {
		return nil
	}
	return fw.end(kind)
}

func (fw *frameWriter) endIfAny(kind byte) error {
	if len(fw.payload) == 0 {
		return nil
	}
	return fw.end(kind)
}

func (fw *frameWriter) end(kind byte) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(fw.payload)))
	for _, b := range [][]byte{head, fw.payload} {
		fw.sum = crc32.Update(fw.sum, castagnoli, b)
		if _, err := fw.w.Write(b); err != nil {
			return err
		}
	}
	tail := binary.BigEndian.AppendUint32(nil, fw.sum)
	fw.sum = crc32.Update(fw.sum, castagnoli, tail)
	fw.payload = fw.payload[:0]
	_, err := fw.w.Write(tail)
	return err
}

// Restore replaces the state by that of the stream and wakes every subscription. It refuses
// a stream that is cut off, damaged, of an unknown schema, or inconsistent with its own
// hash; then the store is unchanged.
func (s *Store) Restore(r io.Reader) error {
	restored, err := readSnapshot(r)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.publish(restored)
	s.events.reset(restored.index)
	s.topics.fireAll()
	return nil
}
