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

// HeaderRegistration carries the number of the agent's registration.
const HeaderRegistration = "X-Magnum-Registration"

// The deadlines and limits of an agent's calls.
const (
	agentTimeout = 10 * time.Second // for the response headers of a call that is not a poll
	bodyTimeout  = 30 * time.Second // for the rest of a response, which may be large
	pollGrace    = time.Second      // added to a poll's wait

	// registerTimeout is the deadline of the first attempt to register while other
	// servers are known: the agent leaves a hung server soon. Later attempts have
	// agentTimeout, because all servers may be slow.
	registerTimeout = 3 * time.Second

	// directTimeout is the deadline for dialing the server of a session's user.
	// After it the server that offered the session relays.
	directTimeout = time.Second

	// maxWorkSize bounds the bytes of a response. It holds all assignments of a
	// host, each with a spec of up to 384 KiB.
	maxWorkSize = 1 << 30
)

// AgentConfig says which servers an Agent calls.
type AgentConfig struct {
	Servers    []string     // host[:port] or URLs; empty if SetFound provides them
	Secure     bool         // use https for addresses without a scheme, and never another scheme for announced addresses
	UserAgent  string       // "" means "magnum-agent"
	HTTPClient *http.Client // nil means a new one; its Timeout must be 0
}

// Agent makes the calls of a host's agent. It calls one server at a time and moves
// to another one when that server fails to respond. It is safe for concurrent use.
// It never repeats a call.
type Agent struct {
	conf      AgentConfig
	http      *http.Client
	onlyHTTPS bool // for addresses from gossip, servers and session offers

	mu               sync.Mutex
	configured       []string  // root URLs from AgentConfig.Servers; never removed
	announced        []string  // addresses from SetServers
	discovered       []string  // addresses from SetFound
	servers          []string  // root URLs of all three
	current          int       // index into servers
	rebalanceAt      time.Time // earliest move away from a working server; zero before the first SetServers
	hostID           string
	secret           string
	registration     uint64
	registerTimedOut bool                     // an attempt to register timed out since the last registration
	pending          map[string]*pendingCalls // by server
}

// pendingCalls are the calls that wait for one server. When one of them times out,
// all are canceled. Otherwise each would wait for its own deadline, and the long
// one of a report would delay all later reports.
type pendingCalls struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// NewAgent returns an Agent that has not registered. It opens no connection.
// CodeInvalid: an address is neither host[:port] nor an http(s) URL.
func NewAgent(conf AgentConfig) (*Agent, error) {
	if conf.UserAgent == "" {
		conf.UserAgent = "magnum-agent"
	}
	if conf.HTTPClient == nil {
		conf.HTTPClient = &http.Client{Transport: NewTransport()}
	}
	a := &Agent{conf: conf, pending: make(map[string]*pendingCalls)}
	// A server never redirects; following a redirect would send the secret elsewhere.
	client := *conf.HTTPClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a.http = &client
	for _, addr := range conf.Servers {
		u, err := parseAddress(addr, schemeOf(conf.Secure))
		if err != nil {
			return nil, err
		}
		a.configured = append(a.configured, u.String())
	}
	a.onlyHTTPS = conf.Secure || len(a.configured) > 0 && !slices.ContainsFunc(a.configured, func(root string) bool {
		return !strings.HasPrefix(root, "https:")
	})
	a.SetServers(nil)
	return a, nil
}

// rebalanceMin is the minimum time between two voluntary changes of server.
const rebalanceMin = 5 * time.Minute

// SetServers replaces the addresses that the cluster announced; the configured
// ones stay. Invalid addresses are ignored. The current server stays current while
// it is known. But once every 5 to 15 minutes, chosen at random, the agent moves to
// a random announced server: a server that was away has lost all its agents and
// would otherwise get none back until another server fails.
func (a *Agent) SetServers(addrs []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.announced = addrs
	a.mergeServers()
	now := time.Now()
	if now.Before(a.rebalanceAt) || len(addrs) == 0 {
		return
	}
	if !a.rebalanceAt.IsZero() { // not the first call: a random server was just picked
		a.moveTo(addrs[rand.IntN(len(addrs))])
	}
	a.rebalanceAt = now.Add(rebalanceMin + rand.N(2*rebalanceMin))
}

// moveTo makes a server the current one if it is known. The caller holds mu.
func (a *Agent) moveTo(addr string) {
	root, ok := a.rootOf(addr)
	if !ok {
		return
	}
	if i := slices.Index(a.servers, root); i >= 0 {
		a.current = i
	}
}

// SetFound replaces the addresses that gossip discovered. The current server stays
// current while it is known. Invalid addresses are ignored.
func (a *Agent) SetFound(addrs []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.discovered = addrs
	a.mergeServers()
}

