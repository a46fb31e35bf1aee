package bootstrap

import (
	"fmt"
	"path/filepath"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// Open finds out which server a data directory is of. A server gets an id only with
// a directory in which nothing has been: with another id it would not be the voter
// that its log says, and under its old one without its log it could undo what it has
// agreed to. A directory of an earlier build is read as it is; TakeOver follows.
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
	if err := earlier.agree(dataDir, r); err != nil {
		return nil, err
	}
	if !structs.IsID(r.ServerID) || r.ClusterID != "" && !structs.IsID(r.ClusterID) {
		return nil, fmt.Errorf("%s holds what is no UUID: restore it from a backup", f.Path())
	}
	return f, nil
}

// mint gives this server an id, if nothing was ever in its directory.
func mint(dataDir string, f *memberfile.File) error {
	touched, err := raftlog.Touched(dataDir)
	if err != nil {
		return err
	}
	if touched {
		return fmt.Errorf("%s is gone, but there is something in %s, and a server with state must not start under another id: restore the file from a backup; else %s",
			f.Path(), filepath.Join(dataDir, "raft"), emptyHint(dataDir))
	}
	return f.Update(func(r *memberfile.Record) { r.ServerID = structs.NewID() })
}

// emptyHint is the way out of a directory whose state is gone.
func emptyHint(dir string) string {
	return fmt.Sprintf("restore %s from a backup, or start with an empty data directory, which makes a new server. "+
		"If it is the only one, that is a new cluster, which agents do not follow: restore a saved snapshot into it (magnum operator snapshot restore). "+
		"If it is one of several, take the old one out first (magnum operator raft remove-peer), and let the new one -join", dir)
}

// log is what this package needs of the log.
type log interface {
	HasState() bool
	Self() raftlog.Peer
	Peers() ([]raftlog.Peer, error)
	ClusterID() string
	SpeakFor(clusterID string)
	Bootstrap(voters ...raftlog.Peer) error
	Join(clusterID string) error
}

// CheckAlone refuses to make a cluster of this server alone where there has been
// another one: it would be an empty one with the old one's name, for which agents
// would remove what they run.
func CheckAlone(dataDir string, r memberfile.Record, l log) error {
	path := filepath.Join(dataDir, "raft")
	if !l.HasState() {
		id := r.ClusterID
		if id == "" && r.Grant != nil {
			id = r.Grant.ClusterID
		}
		if id == "" {
			return nil
		}
		return fmt.Errorf("%s holds no state, but %s says that this server is one of cluster %s: if that has other servers, start this one with their -bootstrap-expect and -join; else %s",
			path, memberfile.Path(dataDir), id, emptyHint(dataDir))
	}
	peers, err := l.Peers()
	if err == nil && len(peers) == 0 {
		return fmt.Errorf("%s holds a term or a vote, but no cluster: if this is one of several servers, start it with their -bootstrap-expect and -join; else %s", path, emptyHint(dataDir))
	}
	return err
}
