package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// fileServerID holds the id under which the other servers know this one.
const fileServerID = "server-id"

// identify finds out which server this directory is of, and of which cluster. A
// server gets an id only with a directory in which nothing has been: with
// another id it would not be the voter that its log says, and under its old one
// without its log it could undo what it has agreed to.
func (s *Server) identify() error {
	path := filepath.Join(s.dir.path, fileServerID)
	record, err := raftlog.ReadMembership(s.dir.path)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	minted := err != nil
	if minted {
		if err := s.mint(record); err != nil {
			return err
		}
	} else if s.id = strings.TrimSpace(string(b)); !structs.IsID(s.id) {
		return fmt.Errorf("%s does not hold a UUID: restore it from a backup%s", path, hintOf(record))
	}
	used := raftlog.Used(s.dir.path)
	switch {
	case minted:
	case record != nil && record.ServerID != s.id:
		return fmt.Errorf("%s holds %s, but this directory is of another server: restore the file from a backup%s", path, s.id, hintOf(record))
	case record == nil && !used:
		return fmt.Errorf("%s names this server, but %s and the log in %s are gone: %s", path, raftlog.MembershipFile(s.dir.path), filepath.Join(s.dir.path, "raft"), emptyHint(s.dir.path))
	}
	if s.founding, err = openFounding(s.dir, s.BootstrapExpect, s.log); err != nil {
		return err
	}
	if id := s.founding.clusterID; record != nil && id != "" && record.ClusterID != "" && id != record.ClusterID {
		return fmt.Errorf("%s holds %s, but %s says that this server belongs to cluster %s: restore the file that is wrong from a backup",
			filepath.Join(s.dir.path, fileClusterID), id, raftlog.MembershipFile(s.dir.path), record.ClusterID)
	}
	return nil
}

// mint gives this server an id, if nothing was ever in its directory. The record
// is there before the id: so an id without one is never new.
func (s *Server) mint(record *raftlog.Membership) error {
	path := filepath.Join(s.dir.path, fileServerID)
	began := raftlog.Used(s.dir.path)
	for _, name := range []string{fileClusterID, fileFounding} {
		if _, err := os.Stat(filepath.Join(s.dir.path, name)); err == nil {
			began = true
		}
	}
	if began || record != nil && record.Begun() {
		return fmt.Errorf("%s is gone, and a server with state must not start under another id: restore the file from a backup%s", path, hintOf(record))
	}
	minted := structs.NewID()
	if record != nil { // stopped before it could write the id
		minted = record.ServerID
	} else if err := raftlog.WriteMembership(s.dir.path, raftlog.Membership{ServerID: minted}); err != nil {
		return err
	}
	var err error
	s.id, err = s.dir.keep(fileServerID, func() string { return minted })
	return err
}

// hintOf says what a damaged server-id should hold, if that is known.
func hintOf(record *raftlog.Membership) string {
	if record == nil {
		return ""
	}
	return ", or write " + record.ServerID + " into it"
}

// emptyHint is the way out of a directory whose state is gone.
func emptyHint(dir string) string {
	return fmt.Sprintf("restore %s from a backup, or start with an empty data directory, which makes a new server. "+
		"If it is the only one, that is a new cluster, which agents do not follow: restore a saved snapshot into it (magnum operator snapshot restore). "+
		"If it is one of several, take the old one out first (magnum operator raft remove-peer), and let the new one -join", dir)
}

// checkState refuses to make a cluster of this server alone where there has been
// another one: it would be an empty one with the old one's name, for which agents would
// remove what they run.
func (s *Server) checkState() error {
	if s.BootstrapExpect != 1 {
		return nil
	}
	path := filepath.Join(s.dir.path, "raft")
	if !s.raft.HasState() {
		file, id := fileClusterID, s.founding.clusterID
		if id == "" {
			file, id = fileFounding, s.founding.given()
		}
		if id == "" {
			return nil
		}
		return fmt.Errorf("%s holds no state, but %s says that this server is one of cluster %s: if that has other servers, start this one with their -bootstrap-expect and -join; else %s",
			path, filepath.Join(s.dir.path, file), id, emptyHint(s.dir.path))
	}
	peers, err := s.raft.Peers()
	if err == nil && len(peers) == 0 {
		return fmt.Errorf("%s holds a term or a vote, but no cluster: if this is one of several servers, start it with their -bootstrap-expect and -join; else %s", path, emptyHint(s.dir.path))
	}
	return err
}
