package conductor

import (
	"cmp"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Plain is a pointer to a row of a noun that is only stored: no other change follows from
// it. It is found by its name, which is generated if the caller gives none.
type Plain[R any] interface {
	*R
	structs.Named
	SetRowName(string)
}

// CreateRow creates a row of a plain noun.
type CreateRow[R any, P Plain[R]] struct {
	Caller structs.Caller
	Once   Once
	UUID   string
	Row    R // without Meta; a name of "" is generated
}

func (r CreateRow[R, P]) decide(t *scratch.Tx) (P, error) {
	return once(t, r.Once, r.Caller, func() (P, error) {
		made := P(&r.Row)
		meta, err := newMeta(t, r.Caller, made.Table(), state.KindOf(made.Table()), r.UUID)
		if err != nil {
			return nil, err
		}
		*made.Base() = meta
		made.SetRowName(cmp.Or(made.RowName(), structs.GenerateName(meta.ID)))
		actions.Created(t, r.Caller, made)
		t.Put(made)
		return made, nil
	})
}

// PatchRow changes a row of a plain noun.
type PatchRow[R any, P Plain[R]] struct {
	Caller structs.Caller
	Ident  string             // UUID: the contract takes no name here
	Apply  func(R) (R, error) // returns the changed copy or a refusal
}

func (r PatchRow[R, P]) decide(t *scratch.Tx) (P, error) {
	found, err := find[P](t, r.Caller, state.KindOf(P(new(R)).Table()), r.Ident)
	if err != nil {
		return nil, err
	}
	changed, err := r.Apply(*found)
	if err != nil {
		return nil, err
	}
	made := P(&changed)
	*made.Base() = *found.Base()
	made.SetRowName(cmp.Or(made.RowName(), structs.GenerateName(found.Base().ID)))
	made.Base().UpdatedAt = t.Now
	t.Put(made)
	actions.Note(t, r.Caller, "update", found, 0)
	return made, nil
}

// DeleteRow deletes a row of a plain noun, to which no other row refers.
type DeleteRow[R any, P Plain[R]] struct {
	Caller structs.Caller
	Ident  string // UUID or name
}

func (r DeleteRow[R, P]) decide(t *scratch.Tx) (P, error) {
	return deletePlain[P](t, r.Caller, state.KindOf(P(new(R)).Table()), r.Ident)
}

// deletePlain deletes a row from which no other change follows, and returns it.
func deletePlain[P structs.Row](t *scratch.Tx, caller structs.Caller, kind, ident string) (P, error) {
	found, err := find[P](t, caller, kind, ident)
	if err == nil {
		t.Remove(found)
	}
	return found, err
}
