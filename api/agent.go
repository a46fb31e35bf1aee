package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// HeaderRegistration carries the number of the registration under which an
// agent speaks.
const HeaderRegistration = "X-Magnum-Registration"

// agentTimeout is the time for an answer that no poll delays; agentBody is the
// time for the rest of an answer that has begun, which may be long.
const (
	agentTimeout = 10 * time.Second
	agentBody    = 30 * time.Second
	// registerTimeout is the time for the first try to register while other servers are
	// known: one that hangs is left sooner. Later tries have agentTimeout, for all
	// servers may be slow.
	registerTimeout = 3 * time.Second
	agentGrace      = time.Second // beyond a poll's wait: a silent server is left in time

	maxWork = 1 << 30 // bytes of an answer: all assignments of a host, whose specs may have 384 KiB each

	directTimeout = time.Second // for a session's server, before the one that has offered it relays
)

// AgentConfig says which servers an Agent talks to.
type AgentConfig struct {
	Servers    []string     // host[:port] or URLs; none if they are to come by SetFound
	Secure     bool         // an address that is no URL means https, not http; others than https are not followed to
	UserAgent  string       // "" means "magnum-agent"
	HTTPClient *http.Client // nil means one of its own; its Timeout must be 0
}

// Agent makes the calls of a host's agent. It talks to one server at a time
// and moves to another one when that fails to answer. It may be used by many
// goroutines. It never repeats a call by itself.
type Agent struct {
	conf      AgentConfig
	http      *http.Client
	onlyHTTPS bool // of the addresses that others name

	mu           sync.Mutex
	given        []string  // root URLs: those of the configuration, which stay for ever
	named        []string  // those that the cluster has named last
	found        []string  // those that gossip has found
	servers      []string  // root URLs: all of these
	current      int       // of servers
	spreadAt     time.Time // when it may pick another server although this one serves it; zero: not named any yet
	hostID       string
	secret       string
	registration uint64
	hung         bool             // a server was silent to a try to register since the last registration
	talks        map[string]*talk // by server
}

// talk is the calls that wait for one server. If it is silent to one of them,
// the others needn't find that out by themselves: each has its own deadline, and
// a report's would hold all later ones back for long.
type talk struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// NewAgent returns an Agent that has not registered. It opens no connection.
// CodeInvalid: an address is none.
func NewAgent(conf AgentConfig) (*Agent, error) {
	if conf.UserAgent == "" {
		conf.UserAgent = "magnum-agent"
	}
	if conf.HTTPClient == nil {
		conf.HTTPClient = &http.Client{Transport: NewTransport()}
	}
	a := &Agent{conf: conf, talks: make(map[string]*talk)}
	// A server never redirects; following one would carry the secret elsewhere.
	client := *conf.HTTPClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a.http = &client
	for _, addr := range conf.Servers {
		u, err := parseAddress(addr, schemeOf(conf.Secure))
		if err != nil {
			return nil, err
		}
		a.given = append(a.given, u.String())
	}
	a.onlyHTTPS = conf.Secure || len(a.given) > 0 && !slices.ContainsFunc(a.given, func(root string) bool { return !strings.HasPrefix(root, "https:") })
	a.SetServers(nil)
	return a, nil
}

// spreadEvery is how long an agent stays with a server at least, while that
// serves it.
const spreadEvery = 5 * time.Minute

// SetServers takes over the addresses that a cluster has named; those of the
// configuration stay. What is not an address is ignored. The current server
// stays the current one if it is still known, but for once in five to fifteen
// minutes: a server that was away for a moment has lost all its agents, and
// would have none until another one fails.
func (a *Agent) SetServers(addrs []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.named = addrs
	a.gather()
	now := time.Now()
	if now.Before(a.spreadAt) || len(addrs) == 0 {
		return
	}
	if !a.spreadAt.IsZero() { // it has not just begun, with a server that it has picked already
		a.moveTo(addrs[rand.IntN(len(addrs))])
	}
	a.spreadAt = now.Add(spreadEvery + rand.N(2*spreadEvery))
}

// moveTo makes a server the current one if its address is among those that are
// known. The caller holds mu.
func (a *Agent) moveTo(addr string) {
	root, ok := a.rootOf(addr)
	if !ok {
		return
	}
	if i := slices.Index(a.servers, root); i >= 0 {
		a.current = i
	}
}

// SetFound takes over the addresses that gossip has found, likewise.
func (a *Agent) SetFound(addrs []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found = addrs
	a.gather()
}

