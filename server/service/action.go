package service

import (
	"context"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Actions returns an object of the kind and the records of the actions on it, oldest first,
// with the state that they are from. Errors are CodeNotFound, CodeConflict, and those of
// Await.
func (s *Service) Actions(
	ctx context.Context, c *Call, kind, ident string,
) (*state.Snapshot, structs.Row, []structs.ActionRecord, error) {
	if err := s.Await(ctx, c); err != nil {
		return nil, nil, nil, err
	}
	snap := s.Snapshot()
	row, err := conductor.Lookup(snap, c.Caller, kind, ident)
	if err != nil {
		return snap, nil, nil, err
	}
	kept, _ := snap.Get(structs.TableActions, structs.BesideOf(row)).(*structs.Actions)
	return snap, row, structs.ActionsOf(row, kept), nil
}
