package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
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
	agentGrace   = time.Second // beyond a poll's wait: a silent server is left in time
)

// AgentConfig says which servers an Agent talks to.
type AgentConfig struct {
	Servers    []string     // host[:port] or URLs; at least one
	UserAgent  string       // "" means "magnum-agent"
	HTTPClient *http.Client // nil means one of its own; its Timeout must be 0
}

// Agent makes the calls of a host's agent. It talks to one server at a time
// and moves to another one when that fails to answer. It may be used by many
// goroutines. It never repeats a call by itself.
type Agent struct {
	conf AgentConfig
	http *http.Client

	mu           sync.Mutex
	given        []string // root URLs: those of the configuration, which stay for ever
	servers      []string // root URLs: given ones and those that a cluster has named
	current      int      // of servers
	hostID       string
	secret       string
	registration uint64
}

// NewAgent returns an Agent that has not registered. It opens no connection.
// CodeInvalid: an address is none, or there are none.
func NewAgent(conf AgentConfig) (*Agent, error) {
	if len(conf.Servers) == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "an agent needs the address of at least one server")
	}
	if conf.UserAgent == "" {
		conf.UserAgent = "magnum-agent"
	}
	if conf.HTTPClient == nil {
		conf.HTTPClient = &http.Client{Transport: NewTransport()}
	}
	a := &Agent{conf: conf}
	// A server never redirects; following one would carry the secret elsewhere.
	client := *conf.HTTPClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a.http = &client
	for _, addr := range conf.Servers {
		u, err := ParseAddress(addr)
		if err != nil {
			return nil, err
		}
		a.given = append(a.given, u.String())
	}
	a.SetServers(nil)
	return a, nil
}

// SetServers takes over the addresses that a cluster has named; those of the
// configuration stay. What is not an address is ignored. The current server
// stays the current one if it is still known.
func (a *Agent) SetServers(addrs []string) {
	servers := slices.Clone(a.given)
	for _, addr := range addrs {
		if u, err := ParseAddress(addr); err == nil && !slices.Contains(servers, u.String()) {
			servers = append(servers, u.String())
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var now string
	if len(a.servers) > 0 {
		now = a.servers[a.current]
	}
	a.servers = servers
	if a.current = slices.Index(servers, now); a.current < 0 {
		a.current = rand.IntN(len(servers)) // agents spread over the servers
	}
}

// Server returns the root URL of the current server.
func (a *Agent) Server() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.servers[a.current]
}

// Leave moves to another server, unless the current one isn't server any more.
func (a *Agent) Leave(server string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.servers); n > 1 && a.servers[a.current] == server {
		a.current = (a.current + 1 + rand.IntN(n-1)) % n
	}
}

// Register enrols the host, or enrols it again. CodeUnauthenticated: the join
// token is not the cluster's, or the secret not the one that the host has
// registered with.
func (a *Agent) Register(ctx context.Context, r structs.HostRegister) (*structs.HostRegistered, error) {
	var out structs.HostRegistered
	if _, err := a.call(ctx, http.MethodPost, "/v1/agent/hosts", r, agentTimeout, &out); err != nil {
		return nil, err
	}
	return &out, nil
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

// DialSession opens the connection of a session that server has offered. Its
// messages are binary and begin with a channel byte. The caller closes it.
func (a *Agent) DialSession(ctx context.Context, server, sid string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	header := make(http.Header)
	a.setHeaders(header)
	conn, resp, err := websocket.Dial(ctx, server+a.hostPath("/sessions/"+url.PathEscape(sid)),
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
	if a.secret != "" {
		h.Set("Authorization", "Bearer "+a.secret)
		h.Set(HeaderRegistration, strconv.FormatUint(a.registration, 10))
	}
}

// call makes one call of the current server. head is the time until its answer
// begins. A server that did not answer, or can't now, is left.
func (a *Agent) call(ctx context.Context, method, path string, body any, head time.Duration, out any) (server string, err error) {
	server = a.Server()
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
	deadline := time.AfterFunc(head, func() { cancel(context.DeadlineExceeded) })
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
		a.Leave(server)
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
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
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
