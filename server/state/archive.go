package state

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/stackforge/magnum/structs"
)

// An archive is the file that operators keep: one frame that says where and when it was
// saved, followed by an unchanged snapshot stream, whose checksums start again. A stream
// alone, as servers keep it, is also an archive.
const frameArchive = 'A' // structs.SnapshotHead as JSON

// maxHead bounds the archive's head in bytes.
const maxHead = 64 << 10

// WriteArchive writes the snapshot as an archive.
func WriteArchive(w io.Writer, head structs.SnapshotHead, s *Snapshot) error {
	payload, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	fw := newFrameWriter(w)
	fw.payload = payload
	if err := fw.end(frameArchive); err != nil {
		return err
	}
	if err := fw.w.Flush(); err != nil {
		return err
	}
	return PersistSnapshot(s, w)
}

// Inspect reads a whole archive and describes its content, or returns the error with which
// it would be refused. It keeps nothing of the state.
func Inspect(r io.Reader) (structs.Snapshot, error) {
	counted := &counter{r: r}
	stream, head, err := openArchive(counted)
	if err != nil {
		return structs.Snapshot{}, fmt.Errorf("snapshot: %w", err)
	}
	info := structs.Snapshot{Term: head.Term, SavedAt: head.SavedAt, SavedBy: head.SavedBy, Version: head.Version,
		Rows: make(map[structs.Table]int)}
	rs := &restorer{seen: func(row structs.Row) {
		info.Rows[row.Table()]++
		if c, ok := row.(*structs.Cluster); ok && c.ID == structs.ClusterRowID {
			info.ClusterID, info.Incarnation = c.ClusterID, c.Incarnation
		}
		if token, ok := row.(*structs.Token); ok && token.Role == structs.RoleAdmin && !token.Join {
			info.AdminTokens++
		}
	}}
	if err := rs.read(stream); err != nil {
		return structs.Snapshot{}, fmt.Errorf("snapshot: %w", err)
	}
	info.Index, info.Schema, info.Hash, info.Size = rs.state.index, rs.schema, FormatHash(rs.state.hash), counted.n
	return info, nil
}

// FormatHash writes a state's hash as operators see it.
func FormatHash(hash uint64) string { return fmt.Sprintf("%016x", hash) }

// openArchive reads the head of an archive. The rest is the stream.
func openArchive(r io.Reader) (stream io.Reader, head structs.SnapshotHead, err error) {
	br := bufio.NewReaderSize(r, frameSize)
	first, err := br.Peek(5)
	if err != nil {
		if err == io.EOF {
			err = errNoSnapshot
		}
		return nil, head, err
	}
	switch first[0] {
	case frameHeader:
		return br, head, nil
	case frameArchive:
	default:
		return nil, head, errNoSnapshot
	}
	size := int(binary.BigEndian.Uint32(first[1:]))
	if size > maxHead {
		return nil, head, errNoSnapshot
	}
	frame := make([]byte, len(first)+size+4)
	if _, err := io.ReadFull(br, frame); err != nil {
		return nil, head, cutOff(err)
	}
	content := frame[:len(frame)-4]
	if crc32.Checksum(content, castagnoli) != binary.BigEndian.Uint32(frame[len(content):]) {
		return nil, head, errors.New("it is damaged: the checksum of its head is not that of its content")
	}
	if err := json.Unmarshal(content[len(first):], &head); err != nil {
		return nil, head, fmt.Errorf("its head can't be read: %w", err)
	}
	return br, head, nil
}

var errNoSnapshot = errors.New("this is not a snapshot of magnum's state")

// counter counts the bytes read.
type counter struct {
	r io.Reader
	n int64
}

// Read reads from r.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
