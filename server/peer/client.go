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
	HeaderPeer  = "X-Magnum-Peer"  // the peer secret, which proves that the sender is a server of this cluster
	HeaderProof = "X-Magnum-Proof" // proof of the sender of a grant request; a new cluster has no peer secret yet
	HeaderSeed  = "X-Magnum-Seed"  // in a forwarded request: the seed of its IDs and secrets
	// HeaderRetryAfterUnknown is in a forwarded request whose earlier attempt may have been
	// carried out. Its value is an index that the first server had applied when the request
	// arrived.
	HeaderRetryAfterUnknown = "X-Magnum-Unsure"
	HeaderAsked             = "X-Magnum-Asked" // in a forwarded request: its request ID, the same in each attempt
	// HeaderCaller is in a forwarded request of a caller whose token Keystone has validated
	// for the first server: who that is. The leader doesn't ask Keystone again, which may be
	// away by now.
	HeaderCaller = "X-Magnum-Caller"
	// HeaderOutcome is in a 503 answer: "unknown" if the write may have been carried out,
	// otherwise the header is absent.
	HeaderOutcome = "X-Magnum-Outcome"
	HeaderIndex   = "X-Magnum-Index"
	// HeaderServer is the ID of a server: in a call that of the intended server, in an
	// answer that of the server reached. They differ if gossip has a wrong address.
	HeaderServer = "X-Magnum-Server"
)

// OutcomeUnknown is the only value of HeaderOutcome.
const OutcomeUnknown = "unknown"

// Config configures a Client.
type Config struct {
	// URLs returns the root URLs at which a server's REST API may be. They are tried in
	// order until that server is reached. None for an unknown server.
	URLs   func(serverID string) []string
	Secret func() string // the peer secret, "" while this server has no state
	// TLS returns the configuration of one connection to a server. It must refuse peers
	// that are not servers: addresses come from gossip, which proves nothing. nil means
	// no TLS; otherwise only https URLs are called.
	TLS func() *tls.Config
	// Forwarded is called after each forwarded request, with whether the leader has
	// answered it. May be nil.
	Forwarded func(answered bool)
	// Patience bounds the time until the leader answers a forwarded request. The leader
	// answers when it has decided, and waits for nothing else. 0 means 5s.
	Patience time.Duration
}

// Client calls other servers. It is safe for concurrent use, and never repeats a call.
type Client struct {
	Config
	transport *http.Transport
	http      *http.Client
	verified  sync.Map // root URL at which a server last answered, by server ID; only with TLS
}

// defaultPatience replaces a Config.Patience of 0. A write waits for a leader as long.
const defaultPatience = 5 * time.Second

// callTimeout bounds a call that depends on the other server alone.
const callTimeout = 2 * time.Second

// maxAnswer bounds the answer of a server, in bytes.
const maxAnswer = 4 << 20

