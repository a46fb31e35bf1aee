package conductor

import (
	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/structs"
)

// CreateService creates a service from a manifest that the caller has read.
type CreateService struct {
	Caller   structs.Caller
	Once     Once
	UUID     string          // "" means a generated one
	Bay      string          // UUID or name; "" means the only usable bay
	Service  structs.Service // Name, Labels, Annotations, Spec and ManifestURL
	Prefix   string          // what a generated name begins with; not used if Service has a name
	Manifest string          // as it was sent or fetched
	Pools    services.Pools
	Backend  structs.Backend // that Service was read for; "" means docker, Unread that nothing was read
}

func (r CreateService) decide(t *scratch.Tx) (*structs.Service, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Service, error) {
		if err := checkPodSchema(t, structs.KindService); err != nil {
			return nil, err
		}
		bay, err := bayFor(t, t.BaysOf, r.Caller, r.Bay, usable)
		if err != nil {
			return nil, err
		}
		if err := checkBackend(bay, r.Backend); err != nil {
			return nil, err
		}
		s := r.Service
		if s.Meta, err = newMeta(t, r.Caller, structs.TableServices, structs.KindService, r.UUID); err != nil {
			return nil, err
		}
		s.Request = r.Caller.RequestID
		return services.Create(t, r.Pools, &s, r.Prefix, bay, r.Manifest)
	})
}

// PatchService replaces the manifest of a service. It keeps its address, and the node ports
// that the new manifest leaves open.
type PatchService struct {
	Caller   structs.Caller
	Ident    string          // UUID or name
	Service  structs.Service // Labels, Annotations, Spec and ManifestURL; a Name must be the present one
	Manifest string          // as it was sent or fetched
	Pools    services.Pools
	Backend  structs.Backend // that Service was read for; "" means docker
}

func (r PatchService) decide(t *scratch.Tx) (*structs.Service, error) {
	was, err := find[*structs.Service](t, r.Caller, structs.KindService, r.Ident)
	if err != nil {
		return nil, err
	}
	if bay := scratch.Row[structs.Bay](t, was.BayID); bay != nil {
		if err := checkBackend(bay, r.Backend); err != nil {
			return nil, err
		}
	}
	changed, err := services.Change(t, r.Pools, was, r.Service, r.Manifest)
	if err == nil && changed != was {
		actions.Note(t, r.Caller, "update", was, 0)
	}
	return changed, err
}

// DeleteService deletes a service, its manifest and its endpoints. The pods stay.
type DeleteService struct {
	Caller structs.Caller
	Ident  string // UUID or name
}

// decide returns the last row of the service.
func (r DeleteService) decide(t *scratch.Tx) (*structs.Service, error) {
	s, err := deletePlain[*structs.Service](t, r.Caller, structs.KindService, r.Ident)
	if err == nil {
		objects.Delete(t, s.BesideID(), false)
	}
	return s, err
}