// mergeServers rebuilds the list of known servers. The caller holds mu.
func (a *Agent) mergeServers() {
	servers := slices.Clone(a.configured)
	for _, addr := range slices.Concat(a.announced, a.discovered) {
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
			a.current = rand.IntN(len(servers)) // spreads agents over the servers
		}
	}
}

// rootOf parses an address that is not from the configuration. An agent whose
// configured servers use TLS accepts https only: otherwise it would send its token
// and secret to anyone who gossips as a server.
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

// Servers returns the root URLs of all known servers.
func (a *Agent) Servers() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.servers)
}

// Leave moves to another known server if server is the current one.
func (a *Agent) Leave(server string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.servers); n > 1 && a.servers[a.current] == server {
		a.current = (a.current + 1 + rand.IntN(n-1)) % n
	}
}

// pendingAt returns the pending calls of a server.
func (a *Agent) pendingAt(server string) *pendingCalls {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.pending[server]
	if t == nil {
		t = new(pendingCalls)
		t.ctx, t.cancel = context.WithCancelCause(context.Background())
		a.pending[server] = t
	}
	return t
}

// cancelPending cancels the pending calls of a server that timed out. Later calls
// get a new pendingCalls.
func (a *Agent) cancelPending(server string, t *pendingCalls) {
	a.mu.Lock()
	if a.pending[server] == t {
		delete(a.pending, server)
	}
	a.mu.Unlock()
	t.cancel(context.DeadlineExceeded)
}

// Register registers the host; a host may register again. CodeUnauthenticated: the
// join token is not the cluster's, or the secret differs from that of the host's
// last registration.
func (a *Agent) Register(ctx context.Context, r structs.HostRegister) (*structs.HostRegistered, error) {
	var out structs.HostRegistered
	_, err := a.call(ctx, http.MethodPost, "/v1/agent/hosts", r, a.nextRegisterTimeout(), &out)
	a.mu.Lock()
	a.registerTimedOut = err != nil && (a.registerTimedOut || errors.Is(err, context.DeadlineExceeded))
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// nextRegisterTimeout returns the deadline of the next attempt to register.
func (a *Agent) nextRegisterTimeout() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.servers) < 2 || a.registerTimedOut {
		return agentTimeout
	}
	return registerTimeout
}

// Use sets the credentials of all calls but Register.
func (a *Agent) Use(hostID, secret string, registration uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hostID, a.secret, a.registration = hostID, secret, registration
}

// WorkRequest is a poll for the assignments that changed after Index.
type WorkRequest struct {
	Incarnation uint64        // of the state that Index belongs to
	Index       uint64        // 0 asks for all assignments
	Wait        time.Duration // the server responds by then, also if nothing changed
	Sent        uint64        // increases with each poll of the host; 0 for a host without leases
	Lineage     string        // of the last response; "" if none had one
	Seen        uint64        // index of the last response, also when Index is 0
	Behind      bool          // the host doesn't serve yet what the last response said of services
}

// Work polls for assignments. It also returns the server that responded.
// CodeUnauthenticated and CodeConflict: the host must register again;
// CodeNoLeader and CodeUnavailable: try another server.
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
	if r.Behind {
		query.Set("behind", "true")
	}
	query.Set("pages", "true")
	w = new(structs.Work)
	server, err = a.call(ctx, http.MethodGet, a.hostPath("/work")+"?"+query.Encode(), nil, r.Wait+pollGrace, w)
	if err == nil && w.More != "" {
		server, err = a.workPages(ctx, query, w)
	}
	if err != nil {
		return nil, server, err
	}
	return w, server, nil
}

// pageWait bounds the wait of a server that is behind the first page.
const pageWait = 5 * time.Second

