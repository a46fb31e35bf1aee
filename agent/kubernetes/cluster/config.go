// Package cluster is the connection to the API of a Kubernetes cluster: single calls, and
// watches of all objects that an agent keeps. It knows the few types that magnum needs, so
// that client-go's clientset with its scheme of all types isn't linked. It decides nothing
// about objects: package mirror does.
package cluster

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Config says how to reach a cluster.
type Config struct {
	// Rest has the address and the credentials, see Load. It isn't changed.
	Rest *rest.Config
	// Allowed is asked immediately before each write is sent, by the goroutine that sends
	// it. Its error refuses the write. nil allows all writes.
	Allowed func() error
	// UserAgent names the client in the cluster's audit log; "" means magnum-agent.
	UserAgent string
}

// Load returns address and credentials of a cluster: of the current context of a kubeconfig
// file, or with "" those that a pod of the cluster has.
func Load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		conf, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("no kubeconfig file is given, and the agent runs in no pod of a cluster: %w", err)
		}
		return conf, nil
	}
	conf, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	return conf, nil
}

// Client calls the API of a cluster. Its methods may be called concurrently.
type Client struct {
	conf    *rest.Config
	http    *http.Client
	clients map[string]*rest.RESTClient // by group
	params  runtime.ParameterCodec
	suspect chan struct{} // of size 1, see Suspect
}

// quiet keeps client-go from writing to standard error: errors come back from calls.
var quiet = sync.OnceFunc(func() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
})

// New returns a client. It doesn't connect.
func New(conf Config) (*Client, error) {
	quiet()
	c := rest.CopyConfig(conf.Rest)
	c.UserAgent = conf.UserAgent
	if c.UserAgent == "" {
		c.UserAgent = "magnum-agent"
	}
	c.QPS = -1 // the callers bound their concurrency, and the API its load
	c.WarningHandler = rest.NoWarnings{}
	if conf.Allowed != nil {
		c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &guard{next: next, allowed: conf.Allowed} })
	}
	h, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("the connection to the cluster's API: %w", err)
	}
	s, codecs := newScheme()
	client := &Client{conf: c, http: h, clients: map[string]*rest.RESTClient{}, params: runtime.NewParameterCodec(s),
		suspect: make(chan struct{}, 1)}
	for _, gv := range groupVersions {
		one := rest.CopyConfig(c)
		one.GroupVersion = &gv
		if one.APIPath = "/apis"; gv.Group == "" {
			one.APIPath = "/api"
		}
		one.NegotiatedSerializer = codecs.WithoutConversion()
		one.ContentType = runtime.ContentTypeProtobuf
		one.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		if client.clients[gv.Group], err = rest.RESTClientForConfigAndClient(one, h); err != nil {
			return nil, fmt.Errorf("a client of %s: %w", gv, err)
		}
	}
	return client, nil
}

// Rest returns the configuration that the client uses, with its guard. It must not be
// changed.
func (c *Client) Rest() *rest.Config { return c.conf }

// Address returns the URL of the API.
func (c *Client) Address() string { return c.conf.Host }

// CA returns the certificates that the certificate of the API is checked with, as PEM without
// anything else; "" if none are configured. It may read a file.
func (c *Client) CA() (string, error) {
	text := c.conf.CAData
	if len(text) == 0 && c.conf.CAFile != "" {
		var err error
		if text, err = os.ReadFile(c.conf.CAFile); err != nil {
			return "", err
		}
	}
	var certificates []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" { // a file may have a key, too
			certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	return string(certificates), nil
}

// Group returns the client of an API group for calls that the other methods don't have;
// "" is the core group. nil if the group is none of those that magnum needs.
func (c *Client) Group(group string) *rest.RESTClient { return c.clients[group] }

// Close closes idle connections. http.Client can't: the transport is below wrappers.
func (c *Client) Close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// guard refuses writes that are not allowed, at the last moment before they are sent.
type guard struct {
	next    http.RoundTripper
	allowed func() error
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := g.allowed(); err != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, &RefusedWrite{Err: err}
		}
	}
	return g.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find what is below.
func (g *guard) WrappedRoundTripper() http.RoundTripper { return g.next }

// RefusedWrite is the error of a write that Config.Allowed has refused: it wasn't sent.
type RefusedWrite struct{ Err error }

// Error implements error.
func (e *RefusedWrite) Error() string { return "the agent may not write: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedWrite) Unwrap() error { return e.Err }
