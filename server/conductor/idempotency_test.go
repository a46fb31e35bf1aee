package conductor

import (
	"fmt"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// TestIdempotencyRowsNeverCollide: projects and keys are free text, and different pairs
// have different rows.
func TestIdempotencyRowsNeverCollide(t *testing.T) {
	parts := []string{"a", "b", "/", "a/", "/a", "a/b", "b/c", "a/b/c", "%", "%2F", "a%2Fb", "a%2fb", "a b", "a+b", "a\\", "ä", "a:b", "1",
		"..", "a/../b"}
	of := make(map[string]string)
	for _, project := range parts {
		for _, key := range parts {
			id, pair := Once{Key: key}.rowID(structs.Caller{ProjectID: project}), fmt.Sprintf("project %q key %q", project, key)
			if other := of[id]; other != "" {
				t.Errorf("%s and %s are both %q", other, pair, id)
			}
			of[id] = pair
		}
	}
}

// TestIdempotencyKeyOfAnotherProject: a key of one project never returns an object of
// another project, not even through a row of an earlier version.
func TestIdempotencyKeyOfAnotherProject(t *testing.T) {
	h := newHarness(t)
	caller := func(project string) structs.Caller {
		return structs.Caller{ProjectID: project, UserID: "u", Roles: []structs.Role{structs.RoleMember}}
	}
	create := func(project, key string) *structs.Container {
		return must(h, CreateContainer{Caller: caller(project), Once: Once{Key: key, BodyHash: "hash"},
			Spec: structs.ContainerSpec{Image: "i"}})
	}
	for _, project := range []string{"a", "a/b", "x", "x/y"} {
		h.bay(caller(project), "bay", 1)
	}
	theirs := create("a/b", "c")
	ours := create("a", "b/c")
	if ours.ID == theirs.ID || ours.ProjectID != "a" {
		t.Errorf("project a got container %s of project %s, which is project a/b's", ours.ID, ours.ProjectID)
	}
	if again := create("a/b", "c"); again.ID != theirs.ID {
		t.Error("a retry created a second container")
	}

	// The row that an earlier version wrote for project x/y and key z.
	old := create("x/y", "other")
	must(h, putRow{&structs.IdempotencyKey{
		Meta: structs.Meta{ID: "x/y/z", ProjectID: "x/y", CreatedAt: h.clock}, BodyHash: "hash", Result: structs.TableContainers,
		ResultID: old.ID,
	}})
	if ours := create("x", "y/z"); ours.ID == old.ID || ours.ProjectID != "x" {
		t.Errorf("project x got container %s of project %s", ours.ID, ours.ProjectID)
	}
}

// putRow writes a row unchanged.
type putRow struct{ row structs.Row }

func (r putRow) decide(t *scratch.Tx) (struct{}, error) {
	t.Put(r.row)
	return struct{}{}, nil
}
