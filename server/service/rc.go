package service

import (
	"cmp"
	"context"
	"time"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// RCs carries out requests about replication controllers.
type RCs struct{ s *Service }

// RCs returns the operations on replication controllers.
func (s *Service) RCs() RCs { return RCs{s} }

// Create creates a replication controller from a manifest. It does not wait for pods. Errors
// are CodeInvalid, CodeConflict, and those of onLeader.
func (n RCs) Create(ctx context.Context, c *Call, body *structs.RCRequest, once conductor.Once) (*structs.RC, error) {
	if _, err := checkUUIDAndName(body.UUID, nil); err != nil {
		return nil, err
	}
	if err := body.Check(); err != nil {
		return nil, err
	}
	request := conductor.CreateRC{Caller: c.Caller, Once: once, UUID: body.UUID, Bay: cmp.Or(body.BayUUID, body.Bay)}
	minted := request.UUID == ""
	if minted {
		request.UUID = n.s.newID(c)
	}
	read := func(text, url string) error {
		is, err := manifest.ParseRC(text)
		if err != nil {
			return err
		}
		request.RC = structs.RC{Name: is.Name, Labels: is.Labels, Secrets: body.Secrets, ManifestURL: url}
		request.Prefix, request.Spec, request.Manifest = is.GenerateName, is.Spec, text
		request.Spec.Template.Exclusive, request.Spec.Template.InfraImage = body.Exclusive, body.InfraImage
		return is.Spec.Template.CheckCredentials(body.Registry)
	}
	if body.ManifestURL == "" {
		if err := read(body.Manifest, ""); err != nil {
			return nil, err
		}
		return create(ctx, n.s, c, request.UUID, minted, request)
	}
	c.Preparation = fetchTime
	return createLater(ctx, n.s, c, once, request.UUID, minted, func() (conductor.Request[*structs.RC], error) {
		text, err := n.s.config.Fetch(ctx, body.ManifestURL)
		if err == nil {
			err = read(text, body.ManifestURL)
		}
		return request, err
	})
}

// PatchRC is a change of a replication controller's manifest. Exactly one of Manifest and URL
// is set.
type PatchRC struct {
	Ident    string // UUID or name
	Manifest string
	URL      string // where to fetch it
}

// Patch replaces the manifest of a replication controller. It does not wait for pods. Errors
// are CodeInvalid, CodeNotFound, CodeConflict, and those of onLeader.
func (n RCs) Patch(ctx context.Context, c *Call, r PatchRC) (*structs.RC, error) {
	body := structs.RCRequest{Manifest: r.Manifest, ManifestURL: r.URL}
	if err := body.Check(); err != nil {
		return nil, err
	}
	if r.URL != "" {
		c.Preparation = fetchTime
	} else if _, err := manifest.ParseRC(r.Manifest); err != nil { // refused here, before it is forwarded
		return nil, err
	}
	return onLeader(ctx, n.s, c, false, func(bool) (*structs.RC, error) {
		text := r.Manifest
		if r.URL != "" {
			var err error
			if text, err = n.s.config.Fetch(ctx, r.URL); err != nil {
				return nil, err
			}
		}
		is, err := manifest.ParseRC(text)
		if err != nil {
			return nil, err
		}
		return conductor.Do(ctx, n.s.config.Conductor, conductor.PatchRC{Caller: c.Caller, Ident: r.Ident, Spec: is.Spec, Manifest: text,
			RC: structs.RC{Name: is.Name, Labels: is.Labels, ManifestURL: r.URL}})
	})
}

// DeleteRC is the request to delete a replication controller and its pods.
type DeleteRC struct {
	Ident       string // UUID or name
	Force       bool   // kill the pods at once; forget those on lost hosts
	AllProjects bool   // it may belong to another project; for operators
}

// Delete deletes a replication controller. It does not wait for pods. Errors are
// CodeForbidden, CodeNotFound, and those of onLeader.
func (n RCs) Delete(ctx context.Context, c *Call, r DeleteRC) (Removed[*structs.RC], error) {
	if r.AllProjects {
		if err := identity.Check(c.Caller, identity.AllProjects); err != nil {
			return Removed[*structs.RC]{}, err
		}
	}
	return remove(ctx, n.s, c, conductor.DeleteRC{Caller: c.Caller, Ident: r.Ident, Force: r.Force})
}

// AwaitDone waits until as many pods as wanted are ready, and all are of the present template.
// It returns the replication controller as it is then, nil if it was deleted. done is false if
// atMost has passed before, or if somebody deletes it.
func (n RCs) AwaitDone(ctx context.Context, c *Call, wanted *structs.RC, atMost time.Duration) (now *structs.RC, done bool) {
	row := n.s.AwaitRow(ctx, c, wanted, atMost, func(row structs.Row) bool {
		now, ok := row.(*structs.RC)
		return !ok || now.Settled() || now.Deleting != wanted.Deleting
	})
	now, _ = row.(*structs.RC)
	return now, now == nil || now.Settled()
}

// ErrRCDeleted returns the error of a wait for a replication controller that was deleted
// meanwhile. CodeConflict.
func ErrRCDeleted(rc *structs.RC) error {
	return structs.Errorf(structs.CodeConflict, "Replication controller %s was deleted meanwhile.", rc.Name).About(structs.KindRC)
}
