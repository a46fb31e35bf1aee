package service

import (
	"context"
	"sync/atomic"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Config returns how the caller's own clients of Kubernetes reach the cluster of a bay, with
// the state that says so. Errors are CodeInvalid for a Docker bay, CodeNotFound,
// CodeForbidden, CodeConflict if the bay has no cluster or the agent doesn't know the address
// of its API, and those of Await.
func (n Bays) Config(ctx context.Context, c *Call, ident string) (*state.Snapshot, structs.BayConfigBody, error) {
	snap, b, h, err := n.cluster(ctx, c, ident)
	if err != nil {
		return snap, structs.BayConfigBody{}, err
	}
	is := h.Fingerprint.Cluster
	if is == nil || is.PublicAddress == "" {
		return snap, structs.BayConfigBody{}, structs.Errorf(structs.CodeConflict,
			"Bay %s: the agent of its cluster, host %s, does not know by which URL users reach the cluster's API: an operator has to "+
				"start it with -kubernetes-api URL", b.Name, h.Name).About(structs.KindBay)
	}
	return snap, structs.BayConfigBody{BayUUID: b.ID, Bay: b.Name, APIAddress: is.PublicAddress, CA: orNull(is.CA),
		Namespace: structs.KubernetesNamespace(c.Caller.ProjectID)}, nil
}

// Credential has the agent of a bay's cluster make a token for the namespace of the caller's
// project, and the namespace if there is none. Nothing is stored. Errors are CodeUnavailable
// if the agent or the cluster's API doesn't answer, CodeConflict also if the cluster lacks what
// the token needs, and those of Config.
func (n Bays) Credential(ctx context.Context, c *Call, ident string) (*state.Snapshot, structs.BayCredentialBody, error) {
	var made structs.BayCredentialBody
	snap, b, h, err := n.cluster(ctx, c, ident)
	if err != nil {
		return snap, made, err
	}
	patience, cancel := context.WithTimeout(ctx, n.s.config.HostPatience)
	defer cancel()
	var room atomic.Int64
	room.Store(maxCredential)
	offer := structs.SessionOffer{Kind: structs.SessionCredential, ProjectID: c.Caller.ProjectID}
	err = n.s.askHost(patience, h, offer, &room, &made)
	switch {
	case patience.Err() != nil && ctx.Err() == nil && structs.CodeOf(err) == structs.CodeUnavailable:
		err = structs.Errorf(structs.CodeUnavailable, "the host did not answer within %v", n.s.config.HostPatience)
	case err == nil && (made.Token == "" || made.ExpiresAt.IsZero()):
		err = structs.Errorf(structs.CodeUnavailable, "the host's agent sent no credential")
	}
	if err != nil {
		known := n.s.userError(c, err)
		err := structs.Errorf(known.Code, "Bay %s, host %s: %w", b.Name, h.Name, known)
		return snap, structs.BayCredentialBody{}, err.About(structs.KindBay)
	}
	return snap, made, nil
}

// maxCredential bounds the answer with a credential, in bytes. A token has about one KiB.
const maxCredential = 64 << 10

// cluster returns a Kubernetes bay that the caller's project may use, and the host that is its
// cluster. Errors are CodeInvalid, CodeNotFound, CodeForbidden, CodeConflict, and those of
// Await.
func (n Bays) cluster(ctx context.Context, c *Call, ident string) (*state.Snapshot, *structs.Bay, *structs.Host, error) {
	if err := n.s.Await(ctx, c); err != nil {
		return nil, nil, nil, err
	}
	snap := n.s.Snapshot()
	row, err := conductor.Lookup(snap, c.Caller, structs.KindBay, ident)
	if err != nil {
		return snap, nil, nil, err
	}
	b := row.(*structs.Bay)
	switch {
	case b.Backend() != structs.BackendKubernetes:
		return snap, nil, nil, structs.Errorf(structs.CodeInvalid,
			"Bay %s is of coe %s: it has no Kubernetes cluster, so there is nothing to configure for clients; "+
				"choose a bay of coe kubernetes",
			b.Name, b.COE).About(structs.KindBay)
	case b.ProjectID != c.Caller.ProjectID && !b.Shared:
		// Operators see it, but their own project has nothing in it.
		return snap, nil, nil, structs.Errorf(structs.CodeForbidden,
			"Bay %s is of project %s and not shared, so your project has no namespace in its cluster: use a token of that project",
			b.Name, b.ProjectID).About(structs.KindBay)
	case b.Status == structs.BayDeleting:
		return snap, nil, nil, structs.Errorf(structs.CodeConflict, "Bay %s is being deleted", b.Name).About(structs.KindBay)
	}
	for h := range snap.HostsInBay(b.ID) {
		return snap, b, h, nil // it has one
	}
	err = structs.Errorf(structs.CodeConflict, "Bay %s has no cluster yet: try again when it has", b.Name).About(structs.KindBay)
	return snap, nil, nil, err
}
