package service

import (
	"context"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// Bays carries out requests about bays.
type Bays struct{ s *Service }

// Bays returns the operations on bays.
func (s *Service) Bays() Bays { return Bays{s} }

// Create creates a bay. It does not wait for hosts. Errors are CodeInvalid,
// CodeForbidden, CodeConflict, CodeQuota, and those of onLeader.
func (n Bays) Create(ctx context.Context, c *Call, body *structs.BayRequest, once conductor.Once) (*structs.Bay, error) {
	r, err := bayRequest(body)
	if err != nil {
		return nil, err
	}
	if r.Shared {
		if err := identity.Check(c.Caller, identity.BayShare); err != nil {
			return nil, err
		}
	}
	r.Caller, r.Once = c.Caller, once
	minted := r.UUID == ""
	if minted {
		r.UUID = n.s.newID(c)
	}
	return create(ctx, n.s, c, r.UUID, minted, r)
}

// bayRequest checks the body of a POST of a bay. Errors are CodeInvalid.
func bayRequest(body *structs.BayRequest) (conductor.CreateBay, error) {
	r := conductor.CreateBay{
		UUID: body.UUID, BayModel: body.BayModelID, COE: body.COE, NodeCount: 1, DiscoveryURL: body.DiscoveryURL,
		Labels: body.Labels, Placement: body.Placement, Shared: bool(body.Shared),
	}
	var err error
	if r.Name, err = checkUUIDAndName(body.UUID, body.Name); err != nil {
		return r, err
	}
	for field, value := range map[string]string{"baymodel_id": body.BayModelID, "discovery_url": body.DiscoveryURL} {
		if err := structs.CheckLine(field, value, structs.MaxText); err != nil {
			return r, err
		}
	}
	if err := checkCOE(body.COE); err != nil {
		return r, err
	}
	if body.NodeCount != nil {
		if r.NodeCount, err = checkNodeCount(int(*body.NodeCount)); err != nil {
			return r, err
		}
	}
	if body.BayCreateTimeout != nil {
		r.Timeout = int(*body.BayCreateTimeout)
		if r.Timeout < 0 {
			return r, structs.Invalid("bay_create_timeout", r.Timeout, "Value should be greater or equal to 0")
		}
		if r.Timeout > maxTimeout {
			return r, structs.Invalid("bay_create_timeout", r.Timeout, "Value should be lesser or equal to %d minutes", maxTimeout)
		}
	}
	switch r.Placement {
	case "":
		r.Placement = structs.PlacementSpread
	case structs.PlacementSpread, structs.PlacementBinpack:
	default:
		return r, structs.Invalid("placement", r.Placement, "Value should be one of: 'spread', 'binpack'")
	}
	return r, structs.CheckRowLabels("labels", r.Labels)
}

// maxTimeout is the longest bay_create_timeout, in minutes: a year.
const maxTimeout = 366 * 24 * 60

func checkNodeCount(n int) (int, error) {
	if n < 1 {
		return 0, structs.Invalid("node_count", n, "Value should be greater or equal to 1")
	}
	if n > structs.MaxNodeCount {
		return 0, structs.Invalid("node_count", n, "Value should be lesser or equal to %d", structs.MaxNodeCount)
	}
	return n, nil
}

// checkCOE refuses a coe that magnum doesn't know. It accepts "".
func checkCOE(coe string) error {
	if _, ok := structs.BackendOf(coe); !ok && coe != "" {
		return structs.Invalid("coe", coe, "Value should be one of: 'docker', 'swarm', 'kubernetes'")
	}
	return nil
}

// checkUUIDAndName checks the uuid and name of a POST, and returns the name, "" if
// there is none. Errors are CodeInvalid.
func checkUUIDAndName(uuid string, name *string) (string, error) {
	if uuid != "" && !structs.IsID(uuid) {
		return "", structs.Invalid("uuid", uuid, "Expected a uuid but received %s.", structs.Shorten(uuid))
	}
	if name == nil {
		return "", nil
	}
	return *name, structs.CheckName(*name)
}

// Resize changes how many hosts a bay wants. id is the bay's UUID, and a nil count
// means 1. It does not wait for hosts. Errors are CodeInvalid, CodeNotFound, and
// those of onLeader.
func (n Bays) Resize(ctx context.Context, c *Call, id string, count *int) (*structs.Bay, error) {
	hosts := 1
	if count != nil {
		var err error
		if hosts, err = checkNodeCount(int(*count)); err != nil {
			return nil, err
		}
	}
	return decide(ctx, n.s, c, conductor.PatchBay{Caller: c.Caller, Ident: id, NodeCount: hosts})
}

// Delete deletes a bay with its containers. It does not wait for the hosts. Errors
// are CodeNotFound, CodeConflict, and those of onLeader.
func (n Bays) Delete(ctx context.Context, c *Call, ident string) (Removed[*structs.Bay], error) {
	return remove(ctx, n.s, c, conductor.DeleteBay{Caller: c.Caller, Ident: ident})
}
