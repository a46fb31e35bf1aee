package peer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Headers of calls between servers.
const (
	HeaderPeer  = "X-Magnum-Peer"  // the peer secret: whoever sends it is a server of this cluster
	HeaderProof = "X-Magnum-Proof" // of a server that asks for a part in a new cluster, which has no secret yet
	HeaderSeed  = "X-Magnum-Seed"  // of a forwarded request: what its ids and secrets are derived from
	// HeaderUnsure is in a forwarded request of which an earlier try may have been
	// carried out: the index of a state that the first server had when it came.
	HeaderUnsure = "X-Magnum-Unsure"
	HeaderAsked  = "X-Magnum-Asked" // of a forwarded request: its request ID, the same in each try
	// HeaderOutcome is in an answer of 503: "unknown" if the write may have been
	// carried out, and otherwise not there.
	HeaderOutcome = "X-Magnum-Outcome"
	HeaderIndex   = "X-Magnum-Index"
	// HeaderServer is, in a call, the id of the server that is meant, and in the
	// answer of the one that was reached: gossip may have named a wrong address.
	HeaderServer = "X-Magnum-Server"
)

// OutcomeUnknown is the one value of HeaderOutcome.
const OutcomeUnknown = "unknown"

// Config is what a Client needs.
type Config struct {
	// URLs returns where a server's REST API may be: roots, which are tried in
	// this order until that server is reached; none while it isn't known.
	URLs   func(serverID string) []string
	Secret func() string // the peer secret, "" while this server has no state
	// TLS is the configuration of one connection to a server. It has to refuse
	// whoever is none: addresses come from gossip, which proves nothing. nil: no
	// TLS; else nothing but https is called.
	TLS func() *tls.Config
	// Forwarded is called with each request that was handed on: whether the leader
	// has answered it. nil tells nobody.
	Forwarded func(answered bool)
	// Patience is how long the leader may take to answer a request that was handed
	// on. It answers once it has decided, and waits for nothing else. 0 means 5s.
	Patience time.Duration
}

// Client makes calls of other servers. It may be used by many goroutines, and
// never repeats a call.
type Client struct {
	Config
	transport *http.Transport
	http      *http.Client
	proven    sync.Map // by server ID: the root at which it has answered last; only with TLS
}

// defaultPatience is Config.Patience if there is none: as long as a write waits
// for a leader.
const defaultPatience = 5 * time.Second

// callTimeout bounds a call that waits for nothing but the other server.
const callTimeout = 2 * time.Second

// maxAnswer bounds the answer of a peer.
const maxAnswer = 4 << 20

