package backendtest

import (
	"context"

	"github.com/stackforge/magnum/agent/backend"
)

// This file is the networks of a Fake: one for each project that has a container,
// and that had one until they are tidied up.

// LimitNetworks bounds the networks that there may be; 0 means any number.
func (f *Fake) LimitNetworks(most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = most
}

// Networks returns how many networks there are.
func (f *Fake) Networks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.networks)
}

// idleLocked returns the projects that have a network and no container.
func (f *Fake) idleLocked() []string {
	used := make(map[string]bool)
	for _, p := range f.containers {
		used[p.project] = true
	}
	var idle []string
	for project := range f.networks {
		if !used[project] {
			idle = append(idle, project)
		}
	}
	return idle
}

// joinLocked makes the project's network.
func (f *Fake) joinLocked(project string) error {
	if !f.networks[project] && f.room > 0 && len(f.networks) >= f.room {
		for _, idle := range f.idleLocked() {
			delete(f.networks, idle)
		}
		if len(f.networks) >= f.room {
			return &backend.Failure{Reason: backend.ErrNoNetwork, Msg: "the host has no room for another project's network"}
		}
	}
	f.networks[project] = true
	return nil
}

// TidyNetworks removes networks without a container, if all are to go.
func (f *Fake) TidyNetworks(ctx context.Context, _ backend.Owner, all bool) error {
	if err := f.engine(ctx, "tidy networks"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !all {
		return nil // their time is never over
	}
	for _, idle := range f.idleLocked() {
		delete(f.networks, idle)
	}
	return nil
}

// NetworkRoom reports whether another network may be made.
func (f *Fake) NetworkRoom(ctx context.Context) (bool, error) {
	if err := f.engine(ctx, "network room"); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.room == 0 || len(f.networks) < f.room || len(f.idleLocked()) > 0, nil
}
