package operator

import (
	"net/http"
	"slices"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/rest/web"
)

// Config is what the routes need besides the service.
type Config struct {
	MaxSnapshot int64                        // limit of a snapshot file, in bytes
	Peers       web.Peers                    // nil: there are no other servers
	Cluster     interface{ IsLeader() bool } // whether this server leads
	Metrics     http.Handler                 // nil: this server has no metrics
	Leader      func() (name, address string)
	Room        func() error  // why nothing can be written to the disk
	Behind      func() uint64 // number of committed entries that this server has not applied
	Logger      hclog.Logger
}

// Routes returns the routes.
func Routes(c Config) []*web.Route {
	return slices.Concat(
		operatorRoutes(c.Leader),
		snapshots{most: c.MaxSnapshot, peers: c.Peers, cluster: c.Cluster, log: c.Logger}.routes(),
		metrics{c.Metrics}.routes(),
		status{leader: c.Leader, room: c.Room, behind: c.Behind}.routes(),
	)
}
