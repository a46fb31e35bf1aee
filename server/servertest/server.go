package servertest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// JoinToken is the token with which agents register.
const JoinToken = "join-token-of-the-tests"

// Server is a cluster of one server.
type Server struct {
	Store     *state.Store
	Log       *Log
	Conductor *conductor.Conductor
	Dispatch  *dispatch.Dispatch
	REST      *rest.Server
	URL       string // http://host:port

	ctx   context.Context
	parts sync.WaitGroup
	lead  context.CancelFunc // ends the current leadership
	led   chan struct{}      // closed when the leadership has ended
	away  away
}

// Option is an option of New.
type Option func(*rest.Config)

// WithAuth sets the authenticator of tokens.
func WithAuth(a identity.Authenticator) Option {
	return func(c *rest.Config) { c.Authenticator = a }
}

// WithTokens makes the server require local tokens. None exist yet.
func WithTokens() Option {
	return func(c *rest.Config) {
		c.LocalTokens = true
		c.Authenticator = identity.Tokens{
			Find: func(id string) *structs.Token { return c.Store.Snapshot().Token(id) },
			CatchUp: func(ctx context.Context) error {
				index, err := c.Cluster.ReadIndex(ctx)
				if err != nil {
					return err
				}
				return c.Store.WaitIndex(ctx, index)
			},
		}
	}
}

// WithLogger sets the logger of the REST API.
func WithLogger(l hclog.Logger) Option { return func(c *rest.Config) { c.Logger = l } }

// WithHold sets the time for which requests wait for a leader.
func WithHold(d time.Duration) Option { return func(c *rest.Config) { c.Hold = d } }

// WithPatience sets the default time for which actions wait for their result.
func WithPatience(d time.Duration) Option { return func(c *rest.Config) { c.Patience = d } }

// WithHosts makes the server accept only these names, IP addresses and localhost in the
// Host header.
func WithHosts(names ...string) Option {
	return func(c *rest.Config) { c.Hosts = append([]string{}, names...) }
}

// WithBodyTime limits the time to read the body of a request.
func WithBodyTime(d time.Duration) Option { return func(c *rest.Config) { c.BodyTime = d } }

// WithHostPatience limits the time to collect lists from hosts.
func WithHostPatience(d time.Duration) Option { return func(c *rest.Config) { c.HostPatience = d } }

// WithMaxImageFile limits the size of an archive of images, in bytes.
func WithMaxImageFile(n int64) Option { return func(c *rest.Config) { c.MaxImageFile = n } }

// WithFetch sets what fetches manifests. A test's own server has an address that the real
// fetch refuses.
func WithFetch(f func(ctx context.Context, url string) (string, error)) Option {
	return func(c *rest.Config) { c.Fetch = f }
}

// WithPools sets what services of bays get their addresses and node ports from.
func WithPools(p services.Pools) Option { return func(c *rest.Config) { c.Pools = p } }

// WithEventTick sets the interval of keep-alives in a stream of events.
func WithEventTick(d time.Duration) Option { return func(c *rest.Config) { c.EventTick = d } }

// hostLostAfter is long, so that no host is lost on a slow machine. Tests mark hosts lost
// with Lose.
const hostLostAfter = time.Hour

// New starts a server as leader and initializes its cluster. The server ends with the
// test.
func New(t testing.TB, options ...Option) *Server {
	t.Helper()
	return NewOfSchema(t, structs.SchemaVersion, options...)
}

// NewOfSchema is New with a cluster that uses an earlier schema, as one does in which a
// server of an earlier version takes part.
func NewOfSchema(t testing.TB, schema int, options ...Option) *Server {
	t.Helper()
	s := &Server{Store: state.New()}
	s.Log = &Log{store: s.Store}
	s.Conductor = conductor.New(conductor.Config{Store: s.Store, Proposer: s.Log, Logger: hclog.NewNullLogger()})
	s.Dispatch = dispatch.New(dispatch.Config{
		Store: s.Store, Conductor: s.Conductor, Logger: hclog.NewNullLogger(), ReadIndex: s.Log.ReadIndex,
		HostLostAfter: hostLostAfter,
		Servers:       func() []string { return []string{s.URL} },
	})
	config := rest.Config{
		Store: s.Store, Conductor: s.Conductor, Dispatch: s.Dispatch, Cluster: s.Log, Version: "0.0.0-test",
		Patience: 5 * time.Second,
	}
	for _, o := range options {
		o(&config)
	}
	s.REST = rest.New(config)

	ctx, stop := context.WithCancel(context.Background())
	s.ctx = ctx
	web := httptest.NewUnstartedServer(s.away.guard(s.REST.Handler()))
	web.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	web.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
	web.Start()
	s.URL = web.URL
	t.Cleanup(func() {
		stop()
		s.StopLeading()
		web.CloseClientConnections()
		web.Close()
		s.parts.Wait()
	})
	s.StartLeading(t)
	s.MustDo(t, func() error {
		_, err := conductor.Do(ctx, s.Conductor, conductor.InitCluster{
			ClusterID: structs.NewID(), JoinTokenHash: structs.HashSecret(JoinToken),
			HostLostAfter: hostLostAfter, Schema: schema,
		})
		return err
	})
	return s
}

// StartLeading starts a leadership and waits until the conductor leads.
func (s *Server) StartLeading(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	led := make(chan struct{})
	s.lead, s.led = cancel, led
	var parts sync.WaitGroup
	parts.Go(func() {
		defer cancel()
		_ = s.Conductor.Lead(ctx, 1) // ends with the leadership or a failed proposal
	})
	for _, step := range conductor.Steps {
		parts.Go(func() { s.settle(ctx, step) })
	}
	parts.Go(func() { _ = s.Dispatch.Lead(ctx) }) // ends with the leadership
	s.parts.Go(func() {
		defer close(led)
		parts.Wait()
	})
	Eventually(t, "the conductor leads", func() bool {
		_, err := conductor.Do(ctx, s.Conductor, conductor.ExpireKeys{})
		return err == nil
	})
}

// StopLeading ends the leadership and waits for its parts.
func (s *Server) StopLeading() {
	s.lead()
	<-s.led
}

// settle runs a step of conductor.Settle as the leader does, until ctx ends.
func (s *Server) settle(ctx context.Context, step *conductor.Step) {
	changed := s.Store.Subscribe(step.Topics()...)
	defer changed.Close()
	for {
		more, err := conductor.Do(ctx, s.Conductor, conductor.Settle{Step: step})
		if ctx.Err() != nil {
			return
		}
		if err == nil && more {
			continue
		}
		select {
		case <-changed.C():
		case <-ctx.Done():
			return
		}
	}
}

// MustDo repeats do while it returns CodeNoLeader, and fails the test on another error.
func (s *Server) MustDo(t testing.TB, do func() error) {
	t.Helper()
	var err error
	Eventually(t, "the request is carried out", func() bool {
		err = do()
		return structs.CodeOf(err) != structs.CodeNoLeader
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until the condition is true, and fails the test after ten seconds.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not within 10s: %s", what)
		}
	}
}

// client is the HTTP client of the fake agents.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Leading reports whether the leadership is running.
func (s *Server) Leading() bool {
	select {
	case <-s.led:
		return false
	default:
		return true
	}
}

// WithAudit sets the audit log.
func WithAudit(a web.Auditor) Option { return func(c *rest.Config) { c.Audit = a } }

// WithObserve sets what observes the requests of each route.
func WithObserve(observe func(method, route string) func(status int, took time.Duration)) Option {
	return func(c *rest.Config) { c.Observe = observe }
}
