// Package memberfile keeps the membership record of a data directory: the server's ID,
// its cluster, its bootstrap grant, and whether its Raft log must hold something. The
// record is one file, which is replaced atomically. Packages bootstrap and raftlog read
// and change it; memberfile imports neither.
package memberfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/internal/fileid"
	"github.com/stackforge/magnum/structs"
)

// Record is the membership of the server that owns a data directory. A server that has
// given a grant, a vote or an acknowledgement of an entry under its ID must never start
// again under that ID without this record: it could vote twice in a term, or form a
// majority that lacks acknowledged entries.
type Record struct {
	ServerID  string `json:"server_id"`            // UUID, minted at the first start; the other servers know this server by it
	ClusterID string `json:"cluster_id,omitempty"` // UUID of the server's cluster; "" before it joins one
	Voted     bool   `json:"voted,omitempty"`      // the log holds a term or a vote that other servers may rely on
	Stored    bool   `json:"stored,omitempty"`     // the log holds entries or a snapshot
	Place     Place  `json:"place,omitzero"`       // where the log was when it was last opened; zero before the first time

	// Grant is the proposed cluster to which this server has given its grant during
	// bootstrap; nil if none.
	Grant *structs.PeerGrant `json:"grant,omitempty"`
	// Proposes is set if this server is the proposer of Grant's cluster.
	Proposes bool `json:"proposes,omitempty"`
	// Abandoned lists the IDs of clusters that this server proposed and has abandoned,
	// at most the last MaxAbandoned of them.
	Abandoned []string `json:"abandoned,omitempty"`
}

// MaxAbandoned bounds Record.Abandoned.
const MaxAbandoned = 16

// Begun reports whether the log must hold something: a vote, entries or a snapshot.
func (r Record) Begun() bool { return r.Voted || r.Stored }

// Place identifies the directory and file of a server's log. A log in another place is
// a copy, which may lack entries that the server has acknowledged since.
type Place struct {
	Dir  fileid.ID `json:"dir"`  // raft/
	File fileid.ID `json:"file"` // raft/raft.db
	// Next is the file that is about to replace raft.db by a rename, which keeps its
	// ID; zero if there is none.
	Next fileid.ID `json:"next,omitzero"`
}

// Holds reports whether a log found at now is the log that p records.
func (p Place) Holds(now Place) bool {
	return now.Dir.SameFile(p.Dir) && (now.File.SameFile(p.File) || p.Next != fileid.ID{} && now.File.SameFile(p.Next))
}

// content is the content of the file: one line of JSON.
type content struct {
	Record
	Sum uint32 `json:"crc32c"` // CRC-32C of the JSON of Record alone
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r Record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err == nil {
		b, err = json.Marshal(content{r, crc32.Checksum(b, castagnoli)})
	}
	return append(b, '\n'), err
}

// Path returns the path of a data directory's record.
func Path(dataDir string) string { return filepath.Join(dataDir, "member.json") }

// restoreHint tells an operator what to do about a damaged record.
const restoreHint = "restore the data directory from a backup, or give this server an empty one if other servers have the state"

// Read returns the record of a data directory, nil if there is none. The error for a
// damaged record names the file.
func Read(dataDir string) (*Record, error) {
	path := Path(dataDir)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c content
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: %s", path, err, restoreHint)
	}
	// The bytes must be exactly those that encode writes.
	if written, err := c.Record.encode(); err != nil || !bytes.Equal(b, written) {
		return nil, fmt.Errorf("%s is damaged: it does not have its checksum: %s", path, restoreHint)
	}
	return &c.Record, nil
}

// Write writes the record of a data directory and syncs it to disk.
func Write(dataDir string, r Record) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(Path(dataDir), b); err != nil {
		return fmt.Errorf("%s can't be written: %w", Path(dataDir), err)
	}
	return nil
}
