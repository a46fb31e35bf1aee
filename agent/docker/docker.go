// Package docker runs containers on a Docker engine.
//
// The command line makes one and hands it to package agent, which calls it
// through backend.Backend. It speaks the engine's HTTP API, negotiated down to
// 1.41 (engine 20.10), keeps no state but caches, and never decides what
// should run. It touches only containers, networks and volumes that carry
// magnum's labels.
package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Config says which engine to use, and how hard.
type Config struct {
	Host     string       // such as unix:///var/run/docker.sock; "" means DOCKER_HOST, or that socket
	Parallel int          // changing calls at a time; default 8: beyond it the engine only gets slower
	Logger   hclog.Logger // nil logs nothing

	// NetworkPool is what the networks of projects are cut from, a /24 for each;
	// default DefaultNetworkPool. See ParseNetworkPool.
	NetworkPool []netip.Prefix
	// NetworkKeep is how long a project's network stays after its last container;
	// default 10 minutes: making one takes long.
	NetworkKeep time.Duration
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
		c.NetworkPool = []netip.Prefix{netip.MustParsePrefix(DefaultNetworkPool)}
	}
	if c.NetworkKeep == 0 {
		c.NetworkKeep = 10 * time.Minute
	}
	return c
}

func (c Config) validate() error {
	if c.Parallel < 1 || c.Parallel > 256 {
		return structs.Errorf(structs.CodeInvalid, "docker parallelism %d not in 1..256", c.Parallel)
	}
	return nil
}

// How long one call of the engine may take. An engine that starts 50
// containers at once needs seconds for each.
const (
	readTimeout   = 30 * time.Second
	changeTimeout = 2 * time.Minute
)

// maxStops bounds the stops that wait in the engine. They aren't counted as
// work: a stop sleeps for up to its timeout, and eight slow ones must not keep
// every other container of the host from starting.
const maxStops = 64

// Docker is a backend on one engine, with all that a backend may offer.
type Docker struct {
	conf  Config
	cli   *client.Client
	fresh *client.Client // for what starts a process: each call has its own connection
	probe *client.Client // for signs of life, on connections of its own
	lines *lines
	log   hclog.Logger

	pingEvery, hangAfter time.Duration         // see hang.go; tests shorten them
	machine              func() []netip.Prefix // machinePrefixes; tests have their own

	agreed   atomic.Bool   // on a version of the API
	agreeing chan struct{} // holds who does that

	work  chan struct{} // a slot for each changing call
	stops chan struct{}

	mu       sync.Mutex
	pulls    map[pullKey]*pull // while under way
	projects map[projectKey]*project
	idle     map[string]time.Time   // by name of a project's network: since when no container has referred to it
	avoid    func() []netip.Addr    // what no network may have in it: the servers
	used     map[string]time.Time   // by image ID: when a container of magnum was last made of it
	fetched  map[string]time.Time   // by image ID: when it was last pulled or loaded
	commits  map[string]structs.Ref // by image ID: of which container of magnum it was made; zero for none
}

var _ interface {
	backend.Backend
	backend.Consoles
	backend.Images
	backend.Volumes
	backend.Networks
} = (*Docker)(nil)

// New returns a backend for the engine at conf.Host. It does not connect yet.
// CodeInvalid.
func New(conf Config) (*Docker, error) {
	conf = conf.withDefaults()
	if err := conf.validate(); err != nil {
		return nil, err
	}
	probe, err := connect(conf.Host)
	if err != nil {
		return nil, err
	}
	lines := &lines{open: make(map[*line]struct{})}
	cli, err := connect(conf.Host, lines.follow)
	if err != nil {
		return nil, err
	}
	fresh, err := connect(conf.Host, lines.follow, withoutKeepAlive)
	if err != nil {
		return nil, err
	}
	return &Docker{
		conf: conf, cli: cli, fresh: fresh, probe: probe, lines: lines, log: conf.Logger, pingEvery: pingEvery, hangAfter: hangAfter,
		agreeing: make(chan struct{}, 1), work: make(chan struct{}, conf.Parallel), stops: make(chan struct{}, maxStops),
		pulls: make(map[pullKey]*pull), projects: make(map[projectKey]*project), idle: make(map[string]time.Time), machine: machinePrefixes,
		used: make(map[string]time.Time), fetched: make(map[string]time.Time), commits: make(map[string]structs.Ref),
	}, nil
}

func connect(host string, opts ...client.Opt) (*client.Client, error) {
	// FromEnv first: it brings DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
	cli, err := client.NewClientWithOpts(append([]client.Opt{client.FromEnv, client.WithHost(host), client.WithAPIVersionNegotiation()}, opts...)...)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "docker host %q: %w", host, err)
	}
	return cli, nil
}

// withoutKeepAlive has each call dial. An engine that ends takes no new
// connection, stops its containers, and meanwhile serves those connections that
// it has: what is started by one of them, because it was seen to stop, never
// really runs, and leaves its file system mounted where the engine won't find it
// again.
func withoutKeepAlive(cli *client.Client) error {
	transport, ok := cli.HTTPClient().Transport.(*http.Transport)
	if !ok {
		return fmt.Errorf("its transport is a %T", cli.HTTPClient().Transport)
	}
	transport.DisableKeepAlives = true
	return nil
}

// Close closes idle connections to the engine.
func (d *Docker) Close() error { return errors.Join(d.cli.Close(), d.fresh.Close(), d.probe.Close()) }

// change runs one changing call of the engine in one of the slots.
func (d *Docker) change(ctx context.Context, slots chan struct{}, timeout time.Duration, call func(context.Context) error) error {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-slots }()
	return d.read(ctx, timeout, call)
}

// agree agrees with the engine on a version of the API before the first call. The
// clients would do so by themselves, but one call reads the version while another one
// sets it.
func (d *Docker) agree(ctx context.Context) error {
	if d.agreed.Load() {
		return nil
	}
	select {
	case d.agreeing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.agreeing }()
	if d.agreed.Load() {
		return nil
	}
	ping, err := d.cli.Ping(ctx)
	if err != nil {
		return err
	}
	d.cli.NegotiateAPIVersionPing(ping)
	d.fresh.NegotiateAPIVersionPing(ping)
	d.agreed.Store(true)
	return nil
}

// read runs one call of the engine under a deadline, and names its error.
func (d *Docker) read(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := d.agree(callCtx)
	if err == nil {
		err = call(callCtx)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case callCtx.Err() != nil:
		return &backend.Failure{Reason: backend.ErrAway, Msg: fmt.Sprintf("the Docker engine did not answer within %s", timeout), Err: err}
	}
	return failure(err)
}
