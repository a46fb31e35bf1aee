package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// maxResponse bounds what is read of a response, in bytes.
const maxResponse = 128 << 10

// maxRedirects bounds the redirects that are followed.
const maxRedirects = 10

// get makes a probe's request. message says why it has failed. Any status of 200 to 399
// is a success.
func (t Target) get(ctx context.Context, h *structs.HTTPGet) (message string) {
	answer, err := t.status(ctx, h)
	switch {
	case err != nil:
		return describe(h.Port, err)
	case answer.status >= 200 && answer.status < 400:
		return ""
	case answer.body == "":
		return fmt.Sprintf("HTTP status %d", answer.status)
	}
	return fmt.Sprintf("HTTP status %d: %s", answer.status, answer.body)
}

// httpAnswer is what is read of a response.
type httpAnswer struct {
	status int
	body   string // at most MaxOutput bytes; "" for a page of HTML
}

// status makes a request and returns the answer. A redirect is followed only if it stays
// on the host of the request; otherwise it is the answer.
func (t Target) status(ctx context.Context, h *structs.HTTPGet) (httpAnswer, error) {
	if !t.isPod(h.Host) {
		return httpAnswer{}, errors.New(t.foreign(h.Host))
	}
	client := http.Client{Transport: visit{t}, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case req.URL.Hostname() != via[0].URL.Hostname():
			return http.ErrUseLastResponse
		case len(via) >= maxRedirects:
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}}
	req, err := t.request(ctx, h)
	if err != nil {
		return httpAnswer{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return httpAnswer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxOutput))
	if err != nil {
		return httpAnswer{}, err
	}
	if strings.Contains(resp.Header.Get("Content-Type"), "html") {
		body = nil // a page says less than the status
	}
	return httpAnswer{resp.StatusCode, string(body)}, nil
}

// request returns the request to make, with the headers that Kubernetes sends.
func (t Target) request(ctx context.Context, h *structs.HTTPGet) (*http.Request, error) {
	u, err := url.Parse(h.Path) // it may have a query
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	if u.Scheme = "http"; h.HTTPS {
		u.Scheme = "https"
	}
	u.Host, u.User = net.JoinHostPort(t.Address, strconv.Itoa(h.Port)), nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	for _, header := range h.Headers {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
		}
		req.Header.Add(header.Name, header.Value)
	}
	for name, value := range map[string]string{"User-Agent": "kube-probe/1.0 (magnum)", "Accept": "*/*"} {
		if got, given := req.Header[name]; !given {
			req.Header.Set(name, value)
		} else if name == "Accept" && got[0] == "" { // "" asks for no such header
			req.Header.Del(name)
		}
	}
	return req, nil
}

// visit makes each request over a connection of its own. Unlike http.Transport it needs
// no goroutines, keeps nothing, and logs nothing of what a tenant's server may send.
type visit struct{ Target }

// RoundTrip sends the request and reads the header of the response. The end of the
// request's context closes the connection.
func (v visit) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	port := req.URL.Port()
	if port == "" { // of a redirect
		if port = "80"; req.URL.Scheme == "https" {
			port = "443"
		}
	}
	conn, err := v.dial(ctx, "tcp", net.JoinHostPort(req.URL.Hostname(), port))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	end := func() error { stop(); return conn.Close() }
	stream := io.ReadWriter(conn)
	if req.URL.Scheme == "https" {
		// A probe asks whether the process answers, not who it is: certificates of
		// processes in pods rarely name the pod's address.
		stream = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	resp, err := exchange(stream, req)
	if err != nil {
		_ = end()
		return nil, err
	}
	resp.Body = body{resp.Body, end}
	return resp, nil
}

// exchange sends a request and reads the header of the response, 1xx ones aside.
func exchange(stream io.ReadWriter, req *http.Request) (*http.Response, error) {
	req.Close = true // the header says so
	if err := req.Write(stream); err != nil {
		return nil, err
	}
	r := bufio.NewReader(io.LimitReader(stream, maxResponse))
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}

// body is a response's body, whose Close closes the connection.
type body struct {
	io.Reader
	end func() error
}

func (b body) Close() error { return b.end() }
