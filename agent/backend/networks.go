package backend

import (
	"context"
	"net/netip"
)

// ProjectNetwork is the network of a project on this host.
type ProjectNetwork struct {
	ProjectID string
	Bridge    string       // name of the interface
	Gateway   netip.Prefix // the bridge's address, with the length of the network's prefix
}

// Names is how a container finds names, other than as its engine does.
type Names struct {
	Servers []string // addresses of name servers, asked if the gateway of the project's network doesn't answer
	Search  []string // domains that are added to names
}

// Networks are the networks of projects, which Create makes. A backend without them never
// returns ErrNoNetwork.
type Networks interface {
	// TidyNetworks removes the networks of the owner's projects that no container has
	// referred to for a while, or with all those that none refers to now. Unused networks
	// are kept for a while because making one takes long.
	TidyNetworks(ctx context.Context, owner Owner, all bool) error

	// NetworkRoom reports whether Create could make a network for one more project.
	NetworkRoom(ctx context.Context) (bool, error)

	// ProjectNetworks returns the networks of the owner's projects, one for each project.
	ProjectNetworks(ctx context.Context, owner Owner) ([]ProjectNetwork, error)
}
