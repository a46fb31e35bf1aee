package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

const (
	magic      = "MAGNUML1"
	headSize   = 8 + 8 + 4
	recordHead = 4 + 4 + 8 + 8 + 8 + 4 + 1 + 3
	suffix     = ".log"

	// maxRecord is the most bytes of data and extensions of one record. Only
	// reading asks: a length that can't be is damage.
	maxRecord = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errUnfinished is of a file in which nothing has ever been stored.
var errUnfinished = errors.New("a segment that was never finished")

// writtenHere is what stands behind a record that this process has written.
const writtenHere = "and nothing more is written"

// segment is one file of a log.
type segment struct {
	file    *os.File
	path    string
	base    uint64  // the index of the first entry
	offsets []int64 // of the records in the file
	size    int64   // to the end of the last record
	rest    string  // what follows it

	// Only of what is appended to:
	filled int64 // to the end of the zeros that were written ahead
	torn   bool  // something else than zeros may stand behind the last record
}

// next returns the index behind the last entry.
func (s *segment) next() uint64 { return s.base + uint64(len(s.offsets)) }

func segmentName(base uint64) string { return fmt.Sprintf("%020d%s", base, suffix) }

func segmentHead(base uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(magic), base)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// openSegment reads a segment up to the last whole record. It is errUnfinished
// if it has no head and nothing but zeros.
func openSegment(path string, visit func(*raft.Log) error) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, size: headSize, torn: true}
	if err := s.scan(f, visit); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	s.file, err = os.OpenFile(path, os.O_RDWR, 0)
	return s, err
}

func (s *segment) scan(f io.Reader, visit func(*raft.Log) error) error {
	r := bufio.NewReaderSize(f, 1<<20)
	head := make([]byte, headSize)
	if n, err := io.ReadFull(r, head); err == io.EOF || err == io.ErrUnexpectedEOF {
		return s.headless(head[:n], r)
	} else if err != nil {
		return err
	}
	s.base = binary.BigEndian.Uint64(head[len(magic):])
	if !bytes.Equal(head, segmentHead(s.base)) || segmentName(s.base) != filepath.Base(s.path) {
		return s.headless(head, r)
	}
	var payload []byte
	var entry raft.Log
	record := make([]byte, recordHead)
	for {
		at := fmt.Sprintf("and at byte %d", s.size)
		switch _, err := io.ReadFull(r, record); {
		case err == io.EOF:
			s.rest = at + " the file ends"
			return nil
		case err == io.ErrUnexpectedEOF:
			s.rest = at + " the file is cut off"
			return nil
		case err != nil:
			return err
		}
		if allZero(record) {
			s.rest = at + " nothing more is written"
			return nil
		}
		n := int(binary.BigEndian.Uint32(record[4:]))
		if n > maxRecord {
			s.rest = fmt.Sprintf("%s a record claims %d bytes", at, n)
			return nil
		}
		if cap(payload) < n {
			// Grown as it is read: the length may be anything.
			b := new(bytes.Buffer)
			if _, err := io.CopyN(b, r, int64(n)); err != nil && err != io.EOF {
				return err
			}
			payload = b.Bytes()
		} else {
			payload = payload[:n]
			got, err := io.ReadFull(r, payload)
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return err
			}
			payload = payload[:got]
		}
		if len(payload) < n {
			s.rest = at + " the file is cut off"
			return nil
		}
		if err := decodeRecord(record, payload, s.next(), &entry); err != nil {
			s.rest = fmt.Sprintf("%s %v", at, err)
			return nil
		}
		if err := visit(&entry); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
		s.offsets = append(s.offsets, s.size)
		s.size += int64(recordHead + n)
	}
}

// headless says what a file is that doesn't begin as a segment of its name does.
func (s *segment) headless(head []byte, r io.Reader) error {
	// The head is on disk before the first record is written.
	rest := make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(r, rest)
		if !allZero(rest[:n]) {
			return fmt.Errorf("%s is damaged: it begins with %q", s.path, head)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return errUnfinished
		}
		if err != nil {
			return err
		}
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// read reads the entry of the index, which the segment has.
func (s *segment) read(index uint64, entry *raft.Log) error {
	i := index - s.base
	end := s.size
	if i+1 < uint64(len(s.offsets)) {
		end = s.offsets[i+1]
	}
	b := make([]byte, end-s.offsets[i])
	if _, err := s.file.ReadAt(b, s.offsets[i]); err != nil {
		return fmt.Errorf("%s: entry %d: %w", s.path, index, err)
	}
	if err := decodeRecord(b[:recordHead], b[recordHead:], index, entry); err != nil {
		return fmt.Errorf("%s is damaged: at byte %d %w", s.path, s.offsets[i], err)
	}
	return nil
}

// appendRecord appends an entry as it is in the file.
func appendRecord(b []byte, e *raft.Log) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, 0) // the checksum
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)+len(e.Extensions)))
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	var appended int64
	if !e.AppendedAt.IsZero() {
		appended = e.AppendedAt.UnixNano()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(appended))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Extensions)))
	b = append(b, byte(e.Type), 0, 0, 0)
	b = append(append(b, e.Data...), e.Extensions...)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// decodeRecord is the opposite. The entry's data is part of the payload.
func decodeRecord(head, payload []byte, index uint64, e *raft.Log) error {
	sum := crc32.Update(crc32.Checksum(head[4:], castagnoli), castagnoli, payload)
	extensions := int(binary.BigEndian.Uint32(head[32:]))
	if sum != binary.BigEndian.Uint32(head) || extensions > len(payload) || int(binary.BigEndian.Uint32(head[4:])) != len(payload) {
		return errors.New("a record does not have its checksum")
	}
	if i := binary.BigEndian.Uint64(head[8:]); i != index {
		return fmt.Errorf("stands entry %d", i)
	}
	*e = raft.Log{
		Index: index, Term: binary.BigEndian.Uint64(head[16:]), Type: raft.LogType(head[36]),
		Data: payload[: len(payload)-extensions : len(payload)-extensions],
	}
	if extensions > 0 {
		e.Extensions = payload[len(payload)-extensions:]
	}
	if appended := int64(binary.BigEndian.Uint64(head[24:])); appended != 0 {
		e.AppendedAt = time.Unix(0, appended)
	}
	return nil
}
