package service

import (
	"context"
	"fmt"
	"math"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// OpenForward opens a TCP connection to a port of a pod. Errors are CodeInvalid for the port,
// CodeConflict for a pod that has ended, and those of Target and Open.
func (n Sessions) OpenForward(ctx context.Context, call *Call, ident string, port int64) (*dispatch.Session, error) {
	if port < 1 || port > math.MaxUint16 {
		return nil, structs.Errorf(structs.CodeInvalid, "port %d not in 1..%d", port, math.MaxUint16)
	}
	if err := n.s.Await(ctx, call); err != nil {
		return nil, err
	}
	snap := n.s.Snapshot()
	row, err := conductor.Lookup(snap, call.Caller, structs.KindPod, ident)
	if err != nil {
		return nil, err
	}
	offer, err := forwardOffer(snap, row.(*structs.Pod), ident, int(port))
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offer)
}

// forwardOffer returns the offer of a connection to a port of a pod. The pod is as the caller
// may see it.
func forwardOffer(snap *state.Snapshot, p *structs.Pod, ident string, port int) (Offer, error) {
	t := &Target{Ref: p.Ref(), Name: p.Name, Reason: structs.StatusReasonOf(p), what: "Pod " + ident, kind: structs.KindPod}
	t.Ref.Part = structs.PodInfra
	switch phase := p.Phase(); phase {
	case structs.PodSucceeded, structs.PodFailed:
		return Offer{}, t.errorf(structs.CodeConflict, "is %s%s: only one that runs can be connected to", phase, inBrackets(t.Reason))
	}
	t, err := reachable(snap, p, t)
	if err != nil {
		return Offer{}, fmt.Errorf("port %d: %w", port, err)
	}
	return offerOf(t, structs.SessionOffer{Kind: structs.SessionForward, Port: port}), nil
}
