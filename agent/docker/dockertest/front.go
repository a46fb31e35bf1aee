package dockertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/docker/docker/client"
)

// Front presents this machine's engine as another engine: the same containers under
// another ID. An engine is only one host of a cluster, so several agents of one cluster
// on one engine need a Front each.
type Front struct {
	Host     string // unix://PATH, for an agent
	id       string
	socket   string
	listener net.Listener
	refuse   atomic.Pointer[func(*http.Request) bool]
}

// NewFront listens at path, in front of the engine of DOCKER_HOST, which must be a unix
// socket. Each front needs its own ID.
func NewFront(path, id string) (*Front, error) {
	host := os.Getenv(client.EnvOverrideHost)
	if host == "" {
		host = client.DefaultDockerHost
	}
	return NewFrontOf(path, id, host)
}

// NewFrontOf is NewFront for the engine at host. An id of "" leaves the engine's own.
func NewFrontOf(path, id, host string) (*Front, error) {
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return nil, fmt.Errorf("the engine at %s is not on a unix socket", host)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	f := &Front{Host: "unix://" + path, id: id, socket: socket, listener: l}
	go f.serve()
	return f, nil
}

// Close accepts no more connections.
func (f *Front) Close() error { return f.listener.Close() }

// Refuse answers those requests with an error of the engine for which refused returns true,
// until it is called again. nil refuses none.
func (f *Front) Refuse(refused func(*http.Request) bool) {
	if refused == nil {
		refused = func(*http.Request) bool { return false }
	}
	f.refuse.Store(&refused)
}

// refused is the answer to a request that Refuse names.
const refused = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 28\r\nConnection: close\r\n\r\n" +
	`{"message":"device is busy"}`

func (f *Front) serve() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		go f.pass(conn.(*net.UnixConn))
	}
}

// pass serves one connection: one request after another, until a request turns it into a
// stream.
func (f *Front) pass(from *net.UnixConn) {
	defer from.Close()
	dialed, err := net.Dial("unix", f.socket)
	if err != nil {
		return
	}
	to := dialed.(*net.UnixConn)
	defer to.Close()
	in, out := bufio.NewReader(from), bufio.NewReader(to)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if r := f.refuse.Load(); r != nil && (*r)(req) {
			_, _ = io.WriteString(from, refused)
			return
		}
		info := f.id != "" && strings.HasSuffix(req.URL.Path, "/info")
		if req.Write(to) != nil {
			return
		}
		// A caller that stops waiting for the answer ends the engine's call.
		next := make(chan struct{})
		upgrade := req.Header.Get("Upgrade") != ""
		if upgrade {
			close(next)
		} else {
			go func() {
				defer close(next)
				if _, err := in.Peek(1); err != nil {
					to.Close()
				}
			}()
		}
		resp, err := http.ReadResponse(out, req)
		if err != nil {
			return
		}
		if info && resp.StatusCode == http.StatusOK && f.rename(resp) != nil {
			return
		}
		if resp.StatusCode == http.StatusSwitchingProtocols || upgrade && resp.StatusCode == http.StatusOK {
			f.join(from, to, in, out, resp)
			return
		}
		if resp.Write(from) != nil || resp.Close {
			return
		}
		<-next
	}
}

// rename changes the ID in an answer.
func (f *Front) rename(resp *http.Response) error {
	var all map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return err
	}
	all["ID"], _ = json.Marshal(f.id)
	b, err := json.Marshal(all)
	resp.Body, resp.ContentLength, resp.TransferEncoding = io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	resp.Header.Set("Content-Length", fmt.Sprint(len(b)))
	return err
}

// join copies in both directions; each ends by itself.
func (f *Front) join(from, to *net.UnixConn, in, out io.Reader, resp *http.Response) {
	head := fmt.Appendf(nil, "HTTP/1.1 %s\r\n", resp.Status)
	var fields bytes.Buffer
	if resp.Header.Write(&fields) != nil {
		return
	}
	if _, err := from.Write(append(append(head, fields.Bytes()...), "\r\n"...)); err != nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(to, in)
		_ = to.CloseWrite()
	}()
	_, _ = io.Copy(from, out)
	_ = from.CloseWrite()
	<-ended
}
