// Package engine is the connection to a Docker engine: it speaks the engine's HTTP
// API, negotiated down to 1.41 (engine 20.10), bounds the calls, names their errors,
// and notices an engine that hangs.
//
// All parts of the Docker backend call the engine through it. It knows magnum's
// labels, but not what is done with what carries them, and keeps no state but caches.
package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// How long one call of the engine may take. An engine that starts 50
// containers at once needs seconds for each.
const (
	ReadTimeout   = 30 * time.Second
	ChangeTimeout = 2 * time.Minute
)

// maxStops bounds the stops that wait in the engine. They aren't counted as
// work: a stop sleeps for up to its timeout, and eight slow ones must not keep
// every other container of the host from starting.
const maxStops = 64

// Config says which engine to use, and how hard. All of it is required.
type Config struct {
	Host     string // such as unix:///var/run/docker.sock
	Parallel int    // changing calls at a time, 1..256
	Logger   hclog.Logger
}

// Engine is the connection to one engine. All methods may be called by many
// goroutines at once.
type Engine struct {
	Client *client.Client // for calls that start no process
	Fresh  *client.Client // for what starts a process: each call has its own connection
	Log    hclog.Logger

	// PingEvery is the time between two signs of life that are asked for while events
	// are followed, and HangAfter how long one may take. Tests shorten both before the
	// first call.
	PingEvery, HangAfter time.Duration

	host  string
	probe *client.Client // for signs of life, on connections of its own
	lines *lines

	agreed   atomic.Bool   // on a version of the API
	agreeing chan struct{} // holds who does that

	work  chan struct{} // a slot for each changing call
	stops chan struct{}

	mu      sync.Mutex
	commits map[string]structs.Ref // by image ID: of which container of magnum it was made; zero for none
}

// New returns the connection to an engine. It does not connect yet. CodeInvalid.
func New(conf Config) (*Engine, error) {
	if conf.Parallel < 1 || conf.Parallel > 256 {
		return nil, structs.Errorf(structs.CodeInvalid, "docker parallelism %d not in 1..256", conf.Parallel)
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
	return &Engine{
		Client: cli, Fresh: fresh, Log: conf.Logger, PingEvery: pingEvery, HangAfter: hangAfter,
		host: conf.Host, probe: probe, lines: lines, agreeing: make(chan struct{}, 1),
		work: make(chan struct{}, conf.Parallel), stops: make(chan struct{}, maxStops), commits: make(map[string]structs.Ref),
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
func (e *Engine) Close() error {
	return errors.Join(e.Client.Close(), e.Fresh.Close(), e.probe.Close())
}

// Local reports whether the engine is reached on this machine alone.
func (e *Engine) Local() bool { return strings.HasPrefix(e.host, "unix://") }

// Change runs one changing call of the engine in one of the slots for work.
func (e *Engine) Change(ctx context.Context, call func(context.Context) error) error {
	return e.in(ctx, e.work, ChangeTimeout, call)
}

// Stop runs a call that waits for a process to end, for up to timeout.
func (e *Engine) Stop(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	return e.in(ctx, e.stops, timeout+ChangeTimeout, call)
}

// in runs one call in one of the slots.
func (e *Engine) in(ctx context.Context, slots chan struct{}, timeout time.Duration, call func(context.Context) error) error {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-slots }()
	return e.Read(ctx, timeout, call)
}

// agree agrees with the engine on a version of the API before the first call. The
// clients would do so by themselves, but one call reads the version while another one
// sets it.
func (e *Engine) agree(ctx context.Context) error {
	if e.agreed.Load() {
		return nil
	}
	select {
	case e.agreeing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.agreeing }()
	if e.agreed.Load() {
		return nil
	}
	ping, err := e.Client.Ping(ctx)
	if err != nil {
		return err
	}
	e.Client.NegotiateAPIVersionPing(ping)
	e.Fresh.NegotiateAPIVersionPing(ping)
	e.agreed.Store(true)
	return nil
}

// Read runs one call of the engine under a deadline, and names its error.
func (e *Engine) Read(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := e.agree(callCtx)
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
	return Failure(err)
}

// CallError names the error of a call without a deadline.
func (e *Engine) CallError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return Failure(err)
}