// gather makes one list of all servers that are known. The caller holds mu.
func (a *Agent) gather() {
	servers := slices.Clone(a.given)
	for _, addr := range slices.Concat(a.named, a.found) {
		if root, ok := a.rootOf(addr); ok && !slices.Contains(servers, root) {
			servers = append(servers, root)
		}
	}
	var now string
	if len(a.servers) > 0 {
		now = a.servers[a.current]
	}
	a.servers = servers
	if a.current = slices.Index(servers, now); a.current < 0 {
		a.current = 0
		if len(servers) > 0 {
			a.current = rand.IntN(len(servers)) // agents spread over the servers
		}
	}
}

// rootOf reads an address that somebody else has named. An agent whose own servers
// speak TLS follows to https only: it would give its token and its secret to whoever
// gossips that he is a server.
func (a *Agent) rootOf(addr string) (root string, ok bool) {
	u, err := parseAddress(addr, schemeOf(a.conf.Secure))
	if err != nil || a.onlyHTTPS && u.Scheme != "https" {
		return "", false
	}
	return u.String(), true
}

// Server returns the root URL of the current server, "" while none is known.
func (a *Agent) Server() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.servers) == 0 {
		return ""
	}
	return a.servers[a.current]
}

// Servers returns the root URLs of all servers that are known.
func (a *Agent) Servers() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.servers)
}

// Leave moves to another server, unless the current one isn't server any more.
func (a *Agent) Leave(server string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.servers); n > 1 && a.servers[a.current] == server {
		a.current = (a.current + 1 + rand.IntN(n-1)) % n
	}
}

// talk returns the talk with a server.
func (a *Agent) talk(server string) *talk {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.talks[server]
	if t == nil {
		t = new(talk)
		t.ctx, t.cancel = context.WithCancelCause(context.Background())
		a.talks[server] = t
	}
	return t
}

// end ends the talk with a server that is silent, and with it the calls that
// wait; later ones begin another.
func (a *Agent) end(server string, t *talk) {
	a.mu.Lock()
	if a.talks[server] == t {
		delete(a.talks, server)
	}
	a.mu.Unlock()
	t.cancel(context.DeadlineExceeded)
}

// Register enrols the host, or enrols it again. CodeUnauthenticated: the join
// token is not the cluster's, or the secret not the one that the host has
// registered with.
func (a *Agent) Register(ctx context.Context, r structs.HostRegister) (*structs.HostRegistered, error) {
	var out structs.HostRegistered
	_, err := a.call(ctx, http.MethodPost, "/v1/agent/hosts", r, a.registerLimit(), &out)
	a.mu.Lock()
	a.hung = err != nil && (a.hung || errors.Is(err, context.DeadlineExceeded))
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// registerLimit returns the time for the next try to register.
func (a *Agent) registerLimit() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.servers) < 2 || a.hung {
		return agentTimeout
	}
	return registerTimeout
}

// Use sets the identity that all calls but Register carry.
func (a *Agent) Use(hostID, secret string, registration uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hostID, a.secret, a.registration = hostID, secret, registration
}

// WorkRequest is a poll: what changed after Index of Incarnation, or after Wait
// at the latest that nothing did. Index 0 asks for all.
type WorkRequest struct {
	Incarnation uint64
	Index       uint64
	Wait        time.Duration
	Sent        uint64 // grows with each poll of the host; 0 for a host without leases
	Lineage     string // of the last answer; "" if none had one
	Seen        uint64 // index of the last answer, also if Index asks for all
}

// Work polls for assignments and tells which server answered.
// CodeUnauthenticated and CodeConflict: the host has to register again;
// CodeNoLeader and CodeUnavailable: another server may know more.
func (a *Agent) Work(ctx context.Context, r WorkRequest) (w *structs.Work, server string, err error) {
	query := url.Values{
		"index":       {strconv.FormatUint(r.Index, 10)},
		"incarnation": {strconv.FormatUint(r.Incarnation, 10)},
		"wait":        {r.Wait.String()},
	}
	if r.Sent > 0 {
		query.Set("sent", strconv.FormatUint(r.Sent, 10))
	}
	if r.Lineage != "" {
		query.Set("lineage", r.Lineage)
		query.Set("seen", strconv.FormatUint(r.Seen, 10))
	}
	w = new(structs.Work)
	server, err = a.call(ctx, http.MethodGet, a.hostPath("/work")+"?"+query.Encode(), nil, r.Wait+agentGrace, w)
	if err != nil {
		return nil, server, err
	}
	return w, server, nil
}

