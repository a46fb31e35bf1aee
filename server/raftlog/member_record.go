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

// Used reports whether the data directory holds the log of some server.
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

// Touched reports whether the log's directory holds anything at all.
func Touched(dataDir string) (bool, error) {
	files, err := os.ReadDir(Config{DataDir: dataDir}.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(files) > 0, err
}

// memberRecord is the member record, in which the log notes what it must hold.
type memberRecord struct {
	*memberfile.File
	serverID string
	done     atomic.Bool // Voted and Stored are both set
}

// openMemberRecord opens the record and compares it with the log's directory. It runs
// before any other file is opened, because the record says whether the directory must
// exist.
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

// note changes the record durably. It writes only if the change makes a difference.
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

// voted notes durably that there is a term or a vote. It must come before anybody
// relies on them.
func (m *memberRecord) voted() error {
	if m.done.Load() {
		return nil
	}
	return m.note(func(r *memberfile.Record) { r.Voted = true })
}

// stored notes durably that there are entries. It must come before anybody relies on
// them.
func (m *memberRecord) stored() error {
	if m.done.Load() {
		return nil
	}
	return m.note(func(r *memberfile.Record) { r.Stored = true })
}

// lostHint says what an operator can do if the server has lost its log.
func (c Config) lostHint() string {
	return fmt.Sprintf("%s says that this server has had state there, so it does not start without it: restore %s from a backup. "+
		"If other servers have the state, take this one out (magnum operator raft remove-peer %s) and start it with an empty data "+
		"directory and -join. "+
		"If none has, an empty data directory makes a new cluster, which agents do not follow: restore a saved snapshot into it "+
		"(magnum operator snapshot restore)",
		memberfile.Path(c.DataDir), c.DataDir, c.ServerID)
}

// The library's keys in the stable store.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

// checkMemberRecord checks that everything in the record is there. snapshot is the
// index of the newest snapshot, 0 if there is none.
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

// forgetBootstrap lets a server repeat a Bootstrap that was interrupted. The library
// writes term 1 and then the first entry; term 1 never has a vote or another entry.
func (fl *files) forgetBootstrap(f *LogFacts, snapshot uint64) error {
	if f.Last > 0 || snapshot > 0 || fl.member.Now().Begun() || len(f.Values) != 1 {
		return nil
	}
	if term, ok := f.number(keyCurrentTerm); !ok || term != 1 {
		return nil
	}
	f.Values = nil
	return makeStore(fl.config.storeFile()) // replaces the existing file
}

// completeMemberRecord adds to the record what the files hold, in case this server was
// stopped between the two. The other way round, the cluster ID may be missing in the
// log and is taken from the record.
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

// keepCluster stores the ID of the cluster that adds this server.
func (fl *files) keepCluster(id string) error {
	if err := fl.config.KeepClusterID(id); err != nil {
		return err
	}
	return fl.member.note(func(r *memberfile.Record) { r.ClusterID = id })
}
