package api

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Actions returns the recorded actions on a bay, newest first. CodeNotFound.
func (t Bays) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "bays", structs.KindBay, ident)
}

// Actions returns the recorded actions on a baymodel, newest first. CodeNotFound.
func (t BayModels) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "baymodels", structs.KindBayModel, ident)
}

// Actions returns the recorded actions on a node, newest first. CodeNotFound.
func (t Nodes) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "nodes", structs.KindNode, ident)
}

// Actions returns the recorded actions on a host, newest first. CodeNotFound.
func (t Hosts) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "hosts", structs.KindHost, ident)
}

// Actions returns the recorded actions on a replication controller, newest first. CodeNotFound.
func (t RCs) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "rcs", structs.KindRC, ident)
}

// Actions returns the recorded actions on a service, newest first. CodeNotFound.
func (t Services) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "services", structs.KindService, ident)
}
