package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/structs"
)

// DefaultPort is the port of the REST API when an address names none.
const DefaultPort = "9511"

// Headers of the API that this client reads or writes.
const (
	HeaderIndex       = "X-Magnum-Index"         // FSM index of the answer; of the caller's last answer in a request
	HeaderToken       = "X-Auth-Token"           // the caller's token
	HeaderRequestID   = "X-Openstack-Request-Id" // of each answer
	HeaderIdempotency = "Idempotency-Key"        // of a POST
)

// Config says which servers a Client talks to, and how.
type Config struct {
	Address    string        // host[:port] or a URL, with or without /v1; several of one cluster are parted by commas; "" means 127.0.0.1:9511
	Secure     bool          // an address that is no URL means https, not http
	Token      string        // sent as X-Auth-Token as it is; "" sends none
	UserAgent  string        // "" means "magnum"
	HTTPClient *http.Client  // nil means one of its own; its Timeout must be 0, for there are long polls
	Timeout    time.Duration // time for one answer beyond what the call itself waits for; default 30s
	RetryFor   time.Duration // how long a create whose outcome is unknown is tried again; default 15s
}

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = "127.0.0.1:" + DefaultPort
	}
	if c.UserAgent == "" {
		c.UserAgent = "magnum"
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{Transport: NewTransport()}
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.RetryFor <= 0 {
		c.RetryFor = 15 * time.Second
	}
	return c
}

// Client talks to one server, and to the next one of its addresses if that isn't
// there or knows of no leader. It may be used by many goroutines.
type Client struct {
	conf    Config
	servers []*url.URL    // at least one
	current atomic.Uint64 // of servers, counted around
	http    *http.Client
	seen    atomic.Uint64 // the highest X-Magnum-Index of any answer
}

// New returns a client of the servers at conf.Address. It opens no connection.
// CodeInvalid: an address is neither host[:port] nor an http(s) URL.
func New(conf Config) (*Client, error) {
	conf = conf.withDefaults()
	servers, err := parseServers(conf.Address, schemeOf(conf.Secure))
	if err != nil {
		return nil, err
	}
	// A server never redirects; following one would carry the token elsewhere.
	client := *conf.HTTPClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{conf: conf, servers: servers, http: &client}, nil
}

// NewTransport returns a transport that gives up early on a server that does
// not take connections and keeps enough of them for parallel calls.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
	}
}

// ParseAddress reads host[:port] or an http(s) URL, whose path may be empty, /
// or /v1, into the URL of the server's root. CodeInvalid: it is none of these.
func ParseAddress(addr string) (*url.URL, error) { return parseAddress(addr, "http") }

// schemeOf is the scheme of an address that names none.
func schemeOf(secure bool) string {
	if secure {
		return "https"
	}
	return "http"
}

// parseAddress is ParseAddress with another scheme for what is no URL.
func parseAddress(addr, scheme string) (*url.URL, error) {
	refuse := func(why string) (*url.URL, error) {
		return nil, structs.Errorf(structs.CodeInvalid, "address %q %s: write host, host:port or http(s)://host:port", addr, why)
	}
	text, bare := addr, !strings.Contains(addr, "://")
	if bare {
		if strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "[") {
			text = "[" + text + "]" // an IPv6 address without a port
		}
		text = scheme + "://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return refuse("can't be read")
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("is neither http nor https")
	case u.Hostname() == "":
		return refuse("names no host")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return refuse("has more than a host, a port and a path")
	}
	path := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1")
	if bare && path != "" {
		return refuse("has a path")
	}
	port := u.Port()
	if port == "" && bare {
		port = DefaultPort
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return refuse("has a port that is not in 1..65535")
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	u.Path, u.RawPath = strings.TrimRight(path, "/"), ""
	return u, nil
}

// Index returns the highest X-Magnum-Index of any answer. Servers never answer
// this client from an older state, unless QueryOptions.Stale is set.
func (c *Client) Index() uint64 { return c.seen.Load() }

// below returns the URL of a path below a server's root. The path's segments are
// escaped already.
func below(root *url.URL, path string, query url.Values) string {
	s := root.String() + path
	if len(query) > 0 {
		s += "?" + query.Encode()
	}
	return s
}

// objectPath returns /v1/NOUN/IDENT[/MORE...] with each segment escaped.
func objectPath(noun, ident string, more ...string) (string, error) {
	if ident == "" || ident == "." || ident == ".." {
		return "", structs.Errorf(structs.CodeInvalid, "%q names no %s: give a uuid or a name", ident, strings.TrimSuffix(noun, "s"))
	}
	path := "/v1/" + noun + "/" + url.PathEscape(ident)
	for _, m := range more {
		path += "/" + url.PathEscape(m)
	}
	return path, nil
}

// noteIndex raises the highest index seen.
func (c *Client) noteIndex(index uint64) {
	for {
		old := c.seen.Load()
		if index <= old || c.seen.CompareAndSwap(old, index) {
			return
		}
	}
}

// backoff returns a random time below a bound that doubles with each attempt,
// from 100 ms to 2 s: full jitter, so that clients of a server that comes back
// don't come in step.
func backoff(attempt int) time.Duration {
	bound := 100 * time.Millisecond << min(attempt, 5)
	return rand.N(min(bound, 2*time.Second)) + time.Millisecond
}

// sleep waits for d or the context's end.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to try again: %w", context.Cause(ctx))
	}
}
