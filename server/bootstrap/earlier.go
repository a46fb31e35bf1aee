package bootstrap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// The files in which an earlier build keeps the content of memberfile.Record.
const (
	earlierServerID   = "server-id"
	earlierClusterID  = "cluster-id"
	earlierFounding   = "founding"
	earlierMembership = "membership"
)

var earlierFiles = []string{earlierServerID, earlierClusterID, earlierFounding, earlierMembership}

// earlier is the content of those files that exist, by name.
type earlier map[string][]byte

func readEarlier(dataDir string) (earlier, error) {
	e := make(earlier)
	for _, name := range earlierFiles {
		b, err := os.ReadFile(filepath.Join(dataDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e[name] = b
	}
	return e, nil
}

// text returns the content of a one-line file, "" if there is none.
func (e earlier) text(name string) string { return strings.TrimSpace(string(e[name])) }

// membership is the content of the file of that name: what the log must hold.
type membership struct {
	ServerID  string           `json:"server_id"`
	ClusterID string           `json:"cluster_id,omitempty"`
	Voted     bool             `json:"voted,omitempty"`
	Stored    bool             `json:"stored,omitempty"`
	Place     memberfile.Place `json:"place,omitzero"`
}

func (m membership) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil {
		b, err = json.Marshal(struct {
			membership
			Sum uint32 `json:"crc32c"` // of the JSON of membership
		}{m, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))})
	}
	return append(b, '\n'), err
}

// membership returns the content of the file of that name, nil if there is none.
func (e earlier) membership(dataDir string) (*membership, error) {
	b, ok := e[earlierMembership]
	if !ok {
		return nil, nil
	}
	const hint = "restore the data directory from a backup, or give this server an empty one if other servers have the state"
	path := filepath.Join(dataDir, earlierMembership)
	m := new(membership)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: %s", path, err, hint)
	}
	// The bytes must be exactly those that encode writes.
	if written, err := m.encode(); err != nil || !bytes.Equal(b, written) {
		return nil, fmt.Errorf("%s is damaged: it does not have its checksum: %s", path, hint)
	}
	return m, nil
}

// record returns the record that the files make up. It refuses if a file is damaged, if a
// required file is missing, or if two files contradict each other.
func (e earlier) record(dataDir string) (r memberfile.Record, err error) {
	m, err := e.membership(dataDir)
	if err != nil {
		return r, err
	}
	hint := ""
	if m != nil {
		hint = ", or write " + m.ServerID + " into it"
	}
	used := raftlog.Used(dataDir)
	path := filepath.Join(dataDir, earlierServerID)
	switch _, ok := e[earlierServerID]; {
	case !ok && (used || e[earlierClusterID] != nil || e[earlierFounding] != nil || m.begun()):
		return r, fmt.Errorf("%s is missing, and a server with state must not start under another id: restore the file from a backup%s",
			path, hint)
	case !ok: // the server stopped before it could write its ID
		r.ServerID = m.ServerID
	case !structs.IsID(e.text(earlierServerID)):
		return r, fmt.Errorf("%s does not hold a UUID: restore it from a backup%s", path, hint)
	default:
		r.ServerID = e.text(earlierServerID)
	}
	if m != nil && m.ServerID != r.ServerID {
		return r, fmt.Errorf("%s holds %s, but this directory belongs to another server: restore the file from a backup%s",
			path, r.ServerID, hint)
	}
	if m == nil && !used {
		return r, fmt.Errorf("%s names this server, but %s and the log in %s are missing: %s",
			path, filepath.Join(dataDir, earlierMembership), filepath.Join(dataDir, "raft"), emptyHint(dataDir))
	}
	path = filepath.Join(dataDir, earlierClusterID)
	r.ClusterID = e.text(earlierClusterID)
	if e[earlierClusterID] != nil && !structs.IsID(r.ClusterID) {
		return r, fmt.Errorf("%s does not hold a UUID: restore it from a backup", path)
	}
	if m != nil {
		if m.ClusterID != "" && r.ClusterID != "" && m.ClusterID != r.ClusterID {
			return r, fmt.Errorf("%s holds %s, but %s says that this server belongs to cluster %s: restore the wrong file from a backup",
				path, r.ClusterID, filepath.Join(dataDir, earlierMembership), m.ClusterID)
		}
		r.ClusterID = cmp.Or(r.ClusterID, m.ClusterID)
		r.Voted, r.Stored, r.Place = m.Voted, m.Stored, m.Place
	}
	return r, e.grants(dataDir, &r)
}

func (m *membership) begun() bool { return m != nil && (m.Voted || m.Stored) }

// grants adds the server's grant and abandoned clusters to the record.
func (e earlier) grants(dataDir string, r *memberfile.Record) error {
	b, ok := e[earlierFounding]
	if !ok {
		return nil
	}
	var f struct {
		Given   *structs.PeerGrant `json:"given"`
		Asks    bool               `json:"asks"`
		GivenUp []string           `json:"given_up"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		path := filepath.Join(dataDir, earlierFounding)
		return fmt.Errorf("%s can't be decoded: %w: remove it if this server takes part in no bootstrap", path, err)
	}
	r.Grant, r.Proposes, r.Abandoned = f.Given, f.Asks, f.GivenUp
	return nil
}

// checkAgainst refuses files of an earlier build that name another server or cluster than
// the record. Files beside a record remain if the server was killed during Migrate.
func (e earlier) checkAgainst(dataDir string, r memberfile.Record) error {
	for name, want := range map[string]string{earlierServerID: r.ServerID, earlierClusterID: r.ClusterID} {
		if is := e.text(name); is != "" && is != want {
			path := filepath.Join(dataDir, name)
			return fmt.Errorf("%s holds %s, but %s says %q: an earlier magnum has used this directory since. "+
				"Restore the data directory from a backup, or remove the wrong file", path, is, memberfile.Path(dataDir), want)
		}
	}
	return nil
}

// Migrate writes the record, if it isn't on disk yet, and removes the files in which an
// earlier build keeps its content. Without them the earlier build refuses to start on the
// directory. Call Migrate when all other checks of the start have passed. The process may
// be killed at any point during it.
func Migrate(dataDir string, f *memberfile.File) error {
	if err := f.Update(func(*memberfile.Record) {}); err != nil {
		return err
	}
	removed := false
	for _, name := range earlierFiles {
		err := os.Remove(filepath.Join(dataDir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return atomicfile.SyncDir(dataDir)
}