// New returns a Client. It opens no connection.
func New(c Config) *Client {
	c.Patience = cmp.Or(c.Patience, defaultPatience)
	// Few servers, each of which may have many requests of the other under way.
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second, KeepAlive: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     time.Minute,
	}
	if c.TLS != nil {
		// The transport itself, so that nothing that is ever sent gets around it.
		transport.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
			return nil, &net.OpError{Op: opDial, Net: network, Err: fmt.Errorf("%s has no https address, and servers with TLS call no other", addr)}
		}
		transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			conn, err := (&tls.Dialer{Config: c.TLS()}).DialContext(ctx, network, addr)
			if dial := (*net.OpError)(nil); err != nil && !(errors.As(err, &dial) && dial.Op == opDial) {
				err = &net.OpError{Op: opDial, Net: network, Err: err} // of the handshake: no request has begun
			}
			return conn, err
		}
	}
	return &Client{Config: c, transport: transport, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// errUnreachable is the error of a call that was certainly not heard.
func errUnreachable(serverID string, err error) error {
	return structs.Errorf(structs.CodeNoLeader, "server %s can't be reached: %w", serverID, err)
}

// errNotThere is in the chain of an error if the server was not at the address,
// and has heard nothing.
var errNotThere = errors.New("it is not there")

// Proven returns the root at which a server has last answered, "" if it never
// has. Without TLS nothing is proven.
func (c *Client) Proven(serverID string) string {
	root, _ := c.proven.Load(serverID)
	text, _ := root.(string)
	return text
}

// reached looks at an answer: is it of the server that was meant?
func (c *Client) reached(serverID, root string, resp *http.Response) error {
	is := resp.Header.Get(HeaderServer) // "" of an earlier version, and of one that refuses all servers
	if is != "" && is != serverID {
		return errUnreachable(serverID, fmt.Errorf("%w: %s is server %s", errNotThere, root, is))
	}
	if is != "" && c.TLS != nil {
		c.proven.Store(serverID, root)
	}
	return nil
}

// call posts to a server and reads its answer. Errors are the other server's,
// CodeNoLeader if it can't be reached.
func (c *Client) call(ctx context.Context, serverID, path string, body, out any) error {
	return c.callAny(ctx, serverID, path, HeaderPeer, c.Secret(), body, out)
}

// callAny calls a server wherever it is.
func (c *Client) callAny(ctx context.Context, serverID, path, header, secret string, body, out any) error {
	err := errUnreachable(serverID, errors.New("its address is not known yet"))
	for _, root := range c.URLs(serverID) {
		if err = c.callAt(ctx, serverID, root, path, header, secret, body, out); !errors.Is(err, errNotThere) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// callAt calls the server at an address. The secret goes along in the header, if
// that is not "".
func (c *Client) callAt(ctx context.Context, serverID, root, path, header, secret string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a call of a server: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, root+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("call of a server: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if header != "" {
		req.Header.Set(header, secret)
	}
	req.Header.Set(HeaderServer, serverID)
	resp, err := c.http.Do(req)
	switch {
	case err != nil && isDial(err):
		return errUnreachable(root, fmt.Errorf("%w: %w", errNotThere, err))
	case err != nil:
		return errUnreachable(root, err)
	}
	defer resp.Body.Close()
	if err := c.reached(serverID, root, resp); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "server %s sent an answer that can't be read: %w", root, err)
	}
	return nil
}

// errorOf turns an answer back into the error that it was made of.
func errorOf(resp *http.Response) error {
	var body structs.ErrorBody
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err != nil || len(body.Errors) == 0 {
		return structs.Errorf(structs.CodeUnavailable, "a server answered %s", resp.Status)
	}
	e := structs.ErrorOf(body.Errors[0])
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// ReadIndex asks the leader for an index that holds all that was committed
// before the call.
func (c *Client) ReadIndex(ctx context.Context, leaderID string) (uint64, error) {
	var out structs.PeerIndex
	err := c.call(ctx, leaderID, "/v1/peer/read-index", structs.PeerReadIndex{}, &out)
	return out.Index, err
}

// LeaderIndex asks the leader for an index that holds all that was acknowledged
// before the call, as far as its lease tells. One of an earlier version asks the
// voters.
func (c *Client) LeaderIndex(ctx context.Context, leaderID string) (uint64, error) {
	var out structs.PeerIndex
	err := c.call(ctx, leaderID, "/v1/peer/read-index", structs.PeerReadIndex{Leased: true}, &out)
	return out.Index, err
}

// Heard tells the leader which hosts this server has heard of, and returns what
// is acknowledged.
func (c *Client) Heard(ctx context.Context, leaderID string, hosts map[string]structs.PeerPulse) (structs.PeerAcknowledged, error) {
	var out structs.PeerAcknowledged
	err := c.call(ctx, leaderID, "/v1/peer/heard", structs.PeerHeard{Hosts: hosts}, &out)
	return out, err
}

// Silent asks a server which of the hosts it has not heard of for as long as
// makes a host lost.
func (c *Client) Silent(ctx context.Context, serverID string, hosts []string) ([]string, error) {
	var out structs.PeerSilent
	err := c.call(ctx, serverID, "/v1/peer/silent", structs.PeerSilent{Hosts: hosts}, &out)
	return out.Hosts, err
}

// Offer leaves a session with a server, for the host's next poll there.
func (c *Client) Offer(ctx context.Context, serverID, hostID string, offer structs.SessionOffer) error {
	return c.call(ctx, serverID, "/v1/peer/offers", structs.PeerOffer{HostID: hostID, Offer: offer}, &struct{}{})
}

// Progress asks a server how far it is.
func (c *Client) Progress(ctx context.Context, serverID string) (structs.PeerProgress, error) {
	var out structs.PeerProgress
	err := c.call(ctx, serverID, "/v1/peer/progress", struct{}{}, &out)
	return out, err
}

// Identify asks a server that may have no state yet who it is. Nothing that is
// secret goes along.
func (c *Client) Identify(ctx context.Context, serverID, root, nonce string) (structs.PeerIdentity, error) {
	var out structs.PeerIdentity
	err := c.callAt(ctx, serverID, root, "/v1/peer/identity", "", "", structs.PeerChallenge{Nonce: nonce}, &out)
	return out, err
}

// Grant asks a server that may have no state yet for its part in a new cluster.
// proof is what shows that this server may ask.
func (c *Client) Grant(ctx context.Context, serverID, proof string, g structs.PeerGrant) error {
	return c.callAny(ctx, serverID, "/v1/peer/grant", HeaderProof, proof, g, &struct{}{})
}

// Forwarded is a user's or an agent's request on its way to the leader.
type Forwarded struct {
	Request *http.Request // as it came; its body is read already
	Body    []byte
	Seed    string
	ID      string // request ID
	Unsure  bool
	Known   uint64 // index of a state that this server had when the request came
}

// ErrUnknown is in the chain of an error after which a forwarded write may or
// may not have been carried out.
var ErrUnknown = errors.New("the outcome is unknown")

// Forward hands a request on to the leader, which decides it on its own
// judgement of who asks, and returns what was decided: the raw result, and the
// leader's index after it. Errors are the leader's refusals; CodeNoLeader if it
// doesn't lead or can't be reached, with ErrUnknown in the chain if the request
// may have been carried out all the same.
func (c *Client) Forward(ctx context.Context, leaderID string, f Forwarded) (result []byte, index uint64, err error) {
	result, index, err = c.forward(ctx, leaderID, f)
	if c.Forwarded != nil {
		c.Forwarded(structs.CodeOf(err) != structs.CodeNoLeader)
	}
	return result, index, err
}

func (c *Client) forward(ctx context.Context, leaderID string, f Forwarded) (result []byte, index uint64, err error) {
	secret := c.Secret()
	if err = errUnreachable(leaderID, errors.New("this server does not know it yet")); secret == "" {
		return nil, 0, err
	}
	// A leader whose Raft is heard leads, though nothing may come through where its
	// REST API is: connections that were made before stay open for minutes then.
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	for _, root := range c.URLs(leaderID) {
		if result, index, err = c.forwardTo(ctx, leaderID, root, secret, f); !errors.Is(err, errNotThere) || ctx.Err() != nil {
			break
		}
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.transport.CloseIdleConnections() // nothing comes through them either
	}
	return result, index, err
}

// forwardTo hands a request on to the leader at an address.
func (c *Client) forwardTo(ctx context.Context, leaderID, root, secret string, f Forwarded) (result []byte, index uint64, err error) {
	target, err := url.Parse(root)
	if err != nil {
		return nil, 0, errUnreachable(leaderID, err)
	}
	in := f.Request
	out := in.Clone(ctx)
	out.URL = &url.URL{Scheme: target.Scheme, Host: target.Host, Path: in.URL.Path, RawPath: in.URL.RawPath, RawQuery: in.URL.RawQuery}
	out.RequestURI, out.Close, out.TransferEncoding = "", false, nil
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(f.Body)), int64(len(f.Body))
	if len(f.Body) == 0 {
		out.Body = http.NoBody
	}
	for _, hop := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Expect", HeaderUnsure} {
		out.Header.Del(hop)
	}
	out.Header.Set(HeaderPeer, secret)
	out.Header.Set(HeaderServer, leaderID)
	out.Header.Set(HeaderSeed, f.Seed)
	out.Header.Set(HeaderAsked, f.ID)
	if f.Unsure {
		out.Header.Set(HeaderUnsure, strconv.FormatUint(f.Known, 10))
	}
	// The library may send it again by itself if the connection breaks: that
	// nobody takes the last try says nothing of the first.
	var written atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }}
	resp, err := c.http.Do(out.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		if isDial(err) && !written.Load() {
			return nil, 0, errUnreachable(leaderID, fmt.Errorf("%w: %w", errNotThere, err))
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer came in %v", c.Patience)
		}
		return nil, 0, errUnreachable(leaderID, fmt.Errorf("%w: %w", ErrUnknown, err))
	}
	defer resp.Body.Close()
	if err := c.reached(leaderID, root, resp); err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		err := errorOf(resp)
		if resp.Header.Get(HeaderOutcome) == OutcomeUnknown {
			err = structs.Errorf(structs.CodeNoLeader, "%w", fmt.Errorf("%w (%w)", err, ErrUnknown)) // one cause: Errorf keeps no second
		}
		return nil, 0, err
	}
	result, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil {
		_, err = fmt.Sscan(resp.Header.Get(HeaderIndex), &index)
	}
	if err != nil {
		return nil, 0, errUnreachable(leaderID, fmt.Errorf("%w: %w", ErrUnknown, err))
	}
	return result, index, nil
}
