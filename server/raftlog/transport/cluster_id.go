package transport

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// ClusterID holds the ID of the cluster that this server belongs to, "" while it
// belongs to none.
type ClusterID struct {
	mu       sync.Mutex
	cluster  string
	proposed string                     // the cluster that this server is about to bootstrap; "" if none
	keep     func(cluster string) error // stores the ID durably; called once
	refused  sync.Map                   // "address cluster" of refusals already logged
	count    atomic.Int32
}

// NewClusterID returns the ClusterID of a server that belongs to the cluster, "" for
// none. keep is called once, before anything from a leader is believed: it stores the
// ID durably, or refuses.
func NewClusterID(cluster string, keep func(cluster string) error) *ClusterID {
	return &ClusterID{cluster: cluster, keep: keep}
}

// Get returns the cluster's ID, "" while this server belongs to none.
func (i *ClusterID) Get() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cluster
}

// named returns the cluster that this server's calls name.
func (i *ClusterID) named() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return cmp.Or(i.cluster, i.proposed)
}

// SetProposed makes calls name a cluster that this server is about to bootstrap.
func (i *ClusterID) SetProposed(cluster string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.proposed = cluster
}

// errOtherCluster is the reason for refusing a caller of another cluster.
var errOtherCluster = errors.New("it belongs to another cluster")

// Accept compares the cluster that a caller names with this server's own. A server that
// belongs to no cluster joins the first one that calls it: only a leader that adds it
// does so.
func (i *ClusterID) Accept(cluster string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case cluster == "" || cluster == i.cluster:
		return nil
	case i.cluster != "":
		return fmt.Errorf("%w: %s, not %s", errOtherCluster, cluster, i.cluster)
	}
	if err := i.keep(cluster); err != nil {
		return err
	}
	i.cluster = cluster
	return nil
}

// maxRefused bounds the number of refusals that are logged.
const maxRefused = 1024

// logRefusal logs a refusal once for each pair of caller address and id. key is the log
// key of id.
func (i *ClusterID) logRefusal(log hclog.Logger, addr, key, id string, err error) {
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		host = addr
	}
	if i.count.Load() > maxRefused {
		return
	}
	if _, known := i.refused.LoadOrStore(host+" "+id, true); !known {
		i.count.Add(1)
		log.Error("connection of a server refused", "addr", addr, key, id, "error", err)
	}
}
