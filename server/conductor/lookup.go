package conductor

import (
	"iter"
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// reader looks up identifiers: a snapshot or a batch's scratch view.
type reader interface {
	Get(table structs.Table, id string) structs.Row
	ByName(table structs.Table, projectID, name string) iter.Seq[structs.Row] // also of state.AllProjects
	SharedBays() iter.Seq[structs.Row]
}

// snapshotReader makes a snapshot a reader.
type snapshotReader struct{ snapshot *state.Snapshot }

func (s snapshotReader) Get(table structs.Table, id string) structs.Row {
	return s.snapshot.Get(table, id)
}

func (s snapshotReader) ByName(table structs.Table, projectID, name string) iter.Seq[structs.Row] {
	if projectID == state.AllProjects {
		return scratch.Named(s.snapshot.List(table, state.AllProjects, 0), name)
	}
	return s.snapshot.ByName(table, projectID, name)
}

func (s snapshotReader) SharedBays() iter.Seq[structs.Row] {
	return scratch.Rows(s.snapshot.SharedBays())
}

// Lookup returns the object that ident, a UUID or a name, means to the caller: an object of
// the caller's project, a shared bay, or, for operators, anyone's object: by UUID, and by name
// if the caller asks for all projects. The error is CodeNotFound, also for another project's object, or CodeConflict for a name of
// several objects.
func Lookup(snap *state.Snapshot, caller structs.Caller, kind, ident string) (structs.Row, error) {
	return lookup(snapshotReader{snap}, caller, kind, ident)
}

func lookup(r reader, caller structs.Caller, kind, ident string) (structs.Row, error) {
	table, operators := state.TableOfKind(kind)
	if structs.IsID(ident) {
		if found := r.Get(table, ident); found != nil && Visible(caller, found) {
			return found, nil
		}
		return nil, structs.NotFound(kind, ident)
	}
	owner := caller.ProjectID
	switch {
	case operators:
		owner = ""
	case caller.AllProjects && caller.Is(structs.RoleAdmin):
		owner = state.AllProjects
	}
	found := slices.Collect(r.ByName(table, owner, ident))
	if len(found) == 0 && table == structs.TableBays {
		for b := range r.SharedBays() {
			if structs.NameOf(b) == ident {
				found = append(found, b)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, structs.NotFound(kind, ident)
	case 1:
		return found[0], nil
	}
	return nil, structs.Ambiguous(kind)
}

// find is lookup in the batch for a kind with row type P.
func find[P structs.Row](t *scratch.Tx, caller structs.Caller, kind, ident string) (P, error) {
	found, err := lookup(t, caller, kind, ident)
	if err != nil {
		var none P
		return none, err
	}
	return found.(P), nil
}

// Visible reports whether the caller may see the object.
func Visible(caller structs.Caller, r structs.Row) bool {
	if caller.Is(structs.RoleAdmin) || r.Base().ProjectID == caller.ProjectID {
		return true
	}
	b, ok := r.(*structs.Bay)
	return ok && b.Shared
}
