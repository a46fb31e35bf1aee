package conductor

import (
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// DeleteBayModel deletes a template that no bay refers to.
type DeleteBayModel struct {
	Caller structs.Caller
	Ident  string
}

func (r DeleteBayModel) decide(t *scratch.Tx) (*structs.BayModel, error) {
	found, err := lookup(t, r.Caller, structs.KindBayModel, r.Ident)
	if err != nil {
		return nil, err
	}
	m := found.(*structs.BayModel)
	for b := range t.Bays() {
		if b.BayModelID == m.ID {
			return nil, structs.Errorf(structs.CodeInvalid,
				"BayModel %s is referenced by one or multiple bays (such as %s): delete them first.", r.Ident,
				b.Name).About(structs.KindBayModel)
		}
	}
	t.Remove(m)
	return m, nil
}
