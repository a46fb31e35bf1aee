// Package datapath carries the connections of services on a Docker host: it accepts them,
// leads them to pods, answers names, and relays to other hosts. It runs in a process of its
// own, which outlives the agent, so that connections survive an agent that is restarted,
// killed or upgraded.
package datapath

import (
	"net/netip"

	"github.com/stackforge/magnum/structs"
)

// Config is all that a data path serves. The agent hands over a new one whenever something
// has changed; what is the same in both stays open.
type Config struct {
	HostID    string    `json:"host_id"`
	Projects  []Project `json:"projects"`            // those that have a network on this host
	Services  []Service `json:"services"`            // of the host's bay, of all projects
	Upstreams []string  `json:"upstreams,omitempty"` // DNS servers of the host, host:port, for all other names
	Relay     Relay     `json:"relay,omitzero"`
}

// Project is a project with a network on this host.
type Project struct {
	ID string `json:"id"`
	// Gateway is the bridge's address, from which the data path serves the project.
	Gateway netip.Prefix `json:"gateway"`
	Bridge  string       `json:"bridge"` // name of the interface
}

// Service is a service with the pods that it leads to.
type Service = structs.ServiceAssignment

// Relay is what the data path needs to reach other hosts and to be reached.
type Relay struct {
	// Listen is where other hosts dial, host:port; "" if this host can't be dialled.
	Listen string `json:"listen,omitempty"`
	// KeyFile holds the private key, PEM; "" means no relay at all.
	KeyFile string              `json:"key_file,omitempty"`
	Peers   []structs.RelayPeer `json:"peers,omitempty"`
}

// Status is what a data path says after it has taken a Config.
type Status struct {
	Version string `json:"version"` // of the program that runs
	PID     int    `json:"pid"`
	// TCP is the port by project ID on which the gateway takes the connections that the
	// host redirects. Their original destination says which service is meant.
	TCP map[string]int `json:"tcp"`
	// UDP lists where the gateway takes the datagrams that the host redirects.
	UDP []UDPPort `json:"udp"`
	// Problems are what isn't served, and why: a port that is taken, a peer that can't be
	// reached.
	Problems []Problem `json:"problems,omitempty"`
}

// UDPPort is where the datagrams for one port of a service are taken.
type UDPPort struct {
	ServiceID string `json:"service_id"`
	Port      int    `json:"port"`  // of the service
	Local     int    `json:"local"` // on the gateway
}

// Problem is something that isn't served.
type Problem struct {
	ServiceID string `json:"service_id,omitempty"` // "" if it is no single service's
	HostID    string `json:"host_id,omitempty"`    // the peer that can't be reached; "" if it is no peer's
	Reason    string `json:"reason"`               // what happened, and what to do
}