// New returns a Client. It opens no connection.
func New(c Config) *Client {
	c.Patience = cmp.Or(c.Patience, defaultPatience)
	// There are few servers, but each may have many requests to another in flight.
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second, KeepAlive: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     time.Minute,
	}
	if c.TLS != nil {
		// The transport itself refuses http, so that no request can bypass the check.
		transport.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
			err := fmt.Errorf("%s has no https address, and servers with TLS call no other", addr)
			return nil, &net.OpError{Op: opDial, Net: network, Err: err}
		}
		transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			conn, err := (&tls.Dialer{Config: c.TLS()}).DialContext(ctx, network, addr)
			if dial := (*net.OpError)(nil); err != nil && !(errors.As(err, &dial) && dial.Op == opDial) {
				err = &net.OpError{Op: opDial, Net: network, Err: err} // the handshake failed: no request was sent
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

// errUnreachable returns the CodeNoLeader error of a server that can't be reached.
func errUnreachable(serverID string, err error) error {
	return structs.Errorf(structs.CodeNoLeader, "server %s can't be reached: %w", serverID, err)
}

// errNotReached is in the chain of an error if the server is not at the address, and has
// received nothing.
var errNotReached = errors.New("not at this address")

// VerifiedURL returns the root URL at which a server last answered, "" if it never did.
// Without TLS it is always "".
func (c *Client) VerifiedURL(serverID string) string {
	root, _ := c.verified.Load(serverID)
	text, _ := root.(string)
	return text
}

// checkServer checks that an answer comes from the intended server.
func (c *Client) checkServer(serverID, root string, resp *http.Response) error {
	is := resp.Header.Get(HeaderServer) // "" from an earlier version, and from a server that refuses all servers
	if is != "" && is != serverID {
		return errUnreachable(serverID, fmt.Errorf("%w: %s is server %s", errNotReached, root, is))
	}
	if is != "" && c.TLS != nil {
		c.verified.Store(serverID, root)
	}
	return nil
}

// call posts to a server and decodes its answer into out. Errors are those of the other
// server, and CodeNoLeader if it can't be reached.
func (c *Client) call(ctx context.Context, serverID, path string, body, out any) error {
	return c.callServer(ctx, serverID, path, HeaderPeer, c.Secret(), body, out)
}

// callServer calls a server, trying its root URLs in order.
func (c *Client) callServer(ctx context.Context, serverID, path, header, secret string, body, out any) error {
	err := errUnreachable(serverID, errors.New("its address is not known yet"))
	for _, root := range c.URLs(serverID) {
		err = c.callRoot(ctx, serverID, root, path, header, secret, body, out)
		if !errors.Is(err, errNotReached) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// callRoot calls the server at a root URL. It sends the secret in the header, unless that
// is "".
func (c *Client) callRoot(ctx context.Context, serverID, root, path, header, secret string, body, out any) error {
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
		return errUnreachable(root, fmt.Errorf("%w: %w", errNotReached, err))
	case err != nil:
		return errUnreachable(root, err)
	}
	defer resp.Body.Close()
	if err := c.checkServer(serverID, root, resp); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "server %s sent an answer that can't be decoded: %w", root, err)
	}
	return nil
}

// errorOf returns the error that a server has sent in its answer. CodeUnavailable if the
// answer holds none.
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

// ReadIndex asks the leader for its read index, which covers all entries committed before
// the call.
func (c *Client) ReadIndex(ctx context.Context, leaderID string) (uint64, error) {
	var out structs.PeerIndex
	err := c.call(ctx, leaderID, "/v1/peer/read-index", structs.PeerReadIndex{}, &out)
	return out.Index, err
}

// LeaderIndex asks the leader for an index that covers all writes acknowledged before the
// call. The leader answers under its Raft lease; a leader of an earlier version asks the
// voters.
func (c *Client) LeaderIndex(ctx context.Context, leaderID string) (uint64, error) {
	var out structs.PeerIndex
	err := c.call(ctx, leaderID, "/v1/peer/read-index", structs.PeerReadIndex{Leased: true}, &out)
	return out.Index, err
}

// ReportHeartbeats reports to the leader the hosts' heartbeats that this server has received, and
// returns those that are acknowledged.
func (c *Client) ReportHeartbeats(ctx context.Context, leaderID string, hosts map[string]structs.PeerHeartbeat) (structs.PeerAcknowledged,
	error) {
	var out structs.PeerAcknowledged
	err := c.call(ctx, leaderID, "/v1/peer/heard", structs.PeerHeartbeats{Hosts: hosts}, &out)
	return out, err
}

// Silent asks a server from which of the hosts it has received no heartbeat for the time
// after which a host is lost.
func (c *Client) Silent(ctx context.Context, serverID string, hosts []string) ([]string, error) {
	var out structs.PeerSilent
	err := c.call(ctx, serverID, "/v1/peer/silent", structs.PeerSilent{Hosts: hosts}, &out)
	return out.Hosts, err
}

// Followed asks a server which of the hosts have polled there with the index or a later one.
// The server waits until there is one, but not longer than given.
func (c *Client) Followed(ctx context.Context, serverID string, hosts []string, index uint64, wait time.Duration) ([]string, error) {
	var out structs.PeerFollowed
	err := c.call(ctx, serverID, "/v1/peer/followed", structs.PeerFollowed{Hosts: hosts, Index: index, Wait: wait}, &out)
	return out.Hosts, err
}

// Offer leaves the offer of a session with a server, which answers the host's next poll
// with it.
func (c *Client) Offer(ctx context.Context, serverID, hostID string, offer structs.SessionOffer) error {
	return c.call(ctx, serverID, "/v1/peer/offers", structs.PeerOffer{HostID: hostID, Offer: offer}, &struct{}{})
}

