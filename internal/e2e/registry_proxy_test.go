//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// registryProxy is the proxy through which the engine reaches a registry. It
// counts requests, and delays or cuts answers as a test wants.
type registryProxy struct {
	testing.TB
	addr string // host:port
	back string // host:port of the registry

	mu     sync.Mutex
	server *http.Server   // nil while the proxy is down
	asked  map[string]int // requests by "METHOD PATH"
	bytes  map[string]int // body bytes passed on, by path
	open   int            // bodies being passed on
	via    func(path string, w io.Writer, body io.Reader) error
}

func newRegistryProxy(t testing.TB, back string) *registryProxy {
	t.Helper()
	f := &registryProxy{TB: t, addr: "127.0.0.1:" + freePort(t), back: back, asked: make(map[string]int), bytes: make(map[string]int)}
	f.up()
	t.Cleanup(f.down)
	return f
}

// up starts the proxy, always at the same address.
func (f *registryProxy) up() {
	f.Helper()
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.Fatal(err)
	}
	server := &http.Server{Handler: f}
	f.mu.Lock()
	f.server = server
	f.mu.Unlock()
	go server.Serve(l)
}

// down refuses new connections and cuts the existing ones.
func (f *registryProxy) down() {
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// bodies passes the bodies of GET answers through via; nil copies them. An
// error cuts the connection.
func (f *registryProxy) bodies(via func(path string, w io.Writer, body io.Reader) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.via = via
}

// count returns the number of requests of a method for a path.
func (f *registryProxy) count(method, path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[method+" "+path]
}

// requests returns the number of requests, without pings of the API.
func (f *registryProxy) requests() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for what, times := range f.asked {
		if !strings.HasSuffix(what, " /v2/") {
			n += times
		}
	}
	return n
}

// passed returns the number of body bytes passed on for a path.
func (f *registryProxy) passed(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes[path]
}

// streams returns the number of bodies being passed on.
func (f *registryProxy) streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// ServeHTTP passes a request on to the registry.
func (f *registryProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	f.mu.Lock()
	f.asked[r.Method+" "+path]++
	f.open++
	via := f.via
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open--
	}()
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", f.back, ""
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	for k, v := range answer.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.StatusCode)
	http.NewResponseController(w).Flush() // a pull that waits for headers can't be canceled
	if via == nil || r.Method != http.MethodGet {
		via = func(_ string, w io.Writer, body io.Reader) error {
			_, err := io.Copy(w, body)
			return err
		}
	}
	if err := via(path, &flushed{f, path, w, r}, answer.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// flushed flushes each write, and counts its bytes.
type flushed struct {
	f    *registryProxy
	path string
	w    http.ResponseWriter
	r    *http.Request
}

func (w *flushed) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	if err == nil {
		err = http.NewResponseController(w.w).Flush()
	}
	if w.r.Context().Err() != nil {
		err = errors.Join(err, w.r.Context().Err())
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	w.f.bytes[w.path] += n
	return n, err
}

// done is closed once the client has disconnected.
func (w *flushed) done() <-chan struct{} { return w.r.Context().Done() }
