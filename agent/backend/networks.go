package backend

import "context"

// Networks are the networks of projects that Create makes. A backend without
// them connects containers by means of its own, and never returns ErrNoNetwork.
type Networks interface {
	// TidyNetworks removes the networks of the owner's projects that no container
	// refers to and has not for a while, or, with all, at once. Create makes what
	// it needs; the networks stay in between because making them takes long.
	TidyNetworks(ctx context.Context, owner Owner, all bool) error

	// NetworkRoom reports whether Create would find a network for one more project.
	NetworkRoom(ctx context.Context) (bool, error)
}
