package service

import (
	"cmp"
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
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
	bay := cmp.Or(body.BayUUID, body.Bay)
	id := body.UUID
	minted := id == ""
	if minted {
		id = n.s.newID(c)
	}
	parse := remembered(parseRC)
	read := func(backend structs.Backend, text string) (conductor.Request[*structs.RC], error) {
		r := conductor.CreateRC{Caller: c.Caller, Once: once, UUID: id, Bay: bay, Backend: backend, Manifest: text}
		is, err := parse(backend, text)
		if err != nil {
			return nil, err
		}
		if is != nil {
			r.RC, r.Prefix, r.Spec = structs.RC{Name: is.Name, Labels: is.Labels}, is.GenerateName, is.Spec
		}
		r.RC.Secrets, r.RC.ManifestURL = body.Secrets, body.ManifestURL
		r.Spec.Template.Exclusive, r.Spec.Template.InfraImage = body.Exclusive, body.InfraImage
		if backend == structs.BackendDocker {
			err = r.Spec.Template.CheckCredentials(body.Registry)
		}
		return r, cmp.Or(err, n.s.config.HostPorts.Pod(c.Caller, "spec.template.spec", &r.Spec.Template))
	}
	return createRead(ctx, n.s, c, once, id, minted, source{body.Manifest, body.ManifestURL}, bay, read)
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
	parse := remembered(parseRC)
	return patchRead(ctx, n.s, c, structs.KindRC, r.Ident, source{r.Manifest, r.URL},
		func(backend structs.Backend, text string) (conductor.Request[*structs.RC], error) {
			is, err := parse(backend, text)
			if err != nil {
				return nil, err
			}
			change := conductor.PatchRC{Caller: c.Caller, Ident: r.Ident, Manifest: text, Backend: backend}
			if is != nil {
				change.Spec, change.RC = is.Spec, structs.RC{Name: is.Name, Labels: is.Labels, ManifestURL: r.URL}
			}
			return change, n.s.config.HostPorts.Pod(c.Caller, "spec.template.spec", &change.Spec.Template)
		})
}

// DeleteRC is the request to delete a replication controller and its pods.
type DeleteRC struct {
	Ident string // UUID or name
	Force bool   // kill the pods at once; forget those on lost hosts
}

// Delete deletes a replication controller. It does not wait for pods. Errors are
// CodeNotFound, and those of onLeader.
func (n RCs) Delete(ctx context.Context, c *Call, r DeleteRC) (Removed[*structs.RC], error) {
	return remove(ctx, n.s, c, conductor.DeleteRC{Caller: c.Caller, Ident: r.Ident, Force: r.Force})
}

// AwaitDone waits until as many pods as wanted are ready, and all are of the present template.
// It returns the replication controller as it is then, nil if it was deleted. done is false if
// atMost has passed before, or if somebody deletes it. The error is that of a cluster that has
// refused it.
func (n RCs) AwaitDone(ctx context.Context, c *Call, wanted *structs.RC, atMost time.Duration) (now *structs.RC, done bool, err error) {
	row := n.s.AwaitRow(ctx, c, wanted, atMost, func(row structs.Row) bool {
		now, ok := row.(*structs.RC)
		if err = refused(objectOf(n.s.Snapshot(), wanted.BesideID()), wanted.Generation); err != nil {
			return true
		}
		return !ok || now.Settled() || now.Deleting != wanted.Deleting
	}, state.TopicRow(structs.TableObjects, wanted.BesideID()))
	now, _ = row.(*structs.RC)
	return now, now == nil || now.Settled(), err
}

// ErrRCDeleted returns the error of a wait for a replication controller that was deleted
// meanwhile. CodeConflict.
func ErrRCDeleted(rc *structs.RC) error {
	return structs.Errorf(structs.CodeConflict, "Replication controller %s was deleted meanwhile.", rc.Name).About(structs.KindRC)
}
