package service

import (
	"context"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Actions returns a workload of the kind and the records of the actions on it, oldest first,
// with the state that they are from. Errors are CodeNotFound, CodeConflict, and those of
// Await.
func (s *Service) Actions(
	ctx context.Context, c *Call, kind, ident string,
) (*state.Snapshot, structs.Workload, []structs.ActionRecord, error) {
	if err := s.Await(ctx, c); err != nil {
		return nil, nil, nil, err
	}
	snap := s.Snapshot()
	row, err := conductor.Lookup(snap, c.Caller, kind, ident)
	if err != nil {
		return snap, nil, nil, err
	}
	w := row.(structs.Workload)
	if a, ok := snap.Get(structs.TableActions, w.Ref().BesideID()).(*structs.Actions); ok {
		return snap, w, a.List, nil
	}
	return snap, w, []structs.ActionRecord{structs.CreationOf(w)}, nil
}
