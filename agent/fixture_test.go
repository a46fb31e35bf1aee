package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// earlier copies the data directory of an agent of an earlier build. See
// server/servertest/fixture/README.
func earlier(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/fixture")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asJSON returns the JSON fields of a value.
func asJSON(t *testing.T, v any) (fields map[string]any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// TestFixtureJournalIsRead: every field of an earlier build's journals is read.
// agent.journal is from a real agent; every line of all-fields.journal has every field
// set.
func TestFixtureJournalIsRead(t *testing.T) {
	for name, has := range map[string]struct{ records, kept, fields int }{
		"agent.journal":      {16, 2, 9},
		"all-fields.journal": {2, 1, 15},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(earlier(t), name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The last line about a thing counts.
			type saying struct{ Record, Kept, Seen map[string]any }
			records, kept, seen := make(map[string]map[string]any), make(map[string]map[string]any), map[string]any{}
			fields := make(map[string]bool)
			for line := range bytes.Lines(text) {
				var says saying
				_, body, _ := bytes.Cut(line, []byte(" "))
				if err := json.Unmarshal(body, &says); err != nil {
					t.Fatal(err)
				}
				switch {
				case says.Seen != nil:
					seen = says.Seen
				case says.Kept != nil:
					says.Kept["kind"] = "container" // that build knew of no others
					kept[says.Kept["id"].(string)] = says.Kept
				default:
					says.Record["kind"] = "container"
					records[says.Record["id"].(string)] = says.Record
				}
				for field := range says.Record {
					fields[field] = field != "kind"
				}
				delete(fields, "kind")
			}
			if len(records) != has.records || len(kept) != has.kept || len(fields) != has.fields {
				t.Fatalf("%d records, %d in quarantine, %d fields; want %+v: this says less than it should", len(records), len(kept),
					len(fields), has)
			}
			for range 2 { // opening rewrites the journal
				j := opened(t, path)
				if got := asJSON(t, j.position()); !reflect.DeepEqual(got, seen) {
					t.Errorf("it has seen %v, not %v", got, seen)
				}
				refs := j.refs()
				for _, ref := range refs {
					r, _ := j.record(ref)
					if got := asJSON(t, r); !reflect.DeepEqual(got, records[ref.ID]) {
						t.Errorf("the record is %v, not %v", got, records[ref.ID])
					}
				}
				if len(refs) != len(records) || len(j.allKept()) != len(kept) {
					t.Errorf("%d records and %d in quarantine, not %d and %d", len(refs), len(j.allKept()), len(records), len(kept))
				}
				for _, k := range j.allKept() {
					if got := asJSON(t, k); !reflect.DeepEqual(got, kept[k.ID]) {
						t.Errorf("in quarantine is %v, not %v", got, kept[k.ID])
					}
				}
				if err := j.close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestFixtureHostRecordIsRead: the agent stays the host that it was under an earlier
// build, with its secret and engine.
func TestFixtureHostRecordIsRead(t *testing.T) {
	path := earlier(t)
	d, err := openDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(bytes.TrimSpace(b))
	}
	if d.hostID != text(fileHost) || d.secret != text(fileSecret) || !structs.IsID(d.hostID) {
		t.Errorf("host %s with secret %s", d.hostID, d.secret)
	}
	if e := d.ownEngine(); e.ID == "" || e.Root != "/var/lib/docker" || e.Inode == 0 || e.Born.IsZero() {
		t.Errorf("the engine is %+v", e)
	}
}
