// Package services keeps what a Docker host knows of the services of its bay, and makes the
// host serve them: it hands them to the data path (package agent/datapath), and has
// connections redirected to it (package agent/redirect).
//
// Package agent makes a Services, passes on the answers to its polls, and asks it what
// containers need to know of services: name servers, variables, and when a pod may end. The
// package decides nothing about containers.
package services

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/agent/redirect"
	"github.com/stackforge/magnum/structs"
)

// DataPath is the process that carries the connections. *datapath.Client is one.
type DataPath interface {
	Apply(ctx context.Context, conf datapath.Config) (datapath.Status, error)
	Status(ctx context.Context) (datapath.Status, error)
	Done() <-chan struct{} // closed when the process has ended
	Stop(ctx context.Context) error
	Close() // ends the connection; the process goes on
}

// Filter is the kernel's packet filter. *redirect.Table is one.
type Filter interface {
	Set(redirect.Rules) error
	Check() error // makes again what somebody else has removed
	Remove() error
}

// Config is what Services need. All fields are required, unless they say otherwise.
type Config struct {
	HostID string
	// Networks returns the networks of projects on this host.
	Networks func(context.Context) ([]backend.ProjectNetwork, error)
	// Open finds the data path, or starts it. Running reports whether one may run that an
	// earlier instance of the agent has started.
	Open    func(context.Context) (DataPath, error)
	Running func() bool
	Filter  Filter
	// Resolver returns the host's own name servers.
	Resolver func() Resolver
	// Relay has Listen and KeyFile; zero for no relay.
	Relay datapath.Relay
	// Drained asks the servers to wait until no other host leads connections to a pod, for
	// wait at most. An error says that some may.
	Drained func(ctx context.Context, podID string, wait time.Duration) error
	// Report is called with all that isn't served, whenever that changes. nil for nobody.
	Report func([]datapath.Problem)
	Log    hclog.Logger
}

// Services are the services of the host's bay. All methods are safe for concurrent use. A nil
// Services is that of a host that serves none.
type Services struct {
	conf Config
	kick chan struct{} // capacity 1: something has changed

	mu       sync.Mutex
	known    bool // an answer has said which services the bay has
	bay      string
	services map[string]structs.ServiceAssignment // by ID
	peers    []structs.RelayPeer
	version  uint64 // raised by each change of what was answered
	drains   map[drainKey]*drain
	dropped  bool // variables were left out, and that was logged

	// What the data path and the filter have:
	done     uint64 // the version that was last tried
	up       bool   // that has succeeded, and there is anything to serve
	begun    bool   // they may have something
	applied  datapath.Config
	problems []datapath.Problem
	changed  chan struct{} // closed when one of these changes
}

// New returns the services of a host of which no answer has told yet.
func New(conf Config) *Services {
	return &Services{conf: conf, kick: make(chan struct{}, 1), services: make(map[string]structs.ServiceAssignment),
		drains: make(map[drainKey]*drain), changed: make(chan struct{})}
}

// Take takes over what an answer to a poll says, in the order of the answers. changed: there
// is something for Await to wait for.
func (s *Services) Take(w *structs.Work) (changed bool) {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first, was := !s.known, len(s.services)
	moved := w.BayID != nil && *w.BayID != s.bay
	if moved {
		s.bay = *w.BayID
	}
	switch news := w.Services; {
	case news != nil:
		if news.Full || moved {
			clear(s.services)
		}
		for _, a := range news.Services {
			s.services[a.ID] = a
		}
		s.peers = slices.Clone(news.Peers)
	case w.Full || moved: // the bay has none
		clear(s.services)
		s.peers = nil
		first = first || was > 0
	default:
		return false
	}
	s.known = s.known || w.Full
	if w.Services == nil && !first {
		return false
	}
	s.version++
	s.Kick()
	return true
}

