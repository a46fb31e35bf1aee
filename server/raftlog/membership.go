package raftlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/atomicfile"
)

// Membership is what stands beside the log's directory about what has to be in
// it. A server that has promised anything to others under its id, a vote or an
// entry, must never come back under that id without it: it could vote twice in a
// term, or make a majority that lacks acknowledged entries. Without the record
// a directory that was lost looks like one that has never been used.
type Membership struct {
	ServerID  string `json:"server_id"`
	ClusterID string `json:"cluster_id,omitempty"` // that it belongs to
	Voted     bool   `json:"voted,omitempty"`      // there is a term or a vote on which others may rely
	Stored    bool   `json:"stored,omitempty"`     // there are entries, or a snapshot
	Place     place  `json:"place,omitzero"`       // of the log, when it was opened last; zero in a record of an earlier magnum
}

// Begun reports whether anything has to be there.
func (m Membership) Begun() bool { return m.Voted || m.Stored }

// membershipRecord is the content of the file, one line of JSON.
type membershipRecord struct {
	Membership
	Sum uint32 `json:"crc32c"` // of the JSON of Membership
}

func (m Membership) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil {
		b, err = json.Marshal(membershipRecord{m, crc32.Checksum(b, castagnoli)})
	}
	return append(b, '\n'), err
}

// MembershipFile is where the record of a data directory is.
func MembershipFile(dataDir string) string { return filepath.Join(dataDir, "membership") }

// ReadMembership returns the record of a data directory, nil if there is none. A
// damaged one is an error that names the file.
func ReadMembership(dataDir string) (*Membership, error) {
	path := MembershipFile(dataDir)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r membershipRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: %s", path, err, restoreHint)
	}
	// It is exactly what was written, or some of it is not.
	if whole, err := r.Membership.encode(); err != nil || !bytes.Equal(b, whole) {
		return nil, fmt.Errorf("%s is damaged: it does not have its checksum: %s", path, restoreHint)
	}
	return &r.Membership, nil
}

// WriteMembership makes the record of a data directory, durably.
func WriteMembership(dataDir string, m Membership) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(MembershipFile(dataDir), b); err != nil {
		return fmt.Errorf("%s can't be written: %w", MembershipFile(dataDir), err)
	}
	return nil
}

// Used reports whether a log of some server is in the data directory.
func Used(dataDir string) bool {
	c := Config{DataDir: dataDir}
	for _, name := range append([]string{filepath.Base(c.storeFile())}, earlierFiles...) {
		if _, err := os.Lstat(filepath.Join(c.dir(), name)); err == nil {
			return true
		}
	}
	files, err := os.ReadDir(c.snapshotsDir())
	return err == nil && len(files) > 0
}

// membership keeps the record.
type membership struct {
	dir string

	mu   sync.Mutex
	now  Membership
	done atomic.Bool // Voted and Stored are both noted
}

// openMembership reads the record. Before anything else is opened it is known
// from it that the log's directory has to be there.
func openMembership(c Config) (*membership, error) {
	m := &membership{dir: c.DataDir}
	kept, err := ReadMembership(c.DataDir)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return m, nil
	}
	if kept.ServerID != c.ServerID {
		return nil, fmt.Errorf("%s says that %s is of server %s, not of %s: %s", MembershipFile(c.DataDir), c.dir(), kept.ServerID, c.ServerID, restoreHint)
	}
	m.now = *kept
	if _, err := os.Stat(c.dir()); kept.Begun() && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is gone: %s", c.dir(), c.lostHint())
	}
	return m, nil
}

// note changes the record, durably, if it isn't so already.
func (m *membership) note(change func(*Membership)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.now
	change(&next)
	if next != m.now {
		if err := WriteMembership(m.dir, next); err != nil {
			return err
		}
		m.now = next
	}
	m.done.Store(next.Voted && next.Stored)
	return nil
}

// voted notes that there is a term or a vote, before anybody relies on it.
func (m *membership) voted() error {
	if m.done.Load() {
		return nil
	}
	return m.note(func(m *Membership) { m.Voted = true })
}

// stored notes that there are entries, before anybody relies on them.
func (m *membership) stored() error {
	if m.done.Load() {
		return nil
	}
	return m.note(func(m *Membership) { m.Stored = true })
}

// lostHint is the way out for a server that has lost what it had promised.
func (c Config) lostHint() string {
	return fmt.Sprintf("%s says that this server has had state there, so it does not start without: restore %s from a backup. "+
		"If other servers have the state, take this one out (magnum operator raft remove-peer %s) and start it with an empty data directory and -join. "+
		"If none has, an empty data directory makes a new cluster, which agents do not follow: restore a saved snapshot into it (magnum operator snapshot restore)",
		MembershipFile(c.DataDir), c.DataDir, c.ServerID)
}

// The keys of the library in the stable store.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

// checkMembership checks that all is there that the record says. snapshot is the
// index of the newest one.
func (l *Log) checkMembership(f LogFacts, snapshot uint64) error {
	m := l.member.now
	if m.Stored && f.Last == 0 && snapshot == 0 {
		return fmt.Errorf("%s and %s hold no entries: %s", l.storeFile(), l.snapshotsDir(), l.lostHint())
	}
	if m.Voted && len(f.Values) == 0 {
		return fmt.Errorf("%s holds no term: %s", l.storeFile(), l.lostHint())
	}
	return nil
}

// forgetBootstrap has a server that was stopped in the middle of Bootstrap begin
// again. The library writes a term of 1, and then the entry; of that term there
// is never a vote or another entry.
func (l *Log) forgetBootstrap(f *LogFacts, snapshot uint64) error {
	if f.Last > 0 || snapshot > 0 || l.member.now.Begun() || len(f.Values) != 1 {
		return nil
	}
	if term, ok := f.number(keyCurrentTerm); !ok || term != 1 {
		return nil
	}
	f.Values = nil
	return makeStore(l.storeFile()) // in the place of the other
}

// completeMembership writes what the files say, if the record doesn't have it:
// this server was stopped in between. The other way round it is the id of the
// cluster that may be missing.
func (l *Log) completeMembership(f LogFacts, snapshot uint64) error {
	err := l.member.note(func(m *Membership) {
		m.ServerID = l.ServerID
		if l.ClusterID() != "" {
			m.ClusterID = l.ClusterID()
		}
		m.Voted = m.Voted || len(f.Values) > 0
		m.Stored = m.Stored || f.Last > 0 || snapshot > 0
	})
	if id := l.member.now.ClusterID; err == nil && id != "" && l.ClusterID() == "" {
		return l.identity.meet(id)
	}
	return err
}

// keepCluster keeps the id of the cluster that has taken this server in.
func (l *Log) keepCluster(id string) error {
	if err := l.KeepClusterID(id); err != nil {
		return err
	}
	return l.member.note(func(m *Membership) { m.ClusterID = id })
}