// Report sends observed states. The codes are those of Work, and
// CodeRateLimited.
func (a *Agent) Report(ctx context.Context, r structs.StatusReport) (*structs.StatusReported, error) {
	var out structs.StatusReported
	if _, err := a.call(ctx, http.MethodPost, a.hostPath("/status"), r, agentTimeout, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// ReportQuarantine says what the host keeps in quarantine. The codes are those of
// Report, CodeTooLarge: the servers note no more, and CodeNotFound of servers of an
// earlier version.
func (a *Agent) ReportQuarantine(ctx context.Context, r structs.QuarantineReport) error {
	var out structs.QuarantineReported
	_, err := a.call(ctx, http.MethodPost, a.hostPath("/quarantine"), r, agentTimeout, &out)
	return err
}

// DialSession opens the connection of a session that a server has offered. The
// user may be at another one, which is dialled first; if it can't be, the server
// that has offered the session relays. The messages are binary and begin with a
// channel byte. The caller closes the connection.
func (a *Agent) DialSession(ctx context.Context, server string, offer structs.SessionOffer) (*websocket.Conn, error) {
	path := a.hostPath("/sessions/" + url.PathEscape(offer.SID))
	if offer.Server == "" || offer.Server == server {
		return a.dialSession(ctx, server, path, agentTimeout)
	}
	var conn *websocket.Conn
	err := error(structs.Errorf(structs.CodeUnavailable, "%.128s is no address that this agent follows to", offer.Server))
	if direct, ok := a.rootOf(offer.Server); ok {
		conn, err = a.dialSession(ctx, direct, path, directTimeout)
	}
	if structs.CodeOf(err) != structs.CodeUnavailable || ctx.Err() != nil {
		return conn, err
	}
	return a.dialSession(ctx, server, path+"?via="+url.QueryEscape(offer.ServerID), agentTimeout)
}

func (a *Agent) dialSession(ctx context.Context, server, path string, limit time.Duration) (*websocket.Conn, error) {
	// A server that is silent for so long is one that can't be reached: only ctx's
	// own end is the caller's.
	dialing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	header := make(http.Header)
	a.setHeaders(header)
	conn, resp, err := websocket.Dial(dialing, server+path,
		&websocket.DialOptions{HTTPClient: a.http, HTTPHeader: header})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, decodeError(resp)
		}
		return nil, agentTransportError(ctx, server, err)
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

// hostPath is a path below the host's own.
func (a *Agent) hostPath(rest string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return "/v1/agent/hosts/" + url.PathEscape(a.hostID) + rest
}

func (a *Agent) setHeaders(h http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.Set("Accept", "application/json")
	h.Set("User-Agent", a.conf.UserAgent)
	h.Set(structs.HeaderUnderstands, structs.UnderstandsSpec)
	if a.secret != "" {
		h.Set("Authorization", "Bearer "+a.secret)
		h.Set(HeaderRegistration, strconv.FormatUint(a.registration, 10))
	}
}

// call makes one call of the current server. head is the time until its answer
// begins. A server that did not answer, or can't now, is left; if it is silent,
// by all calls.
func (a *Agent) call(ctx context.Context, method, path string, body any, head time.Duration, out any) (server string, err error) {
	server = a.Server()
	if server == "" {
		return "", structs.Errorf(structs.CodeUnavailable, "no server is known yet")
	}
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return server, structs.Errorf(structs.CodeInvalid, "the request can't be written as JSON: %w", err)
		}
		reader = bytes.NewReader(b)
	}
	callCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := a.talk(server)
	defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
	deadline := time.AfterFunc(head, func() {
		a.Leave(server) // before the others look for one
		a.end(server, t)
	})
	defer deadline.Stop()
	req, err := http.NewRequestWithContext(callCtx, method, server+path, reader)
	if err != nil {
		return server, structs.Errorf(structs.CodeInvalid, "building %s %s: %w", method, path, err)
	}
	a.setHeaders(req.Header)
	if reader != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			a.Leave(server) // not the caller's own change of mind
		}
		return server, agentTransportError(ctx, server, causeOf(callCtx, err))
	}
	defer resp.Body.Close()
	deadline.Reset(agentBody)
	if !success(resp) {
		if resp.StatusCode >= http.StatusInternalServerError {
			a.Leave(server)
		}
		return server, decodeError(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxWork)).Decode(out); err != nil {
		a.Leave(server)
		return server, agentTransportError(ctx, server, causeOf(callCtx, err))
	}
	return server, nil
}

// causeOf prefers why a call was cut off to what that looked like.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// agentTransportError makes the error of a call that got no whole answer. The
// caller's own cancellation stays what it is.
func agentTransportError(ctx context.Context, server string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &structs.Error{
		Code: structs.CodeUnavailable,
		Msg:  "no server reachable at " + server,
		Err:  &Unreachable{Address: server, Sent: true, Err: err},
	}
}
