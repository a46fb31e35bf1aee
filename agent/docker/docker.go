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
	"fmt"
	"os"
	"sync"
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

// Docker is a backend.Backend on one engine.
type Docker struct {
	conf  Config
	cli   *client.Client
	log   hclog.Logger
	work  chan struct{} // a slot for each changing call
	stops chan struct{}

	mu       sync.Mutex
	pulls    map[pullKey]*pull   // while under way
	projects map[string]*project // by project ID
}

var _ backend.Backend = (*Docker)(nil)

// New returns a backend for the engine at conf.Host. It does not connect yet.
// CodeInvalid.
func New(conf Config) (*Docker, error) {
	conf = conf.withDefaults()
	if err := conf.validate(); err != nil {
		return nil, err
	}
	// FromEnv first: it brings DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithHost(conf.Host), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "docker host %q: %w", conf.Host, err)
	}
	return &Docker{
		conf: conf, cli: cli, log: conf.Logger,
		work: make(chan struct{}, conf.Parallel), stops: make(chan struct{}, maxStops),
		pulls: make(map[pullKey]*pull), projects: make(map[string]*project),
	}, nil
}

// Close closes idle connections to the engine.
func (d *Docker) Close() error { return d.cli.Close() }

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

// read runs one call of the engine under a deadline, and names its error.
func (d *Docker) read(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := call(callCtx)
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
