package conductor

import "github.com/stackforge/magnum/structs"

// createPlain makes an object that nothing else follows from. made is all but
// its Meta, name points to its name, which is generated if it is "".
func createPlain[P structs.Row](t *tx, o Once, caller structs.Caller, kind, uuid string, made P, name *string) (P, error) {
	return once(t, o, caller, func() (P, error) {
		meta, err := newMeta(t, caller, made.Table(), kind, uuid)
		if err != nil {
			var none P
			return none, err
		}
		*made.Base() = meta
		*name = orElse(*name, structs.GenerateName(meta.ID))
		t.put(made)
		return made, nil
	})
}

// patchPlain changes an object that nothing else follows from. apply returns
// the changed copy, or why it refuses; name finds the copy's name, which is
// generated if it is "".
func patchPlain[R any, P interface {
	*R
	structs.Row
}](t *tx, caller structs.Caller, kind, ident string, apply func(R) (R, error), name func(P) *string) (P, error) {
	found, err := find[P](t, caller, kind, ident)
	if err != nil {
		return nil, err
	}
	changed, err := apply(*found)
	if err != nil {
		return nil, err
	}
	made := P(&changed)
	*made.Base() = *found.Base()
	*name(made) = orElse(*name(made), structs.GenerateName(found.Base().ID))
	made.Base().UpdatedAt = t.now
	t.put(made)
	return made, nil
}

// deletePlain deletes an object that nothing else follows from, and returns it.
func deletePlain[P structs.Row](t *tx, caller structs.Caller, kind, ident string) (P, error) {
	found, err := find[P](t, caller, kind, ident)
	if err == nil {
		t.remove(found)
	}
	return found, err
}
