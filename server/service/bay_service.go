package service

import (
	"cmp"
	"context"
	"time"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// BayServices carries out requests about the services of bays.
type BayServices struct{ s *Service }

// BayServices returns the operations on the services of bays.
func (s *Service) BayServices() BayServices { return BayServices{s} }

// Create creates a service from a manifest. Errors are CodeInvalid, CodeConflict, CodeQuota,
// and those of onLeader.
func (n BayServices) Create(ctx context.Context, c *Call, body *structs.ServiceRequest, once conductor.Once) (*structs.Service, error) {
	if _, err := checkUUIDAndName(body.UUID, nil); err != nil {
		return nil, err
	}
	if err := body.Check(); err != nil {
		return nil, err
	}
	bay := cmp.Or(body.BayUUID, body.Bay)
	id := body.UUID
	minted := id == ""
	if minted {
		id = n.s.newID(c)
	}
	parse := remembered(parseService)
	read := func(backend structs.Backend, text string) (conductor.Request[*structs.Service], error) {
		r := conductor.CreateService{Caller: c.Caller, Once: once, UUID: id, Bay: bay, Backend: backend, Manifest: text,
			Pools: n.s.config.Pools}
		is, err := parse(backend, text)
		if is != nil {
			r.Service, r.Prefix = serviceOf(is, body.ManifestURL), is.GenerateName
		}
		return r, err
	}
	return createRead(ctx, n.s, c, once, id, minted, source{body.Manifest, body.ManifestURL}, bay, read)
}

// serviceOf returns the row of what a manifest says of a service.
func serviceOf(is *manifest.Service, url string) structs.Service {
	return structs.Service{Name: is.Name, Labels: is.Labels, Annotations: is.Annotations, Spec: is.Spec, ManifestURL: url}
}

// PatchService is a change of a service's manifest. Exactly one of Manifest and URL is set.
type PatchService struct {
	Ident    string // UUID or name
	Manifest string
	URL      string // where to fetch it
}

// Patch replaces the manifest of a service. Errors are CodeInvalid, CodeNotFound,
// CodeConflict, CodeQuota, and those of onLeader.
func (n BayServices) Patch(ctx context.Context, c *Call, r PatchService) (*structs.Service, error) {
	body := structs.ServiceRequest{Manifest: r.Manifest, ManifestURL: r.URL}
	if err := body.Check(); err != nil {
		return nil, err
	}
	parse := remembered(parseService)
	return patchRead(ctx, n.s, c, structs.KindService, r.Ident, source{r.Manifest, r.URL},
		func(backend structs.Backend, text string) (conductor.Request[*structs.Service], error) {
			is, err := parse(backend, text)
			if err != nil {
				return nil, err
			}
			change := conductor.PatchService{Caller: c.Caller, Ident: r.Ident, Manifest: text, Pools: n.s.config.Pools, Backend: backend}
			if is != nil {
				change.Service = serviceOf(is, r.URL)
			}
			return change, nil
		})
}

// AwaitDone waits until the cluster of the service's bay has carried out the service's last
// change, or has refused it. A Docker bay has done so already. It returns the service as it is
// then, nil if it was deleted. done is false if atMost has passed before. The error is that of
// a cluster that has refused it.
func (n BayServices) AwaitDone(
	ctx context.Context, c *Call, wanted *structs.Service, atMost time.Duration,
) (now *structs.Service, done bool, err error) {
	o := objectOf(n.s.Snapshot(), wanted.BesideID())
	if o == nil {
		return wanted, true, nil
	}
	carriedOut := func(row structs.Row) bool {
		now, ok := row.(*structs.Object)
		return !ok || now.Observed.Generation >= o.Generation && now.Observed.Status != ""
	}
	row := n.s.AwaitRow(ctx, c, o, atMost, carriedOut)
	after, _ := row.(*structs.Object)
	now, _ = n.s.Snapshot().Get(structs.TableServices, wanted.ID).(*structs.Service)
	return now, now == nil || carriedOut(row), refused(after, o.Generation)
}

// ErrServiceDeleted returns the error of a wait for a service that was deleted meanwhile.
// CodeConflict.
func ErrServiceDeleted(s *structs.Service) error {
	return structs.Errorf(structs.CodeConflict, "Service %s was deleted meanwhile.", s.Name).About(structs.KindService)
}

// DeleteService is the request to delete a service.
type DeleteService struct {
	Ident string // UUID or name
}

// Delete deletes a service. Its pods stay. Errors are CodeNotFound,
// CodeConflict, and those of onLeader.
func (n BayServices) Delete(ctx context.Context, c *Call, r DeleteService) (Removed[*structs.Service], error) {
	return remove(ctx, n.s, c, conductor.DeleteService{Caller: c.Caller, Ident: r.Ident})
}
