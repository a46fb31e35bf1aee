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

// here returns the place of the log as it is.
func (l *Log) here() (p memberfile.Place, err error) {
	dir, dirErr := fileid.Of(l.config.dir())
	file, fileErr := fileid.Of(l.config.storeFile())
	return memberfile.Place{Dir: dir, File: file}, errors.Join(dirErr, fileErr)
}

// begun reports whether there is anything in the log, as the record has it or the files.
func (l *Log) begun(f LogFacts, snapshot uint64) bool {
	return l.member.Now().Begun() || len(f.Values) > 0 || f.Last > 0 || snapshot > 0
}

// moved reports whether the log is at another place than when it was opened last. One
// in which nothing has begun can be nobody's copy.
func (l *Log) moved(begun bool) (bool, error) {
	now, err := l.here()
	kept := l.member.Now()
	return kept.Place != memberfile.Place{} && begun && !kept.Place.Holds(now), err
}

// checkPlace refuses a copy of the log of one of several servers: it may lack what
// the server has acknowledged, or votes that it gave, and the others would count on
// them. The only server of its cluster goes on from a copy: agents compare what they
// have followed with what it knows.
func (l *Log) checkPlace(f LogFacts, snapshot uint64) error {
	moved, err := l.moved(l.begun(f, snapshot))
	if err != nil {
		return err
	}
	var servers []raft.Server
	if moved {
		if servers, err = l.configured(); err != nil {
			return err
		}
	}
	switch {
	case !moved && l.config.Moved:
		l.config.Logger.Warn("the data directory has not moved: take -data-dir-moved out, for with it a copy that is put back is not noticed", "path", l.config.DataDir)
	case !moved:
	case l.config.Moved:
		l.config.Logger.Warn("the data directory was moved", "path", l.config.DataDir)
	case len(servers) > 1:
		return fmt.Errorf("%s is a copy of the directory that this server has written, or %s in it is: it may be older than what the server has promised to the others, so it does not start on it. "+
			"Have another server take this one out (magnum operator raft remove-peer %s), and start it with an empty data directory and -join. "+
			"If you have only moved the directory since the server has stopped, start it once with -data-dir-moved", l.config.dir(), l.config.storeFile(), l.config.ServerID)
	default:
		l.config.Logger.Warn("the data directory is a copy: what was acknowledged after the copy was made is not in it", "path", l.config.DataDir)
	}
	now, err := l.here()
	if err != nil {
		return err
	}
	return l.member.note(func(r *memberfile.Record) { r.Place = now })
}

// configured returns the servers of the newest configuration in the log, before Raft
// is started.
func (l *Log) configured() ([]raft.Server, error) {
	rc := l.config.raft()
	rc.NoSnapshotRestoreOnStart = true
	rc.Logger = hclog.NewNullLogger()
	_, nowhere := raft.NewInmemTransport("")
	conf, err := raft.GetConfiguration(rc, &fsm{state.New(), newAnnouncer()}, l.logs, unwritten{l.store}, l.snapshots, nowhere)
	if err != nil {
		return nil, fmt.Errorf("raft configuration in %s: %w", l.config.dir(), err)
	}
	return conf.Servers, nil
}

// unwritten is a stable store that is only read.
type unwritten struct{ raft.StableStore }

// Set does nothing.
func (unwritten) Set([]byte, []byte) error { return nil }

// SetUint64 does nothing.
func (unwritten) SetUint64([]byte, uint64) error { return nil }