// Progress asks a server for its progress in the log.
func (c *Client) Progress(ctx context.Context, serverID string) (structs.PeerProgress, error) {
	var out structs.PeerProgress
	err := c.call(ctx, serverID, "/v1/peer/progress", struct{}{}, &out)
	return out, err
}

// Identify asks a server, which may have no state yet, for its identity. The call sends no
// secret.
func (c *Client) Identify(ctx context.Context, serverID, root, nonce string) (structs.PeerIdentity, error) {
	var out structs.PeerIdentity
	err := c.callRoot(ctx, serverID, root, "/v1/peer/identity", "", "", structs.PeerChallenge{Nonce: nonce}, &out)
	return out, err
}

// Grant asks a server, which may have no state yet, for its bootstrap grant. proof proves
// that this server may ask.
func (c *Client) Grant(ctx context.Context, serverID, proof string, g structs.PeerGrant) error {
	return c.callServer(ctx, serverID, "/v1/peer/grant", HeaderProof, proof, g, &struct{}{})
}

// Forwarded is a request of a user or an agent that is forwarded to the leader.
type Forwarded struct {
	Request           *http.Request // the request as received; its body has been read
	Body              []byte
	Seed              string // of the IDs and secrets that the request makes
	ID                string // request ID
	Caller            string // value of HeaderCaller, "" for a caller whom the leader authenticates
	RetryAfterUnknown bool   // an earlier attempt may have been carried out
	SinceIndex        uint64 // index that this server had applied when the request arrived
	// Preparation is how long the leader may need before it can decide the request, in
	// addition to Config.Patience.
	Preparation time.Duration
}

// ErrUnknown is in the chain of an error after which a forwarded write may or
// may not have been carried out.
var ErrUnknown = errors.New("the outcome is unknown")

// Forward forwards a request to the leader. The leader authenticates its caller itself,
// unless f.Caller says who it is.
// Forward returns the raw result and the leader's index after it. Errors are the leader's
// refusals, and CodeNoLeader if the server doesn't lead or can't be reached; ErrUnknown is
// in the chain if the request may have been carried out all the same.
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
	// The leader's Raft traffic may arrive while packets of its REST API are lost. It then
	// stays leader, and its open connections hang for minutes.
	ctx, cancel := context.WithTimeout(ctx, c.Patience+f.Preparation)
	defer cancel()
	for _, root := range c.URLs(leaderID) {
		result, index, err = c.forwardTo(ctx, leaderID, root, secret, f)
		if !errors.Is(err, errNotReached) || ctx.Err() != nil {
			break
		}
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.transport.CloseIdleConnections() // they may hang, too
	}
	return result, index, err
}

// forwardTo forwards a request to the leader at a root URL.
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
	for _, hop := range []string{
		"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Expect", HeaderRetryAfterUnknown, HeaderCaller,
	} {
		out.Header.Del(hop)
	}
	out.Header.Set(HeaderPeer, secret)
	out.Header.Set(HeaderServer, leaderID)
	out.Header.Set(HeaderSeed, f.Seed)
	out.Header.Set(HeaderAsked, f.ID)
	if f.Caller != "" {
		out.Header.Set(HeaderCaller, f.Caller)
	}
	if f.RetryAfterUnknown {
		out.Header.Set(HeaderRetryAfterUnknown, strconv.FormatUint(f.SinceIndex, 10))
	}
	// net/http may send the request again by itself if the connection breaks. If it can't
	// connect then, the first attempt may still have been carried out.
	var written atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }}
	resp, err := c.http.Do(out.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		if isDial(err) && !written.Load() {
			return nil, 0, errUnreachable(leaderID, fmt.Errorf("%w: %w", errNotReached, err))
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", c.Patience+f.Preparation)
		}
		return nil, 0, errUnreachable(leaderID, fmt.Errorf("%w: %w", ErrUnknown, err))
	}
	defer resp.Body.Close()
	if err := c.checkServer(leaderID, root, resp); err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		err := errorOf(resp)
		if resp.Header.Get(HeaderOutcome) == OutcomeUnknown {
			// structs.Errorf keeps only one cause.
			err = structs.Errorf(structs.CodeNoLeader, "%w", fmt.Errorf("%w (%w)", err, ErrUnknown))
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
