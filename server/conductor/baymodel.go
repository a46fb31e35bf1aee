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
	return once(t, r.Once, r.Caller, func() (*structs.BayModel, error) {
		meta, err := t.newMeta(r.Caller, structs.TableBayModels, structs.KindBayModel, r.UUID)
		if err != nil {
			return nil, err
		}
		m := r.Model
		m.Meta = meta
		m.Name = orElse(m.Name, generateName(m.ID))
		t.put(&m)
		return &m, nil
	})
}

// PatchBayModel changes a template. Bays that were made from it don't change.
type PatchBayModel struct {
	Caller structs.Caller
	Ident  string // UUID: the contract takes no name here
	Apply  func(structs.BayModel) (structs.BayModel, error)
}

func (r PatchBayModel) decide(t *tx) (*structs.BayModel, error) {
	found, err := lookup(t, r.Caller, structs.KindBayModel, r.Ident)
	if err != nil {
		return nil, err
	}
	was := found.(*structs.BayModel)
	changed, err := r.Apply(*was)
	if err != nil {
		return nil, err
	}
	changed.Meta = was.Meta
	changed.Name = orElse(changed.Name, generateName(was.ID))
	changed.UpdatedAt = t.now
	t.put(&changed)
	return &changed, nil
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

// CreateNode stores a node of the 2015 client.
type CreateNode struct {
	Caller structs.Caller
	Once   Once
	UUID   string
	Node   structs.Node // all but its Meta
}

func (r CreateNode) decide(t *tx) (*structs.Node, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Node, error) {
		meta, err := t.newMeta(r.Caller, structs.TableNodes, structs.KindNode, r.UUID)
		if err != nil {
			return nil, err
		}
		n := r.Node
		n.Meta = meta
		n.Name = orElse(n.Name, generateName(n.ID))
		t.put(&n)
		return &n, nil
	})
}

// PatchNode changes a node.
type PatchNode struct {
	Caller structs.Caller
	Ident  string // UUID
	Apply  func(structs.Node) (structs.Node, error)
}

func (r PatchNode) decide(t *tx) (*structs.Node, error) {
	found, err := lookup(t, r.Caller, structs.KindNode, r.Ident)
	if err != nil {
		return nil, err
	}
	was := found.(*structs.Node)
	changed, err := r.Apply(*was)
	if err != nil {
		return nil, err
	}
	changed.Meta = was.Meta
	changed.Name = orElse(changed.Name, generateName(was.ID))
	changed.UpdatedAt = t.now
	t.put(&changed)
	return &changed, nil
}

// DeleteNode deletes a node of the 2015 client. Hosts are not deleted this way.
type DeleteNode struct {
	Caller structs.Caller
	Ident  string // UUID
}

func (r DeleteNode) decide(t *tx) (*structs.Node, error) {
	found, err := lookup(t, r.Caller, structs.KindNode, r.Ident)
	if err != nil {
		return nil, err
	}
	t.remove(found)
	return found.(*structs.Node), nil
}
