// Package engine is the connection to a Docker engine. It speaks the engine's HTTP API,
// negotiated down to 1.41 (engine 20.10), bounds the calls, converts their errors, and
// notices an engine that hangs.
//
// All parts of the Docker backend call the engine through it. It knows magnum's labels, but
// not what the labelled objects are used for. It keeps no state but caches.
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

// The deadlines of the engine's calls. An engine that starts 50 containers at once needs
// seconds for each.
const (
	ReadTimeout   = 30 * time.Second
	ChangeTimeout = 2 * time.Minute
)

// maxStops bounds the concurrent stops. Stops have slots of their own, because a stop
// waits up to its timeout: a few slow stops must not keep other containers from
// starting.
const maxStops = 64

// Config configures the connection. All fields are required.
type Config struct {
	Host     string // such as unix:///var/run/docker.sock
	Parallel int    // concurrent changing calls, 1..256
	Logger   hclog.Logger
}

// Engine is the connection to one engine. All methods are safe for concurrent use.
type Engine struct {
	Client *client.Client // for calls that start no process, after Negotiate
	Fresh  *client.Client // for calls that start a process: each call has its own connection
	Log    hclog.Logger

	// PingEvery is the time between two pings while events are followed, and HangAfter
	// is how long the answer to a ping may take. Tests shorten both before the first
	// call.
	PingEvery, HangAfter time.Duration

	host  string
	probe *client.Client // for pings, on connections of its own
	conns *connTracker

	negotiated  atomic.Bool   // the version of the API was negotiated
	negotiation chan struct{} // held by the call that negotiates

	work  chan struct{} // a slot for each changing call
	stops chan struct{}

	mu      sync.Mutex
	commits map[string]attempt // by image ID: the container of magnum's that the image is a commit of; zero for none
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
	conns := &connTracker{open: make(map[*trackedConn]struct{})}
	cli, err := connect(conf.Host, conns.follow)
	if err != nil {
		return nil, err
	}
	fresh, err := connect(conf.Host, conns.follow, withoutKeepAlive)
	if err != nil {
		return nil, err
	}
	return &Engine{
		Client: cli, Fresh: fresh, Log: conf.Logger, PingEvery: pingEvery, HangAfter: hangAfter,
		host: conf.Host, probe: probe, conns: conns, negotiation: make(chan struct{}, 1),
		work: make(chan struct{}, conf.Parallel), stops: make(chan struct{}, maxStops), commits: make(map[string]attempt),
	}, nil
}

func connect(host string, opts ...client.Opt) (*client.Client, error) {
	// FromEnv comes first: it sets DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
	cli, err := client.NewClientWithOpts(append([]client.Opt{client.FromEnv, client.WithHost(host), client.WithAPIVersionNegotiation()},
		opts...)...)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "docker host %q: %w", host, err)
	}
	return cli, nil
}

// withoutKeepAlive makes each call dial. An engine that ends takes no new connection
// and stops its containers, but still serves open connections. A container that is
// started through one of these, because it was seen to stop, never really runs. Its
// file system stays mounted where the engine won't find it again.
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

// Local reports whether the engine is on this machine.
func (e *Engine) Local() bool { return strings.HasPrefix(e.host, "unix://") }

// Change makes one changing call in one of the slots for work.
func (e *Engine) Change(ctx context.Context, call func(context.Context) error) error {
	return e.inSlot(ctx, e.work, ChangeTimeout, call)
}

// Stop makes a call that waits up to timeout for a process to end.
func (e *Engine) Stop(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	return e.inSlot(ctx, e.stops, timeout+ChangeTimeout, call)
}

// inSlot makes one call in one of the slots.
func (e *Engine) inSlot(ctx context.Context, slots chan struct{}, timeout time.Duration, call func(context.Context) error) error {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-slots }()
	return e.Read(ctx, timeout, call)
}

// Negotiate negotiates the version of the API unless a call has done so. It comes before
// each call outside Read, Change and Stop that may be the first one. The clients would
// negotiate themselves, but with a data race: one call reads the version while another
// sets it. And after a ping that fails they call with their newest version, which an older
// engine refuses.
func (e *Engine) Negotiate(ctx context.Context) error {
	return e.Read(ctx, ReadTimeout, func(context.Context) error { return nil })
}

// negotiate is Negotiate without a deadline. It returns the engine's own error.
func (e *Engine) negotiate(ctx context.Context) error {
	if e.negotiated.Load() {
		return nil
	}
	select {
	case e.negotiation <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.negotiation }()
	if e.negotiated.Load() {
		return nil
	}
	ping, err := e.Client.Ping(ctx)
	if err != nil {
		return err
	}
	e.Client.NegotiateAPIVersionPing(ping)
	e.Fresh.NegotiateAPIVersionPing(ping)
	e.negotiated.Store(true)
	return nil
}

// Read makes one call under a deadline, and converts its error.
func (e *Engine) Read(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := e.negotiate(callCtx)
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

// CallError converts the error of a call without a deadline.
func (e *Engine) CallError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return Failure(err)
}
