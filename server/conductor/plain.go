package conductor

import (
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Plain is a pointer to a row of a noun that is only stored: nothing follows from it.
// It is found by its name, which is generated if a caller gives none.
type Plain[R any] interface {
	*R
	structs.Named
	SetRowName(string)
}

// CreateRow stores a row that nothing follows from.
type CreateRow[R any, P Plain[R]] struct {
	Caller structs.Caller
	Once   Once
	UUID   string
	Row    R // all but its Meta; a name of "" is generated
}

func (r CreateRow[R, P]) decide(t *tx) (P, error) {
	return once(t, r.Once, r.Caller, func() (P, error) {
		made := P(&r.Row)
		meta, err := newMeta(t, r.Caller, made.Table(), state.KindOf(made.Table()), r.UUID)
		if err != nil {
			return nil, err
		}
		*made.Base() = meta
		made.SetRowName(orElse(made.RowName(), structs.GenerateName(meta.ID)))
		t.put(made)
		return made, nil
	})
}

// PatchRow changes a row that nothing follows from.
type PatchRow[R any, P Plain[R]] struct {
	Caller structs.Caller
	Ident  string             // UUID: the contract takes no name here
	Apply  func(R) (R, error) // returns the changed copy, or why it refuses
}

func (r PatchRow[R, P]) decide(t *tx) (P, error) {
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
	made.SetRowName(orElse(made.RowName(), structs.GenerateName(found.Base().ID)))
	made.Base().UpdatedAt = t.now
	t.put(made)
	return made, nil
}

// DeleteRow removes a row that nothing follows from and nothing refers to.
type DeleteRow[R any, P Plain[R]] struct {
	Caller structs.Caller
	Ident  string // UUID or name
}

func (r DeleteRow[R, P]) decide(t *tx) (P, error) {
	return deletePlain[P](t, r.Caller, state.KindOf(P(new(R)).Table()), r.Ident)
}

// deletePlain deletes an object that nothing else follows from, and returns it.
func deletePlain[P structs.Row](t *tx, caller structs.Caller, kind, ident string) (P, error) {
	found, err := find[P](t, caller, kind, ident)
	if err == nil {
		t.remove(found)
	}
	return found, err
}
