package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// InspectSnapshot reads and checks a whole snapshot file and returns its summary.
func InspectSnapshot(r io.Reader) (structs.Snapshot, error) { return state.Inspect(r) }

// Save writes the state s as a snapshot file.
func (o operations) Save(w io.Writer, s *state.Snapshot) error {
	head := structs.SnapshotHead{Term: o.s.raft.Term(), SavedAt: structs.Time{Time: time.Now()}, SavedBy: o.s.config.Name,
		Version: o.s.config.Version}
	return state.WriteArchive(w, head, s)
}

// PeerSecret returns the secret that servers of the cluster share.
func (o operations) PeerSecret() string { return o.s.peerSecret() }

// Restore replaces the state of all servers by that of a snapshot file. The whole file
// is read and checked first; nothing changes before that. keep keeps the cluster ID
// that the servers have now.
//
// The new state gets an index above all earlier ones and an incarnation above both
// states', so agents know that changes which they have seen may be gone. The servers
// themselves don't change: the peer secret, the join token they were started with, and
// the removed servers are not taken from the snapshot.
func (o operations) Restore(ctx context.Context, file io.Reader, keep bool) (restored structs.RestoredBody, err error) {
	if !o.s.raft.IsLeader() {
		return restored, structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	}
	if !o.s.restoring.TryLock() {
		return restored, structs.Errorf(structs.CodeConflict, "another restore is under way: wait until it has ended")
	}
	defer o.s.restoring.Unlock()
	if err := o.s.space.room(); err != nil {
		return restored, err
	}
	upload, err := o.scratch()
	if err != nil {
		return restored, err
	}
	defer upload.Close()
	if _, err := io.Copy(upload, file); err != nil {
		if errors.Is(err, errScratch) {
			return restored, err
		}
		return restored, structs.Errorf(structs.CodeInvalid, "the snapshot ended early, and nothing was restored: %w", err)
	}
	info, err := o.acceptable(upload)
	if err != nil {
		return restored, err
	}
	stream, err := o.scratch()
	if err != nil {
		return restored, err
	}
	defer stream.Close()
	o.s.log.Warn("restoring a snapshot for an operator", "index", info.Index, "cluster_id", info.ClusterID, "incarnation", info.Incarnation)
	started, err := o.s.raft.Restore(ctx, info.Index, func(index uint64) (int64, io.Reader, error) {
		now := o.s.store.Snapshot()
		if _, err := upload.Seek(0, io.SeekStart); err != nil {
			return 0, nil, err
		}
		next, err := state.RestoreInto(upload, now, index, func(c *structs.Cluster) { restoreClusterRow(c, now.Cluster(), keep) })
		if err != nil {
			return 0, nil, err
		}
		if err := state.PersistSnapshot(next, stream); err != nil {
			return 0, nil, err
		}
		size, err := stream.Seek(0, io.SeekCurrent)
		if err == nil {
			_, err = stream.Seek(0, io.SeekStart)
		}
		restored = structs.RestoredBody{Index: index, ClusterID: next.Cluster().ClusterID, Incarnation: next.Cluster().Incarnation}
		return size, stream, err
	})
	switch {
	case err == nil:
		o.s.log.Warn("the state was restored from a snapshot", "index", restored.Index, "cluster_id", restored.ClusterID, "incarnation",
			restored.Incarnation)
		return restored, nil
	case started:
		return restored, structs.Errorf(structs.CodeNoLeader,
			"leadership was lost while the snapshot was being restored: see whether its objects are there, and restore it again if not "+
				"(%w, %w)", err, conductor.ErrUnknown)
	}
	return restored, err
}

