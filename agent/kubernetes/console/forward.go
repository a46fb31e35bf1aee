package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/moby/spdystream"
	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// protocolForward is the protocol of connections to ports: SPDY streams, inside a WebSocket.
const protocolForward = "SPDY/3.1+portforward.k8s.io"

// Forward connects to a TCP port of the pod that has the container. That nothing listens
// there comes with the first Read. ErrNotFound, ErrNotRunning.
func (cs *Consoles) Forward(ctx context.Context, engineID string, port int) (backend.Conn, error) {
	t, err := parseID(engineID)
	if err != nil {
		return nil, err
	}
	pod, err := cs.look(ctx, t)
	if err != nil {
		return nil, err
	}
	if pod.Status.Phase != corev1.PodRunning {
		return nil, &backend.Failure{Reason: backend.ErrNotRunning, Msg: "the pod is not running: its phase is " + string(pod.Status.Phase)}
	}
	ws, err := cs.dial(ctx, cs.url(t, "portforward", url.Values{"ports": {strconv.Itoa(port)}}), protocolForward)
	if err != nil {
		return nil, err
	}
	if ws.Subprotocol() != protocolForward {
		_ = ws.CloseNow()
		return nil, &backend.Failure{Reason: backend.ErrInvalid,
			Msg: "the cluster's API is too old to connect to ports by WebSocket: upgrade it to Kubernetes 1.31 or later"}
	}
	f, err := newForward(ctx, ws, port)
	if err != nil {
		_ = ws.CloseNow()
		return nil, &backend.Failure{Reason: backend.ErrAway, Msg: "the connection to the pod's node broke: " + err.Error(), Err: err}
	}
	return f, nil
}

// forward is a connection to a port of a pod.
type forward struct {
	port   int
	ws     *websocket.Conn
	spdy   *spdystream.Connection
	data   *spdystream.Stream
	cancel context.CancelFunc

	refused chan struct{} // closed once the node has said all about failures
	reason  string        // what it has said; "" for nothing
	once    sync.Once
}

// streamLimit is how long the node may take to accept a stream.
const streamLimit = 10 * time.Second

// newForward opens the streams of a connection. It goes on when ctx ends.
func newForward(ctx context.Context, ws *websocket.Conn, port int) (*forward, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &forward{port: port, ws: ws, cancel: cancel, refused: make(chan struct{})}
	fail := func(err error) (*forward, error) {
		cancel()
		return nil, err
	}
	var err error
	if f.spdy, err = spdystream.NewConnection(websocket.NetConn(ctx, ws, websocket.MessageBinary), false); err != nil {
		return fail(err)
	}
	go f.spdy.Serve(spdystream.NoOpStreamHandler) // until the connection is closed
	open := func(kind string) (*spdystream.Stream, error) {
		stream, err := f.spdy.CreateStream(http.Header{
			"Streamtype": {kind}, "Port": {strconv.Itoa(port)}, "Requestid": {"0"},
		}, nil, false)
		if err != nil {
			return nil, err
		}
		return stream, stream.WaitTimeout(streamLimit)
	}
	failures, err := open("error")
	if err != nil {
		return fail(err)
	}
	_ = failures.Close() // nothing is written there
	if f.data, err = open("data"); err != nil {
		return fail(err)
	}
	go func() {
		defer close(f.refused)
		const most = 1 << 10
		text, _ := io.ReadAll(io.LimitReader(failures, most)) // what broke before its end shows in the data
		f.reason = strings.TrimSpace(string(text))
	}()
	return f, nil
}

// saidLimit is how long the node may take to say why a connection has ended.
const saidLimit = 2 * time.Second

// Read reads what the pod sends.
func (f *forward) Read(p []byte) (int, error) {
	n, err := f.data.Read(p)
	if n > 0 || err == nil {
		return n, err
	}
	select {
	case <-f.refused:
	case <-time.After(saidLimit):
	}
	select {
	case <-f.refused:
		if f.reason != "" {
			return 0, f.refusal()
		}
	default:
	}
	if errors.Is(err, io.EOF) {
		return 0, io.EOF
	}
	return 0, structs.Errorf(structs.CodeUnavailable, "port %d of the pod: the connection broke: %s", f.port, err)
}

// refusal explains what the node has said.
func (f *forward) refusal() error {
	for _, reason := range []string{"connection refused", "connection reset by peer", "no route to host", "connection timed out"} {
		if strings.Contains(f.reason, reason) {
			return structs.Errorf(structs.CodeUnavailable, "the pod takes no connection on port %d: %s", f.port, reason)
		}
	}
	return structs.Errorf(structs.CodeUnavailable, "port %d of the pod: %s", f.port, f.reason)
}

// Write sends to the pod.
func (f *forward) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		count := min(len(p)-n, maxChunk)
		if _, err := f.data.Write(p[n : n+count]); err != nil {
			return n, err
		}
		n += count
	}
	return len(p), nil
}

// CloseWrite ends what the pod reads.
func (f *forward) CloseWrite() error { return f.data.Close() }

// Close ends the connection.
func (f *forward) Close() error {
	f.once.Do(func() {
		_ = f.data.Reset() // the pod then sees an end that isn't that of the input
		_ = f.spdy.Close()
		_ = f.ws.CloseNow()
		f.cancel()
	})
	return nil
}