// Kick has the networks of the host looked at soon.
func (s *Services) Kick() {
	if s == nil {
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// applyWait is how long Await waits. It delays the next poll, which is a heartbeat.
const applyWait = 500 * time.Millisecond

// Await waits, for a short time at most, until the host serves what the last answer said. The
// next poll tells the servers whether it does.
func (s *Services) Await(ctx context.Context) (serves bool) {
	if s == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, applyWait)
	defer cancel()
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	return s.until(ctx, func() bool { return s.done >= version })
}

// until waits until a condition holds, or ctx ends. The condition is called with mu held.
func (s *Services) until(ctx context.Context, holds func() bool) (ok bool) {
	for {
		s.mu.Lock()
		ok, changed := holds(), s.changed
		s.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// The pauses between two looks at the networks and the filter, and between two tries.
const (
	lookInterval = 15 * time.Second
	soonInterval = 3 * time.Second // while something isn't served
	retryMin     = 200 * time.Millisecond
	retryMax     = 10 * time.Second
)

// callTimeout bounds one try.
const callTimeout = 30 * time.Second

// Run serves the services until ctx ends, and returns nil. The data path goes on.
func (s *Services) Run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	r := &runner{s: s}
	defer func() { r.leave() }()
	t := time.NewTimer(lookInterval)
	defer t.Stop()
	retry := retryMin
	for {
		look := false
		select {
		case <-s.kick:
		case <-r.ended():
			s.conf.Log.Warn("data path has ended; it is started again")
			r.leave()
		case <-t.C:
			look = true
		case <-ctx.Done():
			return nil
		}
		next := lookInterval
		err := r.try(ctx, look)
		if r.troubled {
			next = soonInterval
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			next, retry = retry, min(2*retry, retryMax)
		default:
			retry = retryMin
		}
		t.Reset(next)
	}
}

// Stop ends the data path and removes the redirections. Run has returned.
func (s *Services) Stop(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if !begun && !s.conf.Running() {
		return nil
	}
	return (&runner{s: s}).end(ctx)
}

// runner makes the host serve the services. It belongs to one goroutine.
type runner struct {
	s        *Services
	path     DataPath                 // nil if none is known
	networks []backend.ProjectNetwork // last known; nil if unknown
	last     *datapath.Config         // what path has taken; nil if unknown
	rules    *redirect.Rules          // that the filter has; nil if unknown
	said     string                   // the last error that was logged
	// away are the other hosts that couldn't be reached at the last look. troubled says that
	// the last look has found problems.
	away     map[string]bool
	troubled bool
}

// ended is closed when the data path has ended.
func (r *runner) ended() <-chan struct{} {
	if r.path == nil {
		return nil
	}
	return r.path.Done()
}

// try makes the host serve what is known now. look: also what somebody else may have changed
// is looked at.
func (r *runner) try(ctx context.Context, look bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s := r.s
	s.mu.Lock()
	version, known, none := s.version, s.known, len(s.services) == 0
	s.mu.Unlock()
	if !known {
		return nil // a data path of before serves what it did
	}
	conf, problems, err := datapath.Config{}, []datapath.Problem(nil), error(nil)
	serves := false
	if !none || r.path != nil || s.conf.Running() {
		conf, serves, err = r.config(ctx)
		if err == nil {
			problems, err = r.serve(ctx, conf, serves, look)
		}
	}
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	problems, r.troubled = r.lasting(problems), len(problems) > 0
	if err != nil {
		problems = append(problems, datapath.Problem{Reason: err.Error()})
		if text := err.Error(); text != r.said {
			r.said = text
			s.conf.Log.Error("the services of the bay are not served here; it is tried again", "error", err)
		}
	} else if r.said != "" {
		r.said = ""
		s.conf.Log.Info("the services of the bay are served here")
	}
	s.finish(version, conf, serves, err == nil, problems)
	return err
}

// lasting returns the problems that are reported: hosts that can't be reached are, from the
// second look on. At the first one, another host may just not be as far.
func (r *runner) lasting(all []datapath.Problem) []datapath.Problem {
	away := make(map[string]bool)
	var lasting []datapath.Problem
	for _, p := range all {
		if p.HostID == "" || r.away[p.HostID] {
			lasting = append(lasting, p)
		}
		if p.HostID != "" {
			away[p.HostID] = true
		}
	}
	r.away = away
	return lasting
}

// finish notes what a try has come to.
func (s *Services) finish(version uint64, conf datapath.Config, serves, ok bool, problems []datapath.Problem) {
	s.mu.Lock()
	s.done, s.up, s.begun = version, serves && ok, s.begun || serves
	if ok {
		s.applied = conf
	}
	news := !slices.Equal(s.problems, problems)
	s.problems = problems
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if !news {
		return
	}
	for _, p := range problems {
		s.conf.Log.Warn("service not served", "service_id", p.ServiceID, "peer_id", p.HostID, "reason", p.Reason)
	}
	if s.conf.Report != nil {
		s.conf.Report(problems)
	}
}

// config returns what the data path is to serve. serves: there is anything to serve.
func (r *runner) config(ctx context.Context) (conf datapath.Config, serves bool, err error) {
	networks, err := r.listNetworks(ctx)
	if err != nil {
		return conf, false, fmt.Errorf("the networks of projects are unknown: %w", err)
	}
	conf = datapath.Config{HostID: r.s.conf.HostID, Relay: r.s.conf.Relay}
	for _, n := range networks {
		conf.Projects = append(conf.Projects, datapath.Project{ID: n.ProjectID, Gateway: n.Gateway, Bridge: n.Bridge})
	}
	slices.SortFunc(conf.Projects, func(a, b datapath.Project) int { return cmp.Compare(a.ID, b.ID) })
	for _, server := range r.s.conf.Resolver().Servers {
		conf.Upstreams = append(conf.Upstreams, netip.AddrPortFrom(server, dnsPort).String())
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(r.s.services)) {
		conf.Services = append(conf.Services, r.s.services[id])
	}
	if conf.Relay.KeyFile != "" {
		conf.Relay.Peers = slices.Clone(r.s.peers)
	}
	// Containers that were made before ask this host for names, also once the last service is
	// gone.
	return conf, len(conf.Services)+len(conf.Projects) > 0, nil
}

// listTimeout is how long an engine may take to list its networks, if they are known.
const listTimeout = 2 * time.Second

// listNetworks returns the networks of projects: the last known ones while the engine is away
// or hangs. Where pods of other hosts are changes meanwhile, and the data path must know.
func (r *runner) listNetworks(ctx context.Context) ([]backend.ProjectNetwork, error) {
	if r.networks == nil {
		list, err := r.s.conf.Networks(ctx)
		if err == nil {
			r.networks = append([]backend.ProjectNetwork{}, list...)
		}
		return list, err
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := r.s.conf.Networks(ctx)
	if err != nil {
		r.s.conf.Log.Debug("networks of projects not listed; the last known ones are served", "error", err)
		return r.networks, nil
	}
	r.networks = append([]backend.ProjectNetwork{}, list...)
	return list, nil
}

// dnsPort is the port of name servers.
const dnsPort = 53

// serve makes the host serve a configuration.
func (r *runner) serve(ctx context.Context, conf datapath.Config, serves, look bool) ([]datapath.Problem, error) {
	if !serves {
		return nil, r.end(ctx)
	}
	if r.path == nil {
		path, err := r.s.conf.Open(ctx)
		if err != nil {
			return nil, err
		}
		r.path, r.last = path, nil
	}
	same := r.last != nil && reflect.DeepEqual(*r.last, conf)
	var status datapath.Status
	var err error
	switch {
	case !same:
		r.last = nil
		status, err = r.path.Apply(ctx, conf)
	default:
		status, err = r.path.Status(ctx)
	}
	if err != nil {
		r.leave() // it may have ended
		return nil, fmt.Errorf("the data path doesn't take its configuration: %w", err)
	}
	r.last = &conf
	rules := redirect.RulesOf(conf, status)
	switch {
	case r.rules == nil || !r.rules.Equal(&rules):
		r.rules = nil
		err = r.s.conf.Filter.Set(rules)
	case look:
		err = r.s.conf.Filter.Check()
	}
	if err == nil {
		r.rules = &rules
	}
	return status.Problems, err
}

// end ends the data path and removes the redirections.
func (r *runner) end(ctx context.Context) error {
	if err := r.s.conf.Filter.Remove(); err != nil {
		return err
	}
	r.rules = nil
	if r.path == nil {
		path, err := r.s.conf.Open(ctx)
		if err != nil {
			return err
		}
		r.path = path
	}
	if err := r.path.Stop(ctx); err != nil {
		return err
	}
	r.leave()
	return nil
}

// leave ends the connection to the data path.
func (r *runner) leave() {
	if r.path != nil {
		r.path.Close()
	}
	r.path, r.last = nil, nil
}
