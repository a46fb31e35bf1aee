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

// ClusterID is the id of the cluster that this server belongs to, "" while it
// belongs to none.
type ClusterID struct {
	mu       sync.Mutex
	cluster  string
	proposed string                     // the cluster that this server makes; calls name it before it is kept
	keep     func(cluster string) error // durably; called once
	refused  sync.Map                   // "address cluster" of those that the log has named already
	count    atomic.Int32
}

// NewClusterID returns that of a server that belongs to the cluster, "" for none. keep
// is called once, before the first word of a leader is believed: it keeps the id
// durably, or refuses.
func NewClusterID(cluster string, keep func(cluster string) error) *ClusterID {
	return &ClusterID{cluster: cluster, keep: keep}
}

// Get returns the id, "" while this server belongs to no cluster.
func (i *ClusterID) Get() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cluster
}

// named returns the cluster that calls name.
func (i *ClusterID) named() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return cmp.Or(i.cluster, i.proposed)
}

// SetProposed has calls name a cluster that this server is about to make.
func (i *ClusterID) SetProposed(cluster string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.proposed = cluster
}

// errOtherCluster refuses a connection.
var errOtherCluster = errors.New("it is of another cluster")

// Accept compares the id that a server has named with this one's own. A server
// that belongs to no cluster joins the first that calls it: only a leader that
// has been told to take it in does.
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

// maxRefused bounds what the log has named.
const maxRefused = 1024

// logRefusal logs a refusal, once for each address and id that the caller has named.
// key says what id is, for the log.
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
		log.Error("a server is refused", "addr", addr, key, id, "error", err)
	}
}
