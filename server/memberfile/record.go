// Package memberfile keeps the record of which server a data directory is of: its id,
// its cluster, what it has granted to a cluster that is being made, and what has to
// be in its log. The record is one file, written as a whole or not at all. Packages
// bootstrap and raftlog read and change it; it knows neither.
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

// Record says which server a data directory is of. A server that has promised
// anything to others under its id, a grant, a vote or an entry, must never come back
// under that id without it: it could vote twice in a term, or make a majority that
// lacks acknowledged entries.
type Record struct {
	ServerID  string `json:"server_id"`            // under which the other servers know it; minted at the first start
	ClusterID string `json:"cluster_id,omitempty"` // that it belongs to, "" while to none
	Voted     bool   `json:"voted,omitempty"`      // there is a term or a vote on which others may rely
	Stored    bool   `json:"stored,omitempty"`     // there are entries, or a snapshot
	Place     Place  `json:"place,omitzero"`       // of the log, when it was opened last; zero if it never was

	// Grant is the cluster to which this server has given its grant while that is
	// being made; nil if none.
	Grant *structs.PeerGrant `json:"grant,omitempty"`
	// Proposes is set if it is this server that makes the cluster of Grant.
	Proposes bool `json:"proposes,omitempty"`
	// Abandoned are the ids of clusters that this server has proposed and will never
	// make, the last MaxAbandoned of them.
	Abandoned []string `json:"abandoned,omitempty"`
}

// MaxAbandoned bounds Record.Abandoned.
const MaxAbandoned = 16

// Begun reports whether anything has to be in the log.
func (r Record) Begun() bool { return r.Voted || r.Stored }

// Place is where a server's log is. A log at another place is a copy of it, which
// may be older than what the server has acknowledged since.
type Place struct {
	Dir  fileid.ID `json:"dir"`  // raft/
	File fileid.ID `json:"file"` // raft/raft.db
	// Next is the file that is about to take the place of raft.db by being renamed,
	// which keeps its ID.
	Next fileid.ID `json:"next,omitzero"`
}

// Holds reports whether a log that is now at the other place is the one that was
// here.
func (p Place) Holds(now Place) bool {
	return now.Dir.Is(p.Dir) && (now.File.Is(p.File) || p.Next != fileid.ID{} && now.File.Is(p.Next))
}

// content is what the file holds, one line of JSON.
type content struct {
	Record
	Sum uint32 `json:"crc32c"` // of the JSON of Record
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r Record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err == nil {
		b, err = json.Marshal(content{r, crc32.Checksum(b, castagnoli)})
	}
	return append(b, '\n'), err
}

// Path is where the record of a data directory is.
func Path(dataDir string) string { return filepath.Join(dataDir, "member.json") }

// restoreHint is the way out of a damaged record.
const restoreHint = "restore the data directory from a backup, or give this server an empty one if other servers have the state"

// Read returns the record of a data directory, nil if there is none. The error about
// a damaged one names the file.
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
	// It is exactly what was written, or some of it is not.
	if whole, err := c.Record.encode(); err != nil || !bytes.Equal(b, whole) {
		return nil, fmt.Errorf("%s is damaged: it does not have its checksum: %s", path, restoreHint)
	}
	return &c.Record, nil
}

// Write makes the record of a data directory, durably.
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
