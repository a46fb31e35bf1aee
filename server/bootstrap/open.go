package bootstrap

import (
	"fmt"
	"path/filepath"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// Open determines which server a data directory belongs to. A new ID is minted only for a
// directory that was never used: under another ID the server would not be the voter that
// its log names, and under its old ID without its log it could break its promises. The
// files of an earlier build are read and left unchanged; the caller calls Migrate later.
func Open(dataDir string) (*memberfile.File, error) {
	f, err := memberfile.Open(dataDir)
	if err != nil {
		return nil, err
	}
	r := f.Now()
	earlier, err := readEarlier(dataDir)
	if err != nil {
		return nil, err
	}
	if r.ServerID == "" {
		if len(earlier) > 0 {
			if r, err = earlier.record(dataDir); err != nil {
				return nil, err
			}
			return memberfile.Unwritten(dataDir, r), nil
		}
		return f, mint(dataDir, f)
	}
	if err := earlier.checkAgainst(dataDir, r); err != nil {
		return nil, err
	}
	if !structs.IsID(r.ServerID) || r.ClusterID != "" && !structs.IsID(r.ClusterID) {
		return nil, fmt.Errorf("%s holds an invalid UUID: restore it from a backup", f.Path())
	}
	return f, nil
}

// mint records a new server ID, if the directory holds no log.
func mint(dataDir string, f *memberfile.File) error {
	touched, err := raftlog.Touched(dataDir)
	if err != nil {
		return err
	}
	if touched {
		return fmt.Errorf("%s is missing, but %s is not empty, and a server with state must not start under another id: "+
			"restore the file from a backup; otherwise %s", f.Path(), filepath.Join(dataDir, "raft"), emptyHint(dataDir))
	}
	return f.Update(func(r *memberfile.Record) { r.ServerID = structs.NewID() })
}

// emptyHint tells an operator what to do about a data directory that has lost its state.
func emptyHint(dir string) string {
	return fmt.Sprintf("restore %s from a backup, or start with an empty data directory, which makes a new server. "+
		"If it is the only one, that is a new cluster, which agents do not follow: "+
		"restore a saved snapshot into it (magnum operator snapshot restore). "+
		"If it is one of several, remove the old one first (magnum operator raft remove-peer), and let the new one -join", dir)
}

// raftLog is the part of raftlog.Log that this package uses.
type raftLog interface {
	HasState() bool
	Self() raftlog.Peer
	Peers() ([]raftlog.Peer, error)
	ClusterID() string
	SetProposed(clusterID string)
	Bootstrap(voters ...raftlog.Peer) error
	Join(clusterID string) error
}

// CheckAlone refuses to bootstrap a cluster of this server alone if the directory has
// belonged to another cluster: the new one would be empty under the old one's name, and
// agents would remove their containers.
func CheckAlone(dataDir string, r memberfile.Record, l raftLog) error {
	path := filepath.Join(dataDir, "raft")
	if !l.HasState() {
		id := r.ClusterID
		if id == "" && r.Grant != nil {
			id = r.Grant.ClusterID
		}
		if id == "" {
			return nil
		}
		return fmt.Errorf("%s holds no state, but %s says that this server belongs to cluster %s: "+
			"if that has other servers, start this one with their -bootstrap-expect and -join; otherwise %s",
			path, memberfile.Path(dataDir), id, emptyHint(dataDir))
	}
	peers, err := l.Peers()
	if err == nil && len(peers) == 0 {
		return fmt.Errorf("%s holds a term or a vote, but no cluster: if this is one of several servers, "+
			"start it with their -bootstrap-expect and -join; otherwise %s", path, emptyHint(dataDir))
	}
	return err
}
