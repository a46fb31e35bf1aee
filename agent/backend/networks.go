package backend

import "context"

// Networks are the networks of projects, which Create makes. A backend without them never
// returns ErrNoNetwork.
type Networks interface {
	// TidyNetworks removes the networks of the owner's projects that no container has
	// referred to for a while, or with all those that none refers to now. Unused networks
	// are kept for a while because making one takes long.
	TidyNetworks(ctx context.Context, owner Owner, all bool) error

	// NetworkRoom reports whether Create could make a network for one more project.
	NetworkRoom(ctx context.Context) (bool, error)
}
