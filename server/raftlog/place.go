package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/server/state"
)

// fileID tells a file or directory from a copy of it on the same machine. The zero
// fileID is of none.
type fileID struct {
	Inode uint64 `json:"inode"`
	Birth int64  `json:"birth,omitempty"` // when it was made, nanoseconds since 1970; 0 if the file system doesn't know
}

// is reports whether two fileIDs are of one file. A time of birth that only one of
// them has, as after an update of the kernel, tells nothing.
func (f fileID) is(o fileID) bool {
	return f.Inode == o.Inode && (f.Birth == o.Birth || f.Birth == 0 || o.Birth == 0)
}

// fileIDOf returns the fileID of a path. It tells nothing of an image of the whole
// disk.
func fileIDOf(path string) (fileID, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return fileID{}, fmt.Errorf("%s: %w", path, err)
	}
	id := fileID{Inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}

// place is where a server's log is. A log at another place is a copy of it, which
// may be older than what the server has acknowledged since.
type place struct {
	Dir  fileID `json:"dir"`  // raft/
	File fileID `json:"file"` // raft/raft.db
	// Next is the file that is about to take the place of raft.db by being renamed,
	// which keeps its fileID.
	Next fileID `json:"next,omitzero"`
}

// holds reports whether a log that is now at the other place is the one that was
// here.
func (p place) holds(now place) bool {
	return now.Dir.is(p.Dir) && (now.File.is(p.File) || p.Next != fileID{} && now.File.is(p.Next))
}

// here returns the place of the log as it is.
func (l *Log) here() (p place, err error) {
	dir, dirErr := fileIDOf(l.dir())
	file, fileErr := fileIDOf(l.storeFile())
	return place{Dir: dir, File: file}, errors.Join(dirErr, fileErr)
}

// moved reports whether the log is at another place than when it was opened last.
func (l *Log) moved() (bool, error) {
	now, err := l.here()
	kept := l.member.now
	return kept.Place != place{} && kept.Begun() && !kept.Place.holds(now), err
}

// checkPlace refuses a copy of the log of one of several servers: it may lack what
// the server has acknowledged, or votes that it gave, and the others would count on
// them. The only server of its cluster goes on from a copy: agents compare what they
// have followed with what it knows.
func (l *Log) checkPlace() error {
	moved, err := l.moved()
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
	case !moved && l.Moved:
		l.Logger.Warn("the data directory has not moved: take -data-dir-moved out, for with it a copy that is put back is not noticed", "path", l.DataDir)
	case !moved:
	case l.Moved:
		l.Logger.Warn("the data directory was moved", "path", l.DataDir)
	case len(servers) > 1:
		return fmt.Errorf("%s is a copy of the directory that this server has written, or %s in it is: it may be older than what the server has promised to the others, so it does not start on it. "+
			"Have another server take this one out (magnum operator raft remove-peer %s), and start it with an empty data directory and -join. "+
			"If you have only moved the directory since the server has stopped, start it once with -data-dir-moved", l.dir(), l.storeFile(), l.ServerID)
	default:
		l.Logger.Warn("the data directory is a copy: what was acknowledged after the copy was made is not in it", "path", l.DataDir)
	}
	now, err := l.here()
	if err != nil {
		return err
	}
	return l.member.note(func(m *Membership) { m.Place = now })
}

// configured returns the servers of the newest configuration in the log, before Raft
// is started.
func (l *Log) configured() ([]raft.Server, error) {
	rc := l.Config.raft()
	rc.NoSnapshotRestoreOnStart = true
	rc.Logger = hclog.NewNullLogger()
	_, nowhere := raft.NewInmemTransport("")
	conf, err := raft.GetConfiguration(rc, &fsm{state.New(), newAnnouncer()}, l.logs, unwritten{l.store}, l.snapshots, nowhere)
	if err != nil {
		return nil, fmt.Errorf("raft configuration in %s: %w", l.dir(), err)
	}
	return conf.Servers, nil
}

// unwritten is a stable store that is only read.
type unwritten struct{ raft.StableStore }

// Set does nothing.
func (unwritten) Set([]byte, []byte) error { return nil }

// SetUint64 does nothing.
func (unwritten) SetUint64([]byte, uint64) error { return nil }
