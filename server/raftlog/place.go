package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stackforge/magnum/internal/fileid"
	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/state"
)

// currentPlace returns the log's present place.
func (fl *files) currentPlace() (p memberfile.Place, err error) {
	dir, dirErr := fileid.Of(fl.config.dir())
	file, fileErr := fileid.Of(fl.config.storeFile())
	return memberfile.Place{Dir: dir, File: file}, errors.Join(dirErr, fileErr)
}

// begun reports whether the log holds anything, by the member record or by the files.
func (fl *files) begun(f LogFacts, snapshot uint64) bool {
	return fl.member.Now().Begun() || len(f.Values) > 0 || f.Last > 0 || snapshot > 0
}

// moved reports whether the log's place differs from the one at the last start. A log
// that holds nothing can't be a copy.
func (fl *files) moved(begun bool) (bool, error) {
	now, err := fl.currentPlace()
	kept := fl.member.Now()
	return kept.Place != memberfile.Place{} && begun && !kept.Place.Holds(now), err
}

// checkPlace refuses a copy of the log of one of several servers. The copy may lack
// entries that the server has acknowledged, or its votes, and the other servers rely on
// both. The only server of a cluster may continue from a copy: agents compare the
// history that they have followed with the server's.
func (fl *files) checkPlace(f LogFacts, snapshot uint64) error {
	moved, err := fl.moved(fl.begun(f, snapshot))
	if err != nil {
		return err
	}
	var servers []raft.Server
	if moved {
		if servers, err = fl.configured(); err != nil {
			return err
		}
	}
	switch {
	case !moved && fl.config.Moved:
		fl.config.Logger.Warn("the data directory has not moved: remove -data-dir-moved, with which a copy that is put back is not "+
			"noticed", "path", fl.config.DataDir)
	case !moved:
	case fl.config.Moved:
		fl.config.Logger.Warn("the data directory was moved", "path", fl.config.DataDir)
	case len(servers) > 1:
		return fmt.Errorf("%s is a copy of the directory that this server has written, or %s in it is: it may be older than what the "+
			"server has promised to the others, so it does not start on it. "+
			"Have another server take this one out (magnum operator raft remove-peer %s), and start it with an empty data directory "+
			"and -join. "+
			"If you have only moved the directory since the server has stopped, start it once with -data-dir-moved",
			fl.config.dir(), fl.config.storeFile(), fl.config.ServerID)
	default:
		fl.config.Logger.Warn("the data directory is a copy: what was acknowledged after the copy was made is not in it", "path",
			fl.config.DataDir)
	}
	now, err := fl.currentPlace()
	if err != nil {
		return err
	}
	return fl.member.note(func(r *memberfile.Record) { r.Place = now })
}

// configured returns the newest membership in the log, before Raft is started.
func (fl *files) configured() ([]raft.Server, error) {
	rc := fl.config.raft()
	rc.NoSnapshotRestoreOnStart = true
	rc.Logger = hclog.NewNullLogger()
	_, nowhere := raft.NewInmemTransport("")
	conf, err := raft.GetConfiguration(rc, &fsm{state.New(), newAnnouncer()}, fl.logs, readOnlyStable{fl.store}, fl.snapshots, nowhere)
	if err != nil {
		return nil, fmt.Errorf("raft configuration in %s: %w", fl.config.dir(), err)
	}
	return conf.Servers, nil
}

// readOnlyStable is a stable store that drops writes.
type readOnlyStable struct{ raft.StableStore }

// Set does nothing.
func (readOnlyStable) Set([]byte, []byte) error { return nil }

// SetUint64 does nothing.
func (readOnlyStable) SetUint64([]byte, uint64) error { return nil }
