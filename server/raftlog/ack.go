package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// ackFile remembers the index of the last entry that this server, as leader,
// has acknowledged. A disk that loses what it said it had synced is found out
// by it, if the disk keeps this file better; nothing waits for it to be synced.
//
// The file is 8 bytes of index and 4 of their CRC-32C, big endian.
type ackFile struct {
	mu   sync.Mutex
	file *os.File
	last uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const ackSize = 8 + 4

// openAckFile opens the file, or makes an empty one.
func openAckFile(path string) (*ackFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	a := &ackFile{file: f}
	var b [ackSize]byte
	switch _, err := f.ReadAt(b[:], 0); {
	case err == io.EOF: // new, or never written in full: then nothing is known
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("raft: %w", err)
	case b == [ackSize]byte{}: // what some file systems leave of an unsynced file when the power fails
	case binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli):
		f.Close()
		return nil, fmt.Errorf("%s is damaged; it only says how far the log has to reach: remove it if the log is known to be whole", path)
	default:
		a.last = binary.BigEndian.Uint64(b[:])
	}
	return a, nil
}

// write notes that the index is acknowledged. A failure isn't one of the write
// that was acknowledged: a check is lost, no data.
func (a *ackFile) write(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if index <= a.last {
		return
	}
	a.last = index
	var b [ackSize]byte
	binary.BigEndian.PutUint64(b[:], index)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	a.file.WriteAt(b[:], 0)
}

func (a *ackFile) close() error { return a.file.Close() }
