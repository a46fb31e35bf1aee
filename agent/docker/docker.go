// Package docker runs workloads on a Docker engine. It makes a backend of that and of the
// packages below it: consoles, images, volumes, networks.
//
// The command line makes a Docker and passes it to package agent, which calls it
// through the interfaces of package backend. The package keeps no state but caches, and
// never decides what should run. It touches only containers, networks and volumes with
// magnum's labels.
package docker

import (
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/docker/docker/client"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/console"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/images"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/agent/docker/volumes"
)

// Config configures the backend.
type Config struct {
	Host     string       // such as unix:///var/run/docker.sock; "" means DOCKER_HOST, or that socket
	Parallel int          // concurrent changing calls; default 8: more only slow the engine down
	Logger   hclog.Logger // nil logs nothing

	// NetworkPool is the address space of the projects' networks, a /24 for each; default
	// networks.DefaultPool. See networks.ParsePool.
	NetworkPool []netip.Prefix
	// NetworkKeep is how long a project's network is kept after its last container, because
	// making one takes long; default 10 minutes.
	NetworkKeep time.Duration
	// Containment bounds what containers may have of the host; the zero value means the
	// defaults.
	Containment Containment
}

func (c Config) withDefaults() Config {
	if c.Host == "" {
		c.Host = os.Getenv(client.EnvOverrideHost)
	}
	if c.Host == "" {
		c.Host = client.DefaultDockerHost
	}
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.NetworkPool == nil {
		c.NetworkPool = []netip.Prefix{netip.MustParsePrefix(networks.DefaultPool)}
	}
	if c.NetworkKeep == 0 {
		c.NetworkKeep = 10 * time.Minute
	}
	c.Containment = c.Containment.withDefaults()
	return c
}

// Docker is a backend on one engine, with all optional interfaces.
type Docker struct {
	backend.Host
	backend.Runtime
	backend.Consoles
	backend.Images
	backend.Volumes
	backend.Networks
	backend.Pods
	engine *engine.Engine
}

var _ backend.Backend = (*Docker)(nil)

// New returns a backend for the engine at conf.Host. It does not connect yet. CodeInvalid.
func New(conf Config) (*Docker, error) {
	conf = conf.withDefaults()
	if err := conf.Containment.validate(); err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Config{Host: conf.Host, Parallel: conf.Parallel, Logger: conf.Logger})
	if err != nil {
		return nil, err
	}
	rt := &runtime{
		engine: e, images: images.New(e, isInfra), volumes: volumes.New(e), contained: conf.Containment,
		networks: networks.New(e, networks.Config{Pool: conf.NetworkPool, Keep: conf.NetworkKeep, Machine: networks.MachinePrefixes}),
	}
	return &Docker{
		Host: rt, Runtime: rt, Consoles: console.New(e, rt), Images: rt.images, Volumes: rt.volumes, Networks: rt.networks,
		Pods: rt.volumes, engine: e,
	}, nil
}

// Close closes idle connections to the engine.
func (d *Docker) Close() error { return d.engine.Close() }

// runtime runs containers on the engine. The other parts make what a container refers to.
type runtime struct {
	engine   *engine.Engine
	images   *images.Images
	networks *networks.Networks
	volumes  *volumes.Volumes
	infra    infraImage

	contained Containment // of all containers

	// unstarted are containers that this agent has created and not started yet, and that
	// need nothing before their start.
	unstarted idSet
	ooms      oomKills
}

// maxIDs bounds an idSet: containers that others have removed stay in it.
const maxIDs = 10_000

// idSet is a set of the engine's IDs. It forgets them all when there are too many.
type idSet struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (s *idSet) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ids) >= maxIDs || s.ids == nil {
		s.ids = make(map[string]bool)
	}
	s.ids[id] = true
}

func (s *idSet) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

// take removes an ID, and reports whether the set had it.
func (s *idSet) take(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := s.ids[id]
	delete(s.ids, id)
	return has
}
