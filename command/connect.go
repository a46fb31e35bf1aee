package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/openstack"
	"github.com/stackforge/magnum/internal/tlsconf"
)

// connection holds the flags that say which server a command calls.
type connection struct {
	addr  string
	cloud string // of clouds.yaml
	tlsCA string
	debug bool
}

// flags adds -addr, -os-cloud, -tls-ca and -debug.
func (c *connection) flags(f *flagSet) {
	f.text(&c.addr, "addr", "ADDR", "servers of one cluster, host[:port] or URL, separated by commas; if one fails, the next is tried").
		defaultText("$MAGNUM_ADDR, else that of Keystone's catalogue after a login there, else http://127.0.0.1:9511").common()
	c.cloudFlag(f)
	f.text(&c.tlsCA, "tls-ca", "FILE", "PEM certificates of the CA of https servers; ADDR without a scheme is then https").
		defaultText("$MAGNUM_TLS_CA, else the system's CAs").common()
	c.debugFlag(f)
}

func (c *connection) cloudFlag(f *flagSet) {
	f.text(&c.cloud, "os-cloud", "NAME", "sign in at the Keystone of this cloud in clouds.yaml").
		defaultText("$OS_CLOUD, unless $OS_TOKEN is set").common()
}

func (c *connection) debugFlag(f *flagSet) {
	f.switchOn(&c.debug, "debug", "print each request on standard error, without secrets").common()
}

// checkedClient checks the number of arguments, whose names are for the error, and the
// output flags. It returns the client.
func (c *connection) checkedClient(e *env, out *output, args []string, names ...string) (*api.Client, error) {
	if err := exactly(args, names...); err != nil {
		return nil, err
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	return c.client(e)
}

// client returns the client of the server in the flags, else in the environment.
func (c *connection) client(e *env) (*api.Client, error) {
	addr, from := c.addr, "-addr"
	if addr == "" {
		addr, from = e.getenv("MAGNUM_ADDR"), "MAGNUM_ADDR"
	}
	conf := api.Config{Address: addr, Token: e.getenv("OS_TOKEN"), UserAgent: "magnum/" + version()}
	transport := api.NewTransport()
	if err := c.signIn(e, &conf, transport); err != nil {
		return nil, err
	}
	if ca := orDefault(c.tlsCA, e.getenv("MAGNUM_TLS_CA")); ca != "" {
		credentials, err := tlsconf.Load(tlsconf.Files{CA: ca})
		if err != nil {
			return nil, err
		}
		credentials.HTTPClient(transport)
		conf.Secure = true
	}
	conf.HTTPClient = &http.Client{Transport: transport}
	if c.debug {
		conf.HTTPClient.Transport = &debugTransport{out: e.stderr, next: transport}
	}
	client, err := api.New(conf)
	if err != nil {
		return nil, usagef("%s: %v", from, err)
	}
	return client, nil
}

// signIn sets the credentials, if the flags or the environment have settings of Keystone. What
// has none of them costs nothing.
func (c *connection) signIn(e *env, conf *api.Config, transport *http.Transport) error {
	settings, err := openstack.Load(c.cloud, e.getenv)
	if err != nil {
		return usagef("%v", err)
	}
	if settings == nil {
		return nil
	}
	if ca := settings.TLS(); ca != nil {
		transport.TLSClientConfig = ca.Clone()
	}
	if token, given := settings.GivenToken(); given && conf.Address != "" {
		conf.Token = token // as it is; nothing is needed from Keystone
		return nil
	}
	conf.Credentials = c.session(e, settings)
	return nil
}

// session returns a session at Keystone.
func (c *connection) session(e *env, settings *openstack.Settings) *openstack.Session {
	return openstack.NewSession(settings, func(next http.RoundTripper) http.RoundTripper {
		if !c.debug {
			return next
		}
		return &debugTransport{out: e.stderr, next: next, keystone: true}
	})
}

// debugTransport prints requests and responses, without tokens, credentials and the
// values of containers' environment variables.
type debugTransport struct {
	out      io.Writer
	next     http.RoundTripper
	keystone bool // requests go to Keystone: bodies have passwords, and there is no index
}

// RoundTrip implements http.RoundTripper.
func (t *debugTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	line := fmt.Sprintf("> %s %s", req.Method, redactURL(req.URL))
	if req.Header.Get(api.HeaderToken) != "" {
		line += " (with a token)"
	}
	if key := req.Header.Get(api.HeaderIdempotency); key != "" {
		line += " (" + api.HeaderIdempotency + " " + key + ")"
	}
	if req.GetBody != nil && req.ContentLength > 0 && !t.keystone {
		if body, err := req.GetBody(); err == nil {
			text, _ := io.ReadAll(body) // can't fail: the body is in memory
			line += "\n> " + redactBody(text)
		}
	}
	fmt.Fprintln(t.out, line)
	begin := time.Now()
	resp, err := t.next.RoundTrip(req)
	took := time.Since(begin).Round(time.Millisecond)
	if err != nil {
		fmt.Fprintf(t.out, "< %v after %v\n", err, took)
		return nil, err
	}
	line = fmt.Sprintf("< %s after %v, %s %s", resp.Status, took, api.HeaderRequestID, resp.Header.Get(api.HeaderRequestID))
	if !t.keystone {
		line += ", index " + resp.Header.Get(api.HeaderIndex)
	}
	fmt.Fprintln(t.out, line)
	return resp, nil
}

// redactURL returns a URL without the values of environment variables.
func redactURL(u *url.URL) string {
	q := u.Query()
	if !q.Has("env") {
		return u.String()
	}
	for i := range q["env"] {
		q["env"][i] = "..."
	}
	shown := *u
	shown.RawQuery = q.Encode()
	return shown.String()
}

// redactBody returns a JSON body without environment variables, registry credentials and
// manifests, which have environment variables.
func redactBody(body []byte) string {
	var shown any
	var ops []map[string]json.RawMessage // of a PATCH
	var fields map[string]json.RawMessage
	switch {
	case json.Unmarshal(body, &ops) == nil:
		for _, op := range ops {
			if _, ok := op["value"]; ok && string(op["path"]) == `"/manifest"` {
				op["value"] = json.RawMessage(`"..."`)
			}
		}
		shown = ops
	case json.Unmarshal(body, &fields) == nil:
		for _, secret := range []string{"environment", "registry", "manifest"} {
			if _, ok := fields[secret]; ok {
				fields[secret] = json.RawMessage(`"..."`)
			}
		}
		shown = fields
	default:
		return string(bytes.TrimSpace(body))
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return "(a body that can't be shown)"
	}
	return string(text)
}
