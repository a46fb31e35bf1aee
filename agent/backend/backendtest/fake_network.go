package backendtest

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/stackforge/magnum/agent/backend"
)

// This file has a Fake's networks: one for each project. A network stays after the
// project's last container until it is tidied up.

// idleLocked returns the projects that have a network and no container.
func (f *engine) idleLocked() (idle []string) {
	used := make(map[string]bool)
	for _, p := range f.containers {
		used[p.project] = true
	}
	for project := range f.joined {
		if !used[project] {
			idle = append(idle, project)
		}
	}
	return idle
}

// joinLocked makes the project's network.
func (f *engine) joinLocked(project string) error {
	if !f.joined[project] && f.room > 0 && len(f.joined) >= f.room {
		for _, idle := range f.idleLocked() {
			delete(f.joined, idle)
		}
		if len(f.joined) >= f.room {
			return &backend.Failure{Reason: backend.ErrNoNetwork, Msg: "the host has no room for another project's network"}
		}
	}
	f.joined[project] = true
	return nil
}

// TidyNetworks removes networks without a container, if all is set.
func (f *networks) TidyNetworks(ctx context.Context, _ backend.Owner, all bool) error {
	if err := f.call(ctx, "tidy networks"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !all {
		return nil // no network is kept for a limited time
	}
	for _, idle := range f.idleLocked() {
		delete(f.joined, idle)
	}
	return nil
}

// NetworkRoom reports whether another network may be made.
func (f *networks) NetworkRoom(ctx context.Context) (bool, error) {
	if err := f.call(ctx, "network room"); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.room == 0 || len(f.joined) < f.room || len(f.idleLocked()) > 0, nil
}

// ProjectNetworks returns a network for each project that has one, all with one gateway.
func (f *networks) ProjectNetworks(ctx context.Context, _ backend.Owner) ([]backend.ProjectNetwork, error) {
	if err := f.call(ctx, "project networks"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []backend.ProjectNetwork
	for _, project := range slices.Sorted(maps.Keys(f.joined)) {
		all = append(all, backend.ProjectNetwork{ProjectID: project, Bridge: project, Gateway: netip.MustParsePrefix("172.18.0.1/16")})
	}
	return all, nil
}
