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
	"github.com/stackforge/magnum/internal/tlsconf"
)

// connection is which server a command talks to.
type connection struct {
	addr  string
	tlsCA string
	debug bool
}

// flags adds -addr and -debug.
func (c *connection) flags(f *flagSet) {
	f.text(&c.addr, "addr", "ADDR", "server, host[:port] or a URL; several of one cluster parted by commas, of which the next is asked if one is away").defaultText("$MAGNUM_ADDR, else http://127.0.0.1:9511").common()
	f.text(&c.tlsCA, "tls-ca", "FILE", "PEM certificates of the CA of https servers; ADDR then means https").defaultText("$MAGNUM_TLS_CA, else the machine's own").common()
	f.switchOn(&c.debug, "debug", "print each request on standard error, without secrets").common()
}

// begin starts a command that prints what a server answers: it checks that there
// are arguments of these names and that the output can be as it is asked for, and
// returns the client.
func (c *connection) checkedClient(e *env, out *output, args []string, names ...string) (*api.Client, error) {
	if err := exactly(args, names...); err != nil {
		return nil, err
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	return c.client(e)
}

// client returns the client of the server that flags and environment name.
func (c *connection) client(e *env) (*api.Client, error) {
	addr, from := c.addr, "-addr"
	if addr == "" {
		addr, from = e.getenv("MAGNUM_ADDR"), "MAGNUM_ADDR"
	}
	conf := api.Config{Address: addr, Token: e.getenv("OS_TOKEN"), UserAgent: "magnum/" + version()}
	transport := api.NewTransport()
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

// debugTransport prints requests and answers. Tokens, and what a user puts
// into environment variables, never appear.
type debugTransport struct {
	out  io.Writer
	next http.RoundTripper
}

// RoundTrip sends the request.
func (t *debugTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	line := fmt.Sprintf("> %s %s", req.Method, redactURL(req.URL))
	if req.Header.Get(api.HeaderToken) != "" {
		line += " (with a token)"
	}
	if key := req.Header.Get(api.HeaderIdempotency); key != "" {
		line += " (" + api.HeaderIdempotency + " " + key + ")"
	}
	if req.GetBody != nil && req.ContentLength > 0 {
		if body, err := req.GetBody(); err == nil {
			text, _ := io.ReadAll(body) // in memory
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
	fmt.Fprintf(t.out, "< %s after %v, %s %s, index %s\n", resp.Status, took,
		api.HeaderRequestID, resp.Header.Get(api.HeaderRequestID), resp.Header.Get(api.HeaderIndex))
	return resp, nil
}

// redactURL is a URL without the values of environment variables.
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

// redactBody is a JSON body without the values of environment variables and
// credentials.
func redactBody(body []byte) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return string(bytes.TrimSpace(body))
	}
	for _, secret := range []string{"environment", "registry"} {
		if _, ok := fields[secret]; ok {
			fields[secret] = json.RawMessage(`"..."`)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return "(a body that can't be shown)"
	}
	return string(text)
}
