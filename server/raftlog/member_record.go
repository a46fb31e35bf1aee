package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/stackforge/magnum/server/memberfile"
)

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

// Touched reports whether anything at all is where the log of a data directory is.
func Touched(dataDir string) (bool, error) {
	files, err := os.ReadDir(Config{DataDir: dataDir}.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(files) > 0, err
}

// membership is the record of the server, in which the log notes what has to be in it.
type memberRecord struct {
	*memberfile.File
	serverID string
	done     atomic.Bool // Voted and Stored are both noted
}

// openMemberRecord looks at the record. Before anything else is opened it is known
// from it that the log's directory has to be there.
func openMemberRecord(c Config) (m *memberRecord, err error) {
	m = &memberRecord{File: c.Member, serverID: c.ServerID}
	if m.File == nil {
		if m.File, err = memberfile.Open(c.DataDir); err != nil {
			return nil, err
		}
	}
	kept := m.Now()
	if kept.ServerID != "" && kept.ServerID != c.ServerID {
		return nil, fmt.Errorf("%s says that %s is of server %s, not of %s: %s", m.Path(), c.dir(), kept.ServerID, c.ServerID, restoreHint)
	}
	if _, err := os.Stat(c.dir()); kept.Begun() && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is gone: %s", c.dir(), c.lostHint())
	}
	return m, nil
}

// note changes the record, durably, if it isn't so already.
func (m *memberRecord) note(change func(*memberfile.Record)) error {
	err := m.Update(func(r *memberfile.Record) {
		r.ServerID = m.serverID
		change(r)
	})
	if err == nil {
		now := m.Now()
		m.done.Store(now.Voted && now.Stored)
	}
	return err
}

// voted notes that there is a term or a vote, before anybody relies on it.
func (m *memberRecord) voted() error {
	if m.done.Load() {
		return nil
	}
	return m.note(func(r *memberfile.Record) { r.Voted = true })
}

// stored notes that there are entries, before anybody relies on them.
func (m *memberRecord) stored() error {
	if m.done.Load() {
		return nil
	}
	return m.note(func(r *memberfile.Record) { r.Stored = true })
}

// lostHint is the way out for a server that has lost what it had promised.
func (c Config) lostHint() string {
	return fmt.Sprintf("%s says that this server has had state there, so it does not start without: restore %s from a backup. "+
		"If other servers have the state, take this one out (magnum operator raft remove-peer %s) and start it with an empty data directory and -join. "+
		"If none has, an empty data directory makes a new cluster, which agents do not follow: restore a saved snapshot into it (magnum operator snapshot restore)",
		memberfile.Path(c.DataDir), c.DataDir, c.ServerID)
}

// The keys of the library in the stable store.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

// checkMemberRecord checks that all is there that the record says. snapshot is the
// index of the newest one.
func (fl *files) checkMemberRecord(f LogFacts, snapshot uint64) error {
	m := fl.member.Now()
	if m.Stored && f.Last == 0 && snapshot == 0 {
		return fmt.Errorf("%s and %s hold no entries: %s", fl.config.storeFile(), fl.config.snapshotsDir(), fl.config.lostHint())
	}
	if m.Voted && len(f.Values) == 0 {
		return fmt.Errorf("%s holds no term: %s", fl.config.storeFile(), fl.config.lostHint())
	}
	return nil
}

// forgetBootstrap has a server that was stopped in the middle of Bootstrap begin
// again. The library writes a term of 1, and then the entry; of that term there
// is never a vote or another entry.
func (fl *files) forgetBootstrap(f *LogFacts, snapshot uint64) error {
	if f.Last > 0 || snapshot > 0 || fl.member.Now().Begun() || len(f.Values) != 1 {
		return nil
	}
	if term, ok := f.number(keyCurrentTerm); !ok || term != 1 {
		return nil
	}
	f.Values = nil
	return makeStore(fl.config.storeFile()) // in the place of the other
}

// completeMemberRecord writes what the files say, if the record doesn't have it:
// this server was stopped in between. The other way round it is the id of the
// cluster that may be missing.
func (fl *files) completeMemberRecord(f LogFacts, snapshot uint64) error {
	err := fl.member.note(func(r *memberfile.Record) {
		if fl.clusterID.Get() != "" {
			r.ClusterID = fl.clusterID.Get()
		}
		r.Voted = r.Voted || len(f.Values) > 0
		r.Stored = r.Stored || f.Last > 0 || snapshot > 0
	})
	if id := fl.member.Now().ClusterID; err == nil && id != "" && fl.clusterID.Get() == "" {
		return fl.clusterID.Accept(id)
	}
	return err
}

// keepCluster keeps the id of the cluster that has taken this server in.
func (fl *files) keepCluster(id string) error {
	if err := fl.config.KeepClusterID(id); err != nil {
		return err
	}
	return fl.member.note(func(r *memberfile.Record) { r.ClusterID = id })
}
