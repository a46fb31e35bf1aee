package service

import (
	"cmp"
	"context"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
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
	request := conductor.CreateService{Caller: c.Caller, Once: once, UUID: body.UUID, Bay: cmp.Or(body.BayUUID, body.Bay),
		Pools: n.s.config.Pools}
	minted := request.UUID == ""
	if minted {
		request.UUID = n.s.newID(c)
	}
	read := func(text, url string) (err error) {
		request.Service, request.Prefix, err = readService(text, url)
		request.Manifest = text
		return err
	}
	if body.ManifestURL == "" {
		if err := read(body.Manifest, ""); err != nil {
			return nil, err
		}
		return create(ctx, n.s, c, request.UUID, minted, request)
	}
	c.Preparation = fetchTime
	return createLater(ctx, n.s, c, once, request.UUID, minted, func() (conductor.Request[*structs.Service], error) {
		text, err := n.s.config.Fetch(ctx, body.ManifestURL)
		if err == nil {
			err = read(text, body.ManifestURL)
		}
		return request, err
	})
}

// readService reads a service's manifest. prefix is what a generated name begins with.
// Errors are CodeInvalid.
func readService(text, url string) (s structs.Service, prefix string, err error) {
	is, err := manifest.ParseService(text)
	if err != nil {
		return s, "", err
	}
	return structs.Service{Name: is.Name, Labels: is.Labels, Annotations: is.Annotations, Spec: is.Spec, ManifestURL: url},
		is.GenerateName, nil
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
	if r.URL != "" {
		c.Preparation = fetchTime
	} else if _, _, err := readService(r.Manifest, ""); err != nil { // refused here, before it is forwarded
		return nil, err
	}
	return onLeader(ctx, n.s, c, false, func(bool) (*structs.Service, error) {
		text := r.Manifest
		if r.URL != "" {
			var err error
			if text, err = n.s.config.Fetch(ctx, r.URL); err != nil {
				return nil, err
			}
		}
		is, _, err := readService(text, r.URL)
		if err != nil {
			return nil, err
		}
		return conductor.Do(ctx, n.s.config.Conductor, conductor.PatchService{Caller: c.Caller, Ident: r.Ident, Service: is, Manifest: text,
			Pools: n.s.config.Pools})
	})
}

// DeleteService is the request to delete a service.
type DeleteService struct {
	Ident       string // UUID or name
	AllProjects bool   // it may belong to another project; for operators
}

// Delete deletes a service. Its pods stay. Errors are CodeForbidden, CodeNotFound,
// CodeConflict, and those of onLeader.
func (n BayServices) Delete(ctx context.Context, c *Call, r DeleteService) (Removed[*structs.Service], error) {
	if r.AllProjects {
		if err := identity.Check(c.Caller, identity.AllProjects); err != nil {
			return Removed[*structs.Service]{}, err
		}
	}
	return remove(ctx, n.s, c, conductor.DeleteService{Caller: c.Caller, Ident: r.Ident})
}
