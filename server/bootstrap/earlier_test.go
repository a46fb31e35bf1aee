package bootstrap

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/structs"
)

const (
	serverID  = "11111111-1111-4111-8111-111111111111"
	clusterID = "22222222-2222-4222-8222-222222222222"
)

// earlierDir returns a data directory with the files of an earlier build. m is the content
// of the file membership; nil leaves it out.
func earlierDir(t *testing.T, files map[string]string, m *membership) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if m != nil {
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		files[earlierMembership] = string(b)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestEarlierFilesAreMigrated: the files are read as the earlier build would read them,
// also those of its first moments and those with a grant.
func TestEarlierFilesAreMigrated(t *testing.T) {
	grant := structs.PeerGrant{ClusterID: clusterID, Voters: []structs.PeerVoter{{ID: serverID, RaftAddr: "192.0.2.1:9512"}}}
	founding, err := json.Marshal(map[string]any{"given": grant, "asks": true, "given_up": []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	place := memberfile.Place{}
	place.Dir.Inode, place.File.Inode = 1, 2
	for name, c := range map[string]struct {
		files map[string]string
		m     *membership
		want  memberfile.Record
	}{
		"an id that was not written yet": {map[string]string{}, &membership{ServerID: serverID}, memberfile.Record{ServerID: serverID}},
		"an id": {
			map[string]string{"server-id": serverID + "\n"},
			&membership{ServerID: serverID}, memberfile.Record{ServerID: serverID},
		},
		"a grant": {map[string]string{"server-id": serverID + "\n", "founding": string(founding)}, &membership{ServerID: serverID},
			memberfile.Record{ServerID: serverID, Grant: &grant, Proposes: true, Abandoned: []string{"a", "b"}}},
		"a cluster": {
			map[string]string{"server-id": serverID, "cluster-id": clusterID},
			&membership{ServerID: serverID, Voted: true, Stored: true, Place: place},
			memberfile.Record{ServerID: serverID, ClusterID: clusterID, Voted: true, Stored: true, Place: place},
		},
		"a cluster that only the record has": {
			map[string]string{"server-id": serverID},
			&membership{ServerID: serverID, ClusterID: clusterID}, memberfile.Record{ServerID: serverID, ClusterID: clusterID},
		},
		"a log without a record": {
			map[string]string{"server-id": serverID, "raft/raft.db": ""}, nil, memberfile.Record{ServerID: serverID},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := earlierDir(t, c.files, c.m)
			f, err := Open(dir)
			if err != nil || !reflect.DeepEqual(f.Now(), c.want) {
				t.Fatalf("Open returns %+v, %v, want %+v", f, err, c.want)
			}
			if r, err := memberfile.Read(dir); r != nil || err != nil {
				t.Errorf("Open has written the record %+v, %v", r, err)
			}
			for range 2 {
				if err := Migrate(dir, f); err != nil {
					t.Fatal(err)
				}
				if f, err = Open(dir); err != nil || !reflect.DeepEqual(f.Now(), c.want) {
					t.Errorf("after Migrate Open returns %+v, %v, want %+v", f, err, c.want)
				}
				for _, name := range earlierFiles {
					if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
						t.Errorf("%s still exists", name)
					}
				}
			}
		})
	}
}

// TestInvalidEarlierFilesAreRefused: the error about damaged, contradictory or incomplete
// files names the file and what to do.
func TestInvalidEarlierFilesAreRefused(t *testing.T) {
	other := "33333333-3333-4333-8333-333333333333"
	is := &membership{ServerID: serverID}
	damaged, err := (&membership{ServerID: serverID, Voted: true}).encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files map[string]string
		m     *membership
		says  []string
	}{
		"no id, though it has voted": {
			map[string]string{}, &membership{ServerID: serverID, Voted: true}, []string{"server-id", "backup", "write " + serverID},
		},
		"no id, though it has entries": {
			map[string]string{}, &membership{ServerID: serverID, Stored: true}, []string{"server-id", "backup"},
		},
		"no id, though there is a cluster": {map[string]string{"cluster-id": clusterID}, nil, []string{"server-id", "backup"}},
		"no id, though there is a grant":   {map[string]string{"founding": "{}"}, is, []string{"server-id", "backup"}},
		"an empty id":                      {map[string]string{"server-id": ""}, nil, []string{"server-id", "backup"}},
		"another id":                       {map[string]string{"server-id": other}, is, []string{"server-id", other, "write " + serverID}},
		"no record and no log": {
			map[string]string{"server-id": serverID}, nil, []string{"server-id", "membership", "raft", "empty data directory"},
		},
		"another cluster": {
			map[string]string{"server-id": serverID, "cluster-id": clusterID},
			&membership{ServerID: serverID, ClusterID: other}, []string{"cluster-id", "membership", other},
		},
		"an invalid cluster id": {map[string]string{"server-id": serverID, "cluster-id": "x"}, is, []string{"cluster-id", "backup"}},
		"an invalid grant":      {map[string]string{"server-id": serverID, "founding": "{"}, is, []string{"founding"}},
		"a damaged record": {
			map[string]string{"server-id": serverID, "membership": strings.Replace(string(damaged), "voted", "stored", 1)}, nil,
			[]string{"membership", "damaged", "backup"},
		},
		"half a record": {
			map[string]string{"server-id": serverID, "membership": string(damaged[:20])}, nil, []string{"membership", "damaged", "backup"},
		},
		"only a log": {
			map[string]string{"raft/raft.db": ""}, nil, []string{"member.json", "raft", "backup", "empty data directory", "remove-peer"},
		},
		"only a file beside a log": {
			map[string]string{"raft/stored": ""}, nil, []string{"member.json", "raft", "backup", "empty data directory"},
		},
		"only an unknown file": {map[string]string{"raft/x": ""}, nil, []string{"member.json", "raft", "backup"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := earlierDir(t, c.files, c.m)
			_, err := Open(dir)
			if err == nil {
				t.Fatal("Open succeeded")
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not contain %q", err, word)
				}
			}
			if r, err := memberfile.Read(dir); r != nil || err != nil {
				t.Errorf("the refused start has written a record: %+v, %v", r, err)
			}
		})
	}
}