// restoreClusterRow turns the cluster's row of a snapshot, saved, into that of the
// servers that restore it; now is their current row, nil if there is none. With keep
// the cluster ID stays, so agents still know the cluster.
func restoreClusterRow(saved, now *structs.Cluster, keep bool) {
	saved.Incarnation++
	if now == nil {
		return
	}
	saved.Incarnation = max(saved.Incarnation, now.Incarnation+1)
	if keep {
		saved.ClusterID = now.ClusterID
	}
	if now.JoinTokenHash != "" {
		saved.JoinTokenHash = now.JoinTokenHash
	}
	if now.PeerSecret != "" {
		saved.PeerSecret = now.PeerSecret
	}
	saved.Schema, saved.Removed = now.Schema, now.Removed
	saved.Bootstrapped = saved.Bootstrapped || now.Bootstrapped
}

// awaitSchema returns the schema in use. If this server understands the wanted schema,
// it waits up to two schemaTicks for it: the leader of a new cluster may not yet know
// what the other servers understand.
func (s *Server) awaitSchema(want int) (inUse int) {
	for until := time.Now().Add(2 * schemaTick); ; time.Sleep(schemaTick / 20) {
		inUse = s.store.Snapshot().Cluster().SchemaInUse()
		if inUse >= want || s.config.schema < want || s.config.Solo || time.Now().After(until) {
			return inUse
		}
	}
}

// acceptable checks the whole file, and whether this cluster can restore it. Errors:
// CodeInvalid, CodeConflict, CodeNoSpace.
func (o operations) acceptable(upload *scratch) (info structs.Snapshot, err error) {
	if _, err := upload.Seek(0, io.SeekStart); err != nil {
		return info, err
	}
	if info, err = state.Inspect(upload); err != nil {
		return info, structs.Errorf(structs.CodeInvalid, "Nothing was restored: %s.", err)
	}
	inUse := o.s.awaitSchema(info.Schema)
	free, err := o.s.space.free(o.s.config.DataDir)
	switch {
	case err != nil:
		return info, err
	case info.ClusterID == "":
		return info, structs.Errorf(structs.CodeInvalid, "Nothing was restored: the snapshot holds no cluster.")
	case info.Schema > inUse:
		return info, structs.Errorf(structs.CodeConflict,
			"the snapshot is of schema %d, and not all servers understand it yet (schema %d is in use): run the newer version on all "+
				"of them first", info.Schema, inUse)
	case o.s.config.Auth == authToken && o.s.keystone == nil && info.AdminTokens == 0:
		return info, structs.Errorf(structs.CodeConflict,
			"the snapshot holds no admin token, and after the restore nobody could operate the servers: start them with -auth none on "+
				"loopback, restore it there and make one with token-create -role admin")
	case free < reserve+2*info.Size: // the stream made from it, and Raft's own copy
		return info, structs.Errorf(structs.CodeNoSpace,
			"the server's disk has %d MiB left, and restoring a snapshot of %d MiB takes three times as much beside the %d MiB that "+
				"are kept back", free>>20, info.Size>>20, reserve>>20)
	}
	return info, nil
}

// scratch is an unnamed file on the data directory's disk. Nothing is left behind,
// however this process ends.
type scratch struct{ file *os.File }

// errScratch is in the chain of errors of the scratch file's disk.
var errScratch = errors.New("the server's disk")

func (o operations) scratch() (*scratch, error) {
	f, err := os.CreateTemp(o.s.dir.path, "restore-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &scratch{f}, nil
}

// Write writes at the current offset. Errors are CodeNoSpace.
func (s *scratch) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	if err != nil {
		return n, structs.Errorf(structs.CodeNoSpace, "the server could not keep the snapshot, and nothing was restored: %w",
			fmt.Errorf("%w: %w", errScratch, err))
	}
	return n, nil
}

// Read reads at the current offset.
func (s *scratch) Read(p []byte) (int, error) { return s.file.Read(p) }

// Seek sets the offset of Read and Write.
func (s *scratch) Seek(offset int64, whence int) (int64, error) { return s.file.Seek(offset, whence) }

// Close frees the file's space.
func (s *scratch) Close() error { return s.file.Close() }