// workPages adds the pages after the first one to a response. All pages must be of the same
// history, or the whole response is useless.
func (a *Agent) workPages(ctx context.Context, query url.Values, w *structs.Work) (server string, err error) {
	query.Set("wait", pageWait.String())
	if w.Lineage != "" { // another server may be behind the first page's
		query.Set("lineage", w.Lineage)
		query.Set("seen", strconv.FormatUint(w.Index, 10))
	}
	for w.More != "" {
		query.Set("after", w.More)
		page := new(structs.Work)
		if server, err = a.call(ctx, http.MethodGet, a.hostPath("/work")+"?"+query.Encode(), nil, pageWait+pollGrace, page); err != nil {
			return server, err
		}
		sameBay := w.BayID == nil && page.BayID == nil || w.BayID != nil && page.BayID != nil && *w.BayID == *page.BayID
		if page.Full != w.Full || page.ClusterID != w.ClusterID || page.Incarnation != w.Incarnation || page.Lineage != w.Lineage ||
			!sameBay || page.More != "" && page.More <= w.More {
			return server, structs.Errorf(structs.CodeUnavailable, "the servers have changed what they want between two pages of an answer")
		}
		w.Assignments = append(w.Assignments, page.Assignments...)
		w.More, w.Confirmed = page.More, w.Confirmed && page.Confirmed
		w.Servers, w.Acknowledged, w.Lease = page.Servers, page.Acknowledged, page.Lease
	}
	return server, nil
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

// Drained waits, for wait at most, until no ready host of the bay leads connections to a pod
// of the host that is about to end. index is that of the response which says that it ends.
// The codes are those of Report, CodeUnavailable: the wait is over, and CodeNotFound: the
// server's version doesn't know the question, or the pod isn't the host's.
func (a *Agent) Drained(ctx context.Context, podID string, index uint64, wait time.Duration) error {
	query := url.Values{"pod": {podID}, "index": {strconv.FormatUint(index, 10)}, "wait": {wait.String()}}
	var out structs.Drained
	_, err := a.call(ctx, http.MethodGet, a.hostPath("/drained")+"?"+query.Encode(), nil, wait+agentTimeout, &out)
	if err == nil && !out.Drained {
		err = structs.Errorf(structs.CodeUnavailable, "hosts that may still lead connections to the pod: %s",
			strings.Join(out.Waiting, ", "))
	}
	return err
}

// ReportQuarantine reports the containers that the host keeps in quarantine. The
// codes are those of Report, CodeTooLarge: more than the servers store, and
// CodeNotFound: the server's version doesn't know quarantine.
func (a *Agent) ReportQuarantine(ctx context.Context, r structs.QuarantineReport) error {
	var out structs.QuarantineReported
	_, err := a.call(ctx, http.MethodPost, a.hostPath("/quarantine"), r, agentTimeout, &out)
	return err
}

// DialSession opens the WebSocket of a session that server offered. The user may
// be connected to another server, which is dialed first; if that fails, server
// relays. Messages are binary and begin with a channel byte. The caller closes the
// connection.
func (a *Agent) DialSession(ctx context.Context, server string, offer structs.SessionOffer) (*websocket.Conn, error) {
	path := a.hostPath("/sessions/" + url.PathEscape(offer.SID))
	if offer.Server == "" || offer.Server == server {
		return a.dialSession(ctx, server, path, agentTimeout)
	}
	var conn *websocket.Conn
	err := error(structs.Errorf(structs.CodeUnavailable, "%.128s is not an address that this agent connects to", offer.Server))
	if direct, ok := a.rootOf(offer.Server); ok {
		conn, err = a.dialSession(ctx, direct, path, directTimeout)
	}
	if structs.CodeOf(err) != structs.CodeUnavailable || ctx.Err() != nil {
		return conn, err
	}
	return a.dialSession(ctx, server, path+"?via="+url.QueryEscape(offer.ServerID), agentTimeout)
}

func (a *Agent) dialSession(ctx context.Context, server, path string, limit time.Duration) (*websocket.Conn, error) {
	// The end of this timeout means that the server is unavailable; only the end of
	// ctx is the caller's cancellation.
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

// hostPath returns a path below the host's own.
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

// call makes one call to the current server. head is the deadline of the response
// headers. The agent leaves a server that fails to respond or responds with 5xx;
// when head passes, it also cancels all other calls to that server.
func (a *Agent) call(ctx context.Context, method, path string, body any, head time.Duration, out any) (server string, err error) {
	server = a.Server()
	if server == "" {
		return "", structs.Errorf(structs.CodeUnavailable, "no server is known yet")
	}
	var reader io.Reader
	if body != nil {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false) // the bounds of bodies count the escapes
		if err := encoder.Encode(body); err != nil {
			return server, structs.Errorf(structs.CodeInvalid, "encoding the request as JSON: %w", err)
		}
		reader = &b
	}
	callCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := a.pendingAt(server)
	defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
	deadline := time.AfterFunc(head, func() {
		a.Leave(server) // before the canceled calls are retried
		a.cancelPending(server, t)
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
			a.Leave(server) // not canceled by the caller
		}
		return server, agentTransportError(ctx, server, causeOf(callCtx, err))
	}
	defer resp.Body.Close()
	deadline.Reset(bodyTimeout)
	if !success(resp) {
		if resp.StatusCode >= http.StatusInternalServerError {
			a.Leave(server)
		}
		return server, decodeError(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxWorkSize)).Decode(out); err != nil {
		a.Leave(server)
		return server, agentTransportError(ctx, server, causeOf(callCtx, err))
	}
	return server, nil
}

// causeOf returns the cause of ctx's end, or err while ctx has not ended.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// agentTransportError returns the error of a call without a complete response: the
// cause of ctx's end, or CodeUnavailable.
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
