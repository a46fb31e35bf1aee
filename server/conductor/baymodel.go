package conductor

import "github.com/stackforge/magnum/structs"

// CreateBayModel makes a template for bays.
type CreateBayModel struct {
	Caller structs.Caller
	Once   Once
	UUID   string
	Model  structs.BayModel // all but its Meta
}

func (r CreateBayModel) decide(t *tx) (*structs.BayModel, error) {
	return createPlain(t, r.Once, r.Caller, structs.KindBayModel, r.UUID, &r.Model, &r.Model.Name)
}

// PatchBayModel changes a template. Bays that were made from it don't change.
type PatchBayModel struct {
	Caller structs.Caller
	Ident  string // UUID: the contract takes no name here
	Apply  func(structs.BayModel) (structs.BayModel, error)
}

func (r PatchBayModel) decide(t *tx) (*structs.BayModel, error) {
	return patchPlain(t, r.Caller, structs.KindBayModel, r.Ident, r.Apply, func(m *structs.BayModel) *string { return &m.Name })
}

// DeleteBayModel deletes a template that no bay refers to.
type DeleteBayModel struct {
	Caller structs.Caller
	Ident  string
}

func (r DeleteBayModel) decide(t *tx) (*structs.BayModel, error) {
	found, err := lookup(t, r.Caller, structs.KindBayModel, r.Ident)
	if err != nil {
		return nil, err
	}
	m := found.(*structs.BayModel)
	for b := range t.bays() {
		if b.BayModelID == m.ID {
			return nil, structs.Errorf(structs.CodeInvalid, "BayModel %s is referenced by one or multiple bays (such as %s): delete them first.", r.Ident, b.Name).About(structs.KindBayModel)
		}
	}
	t.remove(m)
	return m, nil
}
