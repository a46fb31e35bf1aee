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

// Headers of the API that this client reads or sets.
const (
	// HeaderIndex is the FSM index of a response's state, and the highest index that
	// the caller has seen in a request.
	HeaderIndex = "X-Magnum-Index"

	HeaderToken       = "X-Auth-Token"           // the caller's token
	HeaderRequestID   = "X-Openstack-Request-Id" // of each response
	HeaderIdempotency = "Idempotency-Key"        // of a POST
)

// Config says which servers a Client talks to, and how.
type Config struct {
	// Address is host[:port] or a URL, with or without /v1. Several addresses
	// of one cluster are separated by commas. "" means 127.0.0.1:9511.
	Address string
	Secure  bool   // use https, not http, for an address without a scheme
	Token   string // sent unchanged as X-Auth-Token; "" sends none
	// Credentials provide the token instead, and the address if Address is ""; nil means
	// neither.
	Credentials Credentials
	UserAgent   string        // "" means "magnum"
	HTTPClient  *http.Client  // nil means a new one; its Timeout must be 0 because of long polls
	Timeout     time.Duration // limit for one response, added to the wait that the call asks for; default 30s
	RetryFor    time.Duration // how long to retry a create whose outcome is unknown; default 15s
}

func (c Config) withDefaults() Config {
	if c.Address == "" && c.Credentials == nil {
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

// Client calls one server. It moves to the next of its addresses when that server
// can't be reached or knows of no leader. It is safe for concurrent use.
type Client struct {
	conf    Config
	servers atomic.Pointer[[]*url.URL] // at least one; nil until the credentials have told the address
	current atomic.Uint64              // index into servers, modulo their number
	http    *http.Client

	maxIndex atomic.Uint64 // highest X-Magnum-Index of any response
}

// New returns a client of the servers at conf.Address. It opens no connection.
// CodeInvalid: an address is neither host[:port] nor an http(s) URL.
func New(conf Config) (*Client, error) {
	conf = conf.withDefaults()
	var servers []*url.URL
	if conf.Address != "" {
		var err error
		if servers, err = parseServers(conf.Address, schemeOf(conf.Secure)); err != nil {
			return nil, err
		}
	}
	// A server never redirects; following a redirect would send the token elsewhere.
	client := *conf.HTTPClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{conf: conf, http: &client}
	if servers != nil {
		c.servers.Store(&servers)
	}
	return c, nil
}

// NewTransport returns a transport for concurrent calls. It stops trying to
// connect to a server after 5 s.
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

// ParseAddress returns the root URL of a server. addr is host[:port] or an http(s)
// URL whose path ends with nothing, / or /v1. CodeInvalid: addr has another form.
func ParseAddress(addr string) (*url.URL, error) { return parseAddress(addr, "http") }

// schemeOf returns the scheme of an address that has none.
func schemeOf(secure bool) string {
	if secure {
		return "https"
	}
	return "http"
}

// parseAddress is ParseAddress with a default scheme.
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
		return refuse("can't be parsed")
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("must be http or https")
	case u.Hostname() == "":
		return refuse("has no host")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return refuse("has a query, a fragment or a user")
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
			return refuse("has a port not in 1..65535")
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	u.Path, u.RawPath = strings.TrimRight(path, "/"), ""
	return u, nil
}

// Index returns the highest X-Magnum-Index of any response; 0 before the first.
// Servers never answer this client from an older state, unless
// QueryOptions.Stale is set.
func (c *Client) Index() uint64 { return c.maxIndex.Load() }

// urlOf returns the URL of a path below a server's root. The path's segments must
// be escaped.
func urlOf(root *url.URL, path string, query url.Values) string {
	s := root.String() + path
	if len(query) > 0 {
		s += "?" + query.Encode()
	}
	return s
}

// objectPath returns /v1/NOUN/IDENT[/MORE...] with each segment escaped.
func objectPath(noun, ident string, more ...string) (string, error) {
	if ident == "" || ident == "." || ident == ".." {
		return "", structs.Errorf(structs.CodeInvalid, "%q is not the uuid or name of a %s", ident, strings.TrimSuffix(noun, "s"))
	}
	path := "/v1/" + noun + "/" + url.PathEscape(ident)
	for _, m := range more {
		path += "/" + url.PathEscape(m)
	}
	return path, nil
}

// raiseIndex raises maxIndex to index.
func (c *Client) raiseIndex(index uint64) {
	for {
		old := c.maxIndex.Load()
		if index <= old || c.maxIndex.CompareAndSwap(old, index) {
			return
		}
	}
}

// backoff returns a random time below a bound that doubles with each attempt,
// from 100 ms to 2 s. Full jitter keeps clients from returning to a restarted
// server at the same moment.
func backoff(attempt int) time.Duration {
	bound := 100 * time.Millisecond << min(attempt, 5)
	return rand.N(min(bound, 2*time.Second)) + time.Millisecond
}

// sleep waits for d, or returns an error when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to retry: %w", context.Cause(ctx))
	}
}
