package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// The protocols of a session with a process. The first byte of each message names its
// channel. Only the newer one can end the standard input.
const (
	protocolV5 = "v5.channel.k8s.io"
	protocolV4 = "v4.channel.k8s.io"
)

// The channels.
const (
	channelStdin  = 0
	channelStdout = 1
	channelStderr = 2
	channelStatus = 3   // a metav1.Status, the last message
	channelResize = 4   // a JSON object
	channelClose  = 255 // the next byte names the channel that ends
)

const (
	maxChunk  = 32 << 10         // of input in one message, in bytes
	pingEvery = 15 * time.Second // a connection without an answer for two of these is broken
)

// session is a connection to a process in a container.
type session struct {
	conn *websocket.Conn
	ctx  context.Context // of the session

	mu sync.Mutex // one message is written at a time
}

// dial opens a WebSocket to a subresource of a pod.
func (cs *Consoles) dial(ctx context.Context, address string, protocols ...string) (*websocket.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	conn, resp, err := websocket.Dial(dialCtx, address, &websocket.DialOptions{HTTPClient: cs.http, Subprotocols: protocols})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != nil {
			return nil, failure(refusal(resp)) // of the body as much as package websocket has kept
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failure(err)
	}
	conn.SetReadLimit(-1)
	return conn, nil
}

// hangUp are the keys that the terminal of a command gets when its user has left: they
// interrupt what runs in the foreground, and end a shell. The API can't hang up.
const hangUp = "\x03\x04"

// farewellLimit is how long a process may take to end after the keys that its terminal gets
// at last: they are lost if the connection is closed at once.
const farewellLimit = time.Second

// converse joins the streams with a process until it ends, and returns the cluster's word on
// that. size is that of the terminal. If ctx ends first, the connection is closed, after
// farewell was typed.
func (cs *Consoles) converse(ctx context.Context, t target, subresource string, query url.Values, size structs.Resize,
	s backend.ExecStreams, farewell string, attached func()) (*metav1.Status, error) {
	for key, wanted := range map[string]bool{"stdin": s.Stdin != nil, "stdout": true, "stderr": query.Get("tty") != "true"} {
		query.Set(key, strconv.FormatBool(wanted))
	}
	conn, err := cs.dial(ctx, cs.url(t, subresource, query), protocolV5, protocolV4)
	if err != nil {
		return nil, err
	}
	work, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	c := &session{conn: conn, ctx: work}
	defer context.AfterFunc(ctx, func() {
		defer leave()
		if farewell == "" {
			return
		}
		last, cancel := context.WithTimeout(work, farewellLimit)
		defer cancel()
		_ = c.conn.Write(last, websocket.MessageBinary, append([]byte{channelStdin}, farewell...)) // the process may have ended
		<-last.Done()
	})()
	var writers sync.WaitGroup
	defer func() {
		_ = conn.CloseNow() // the other side may be gone
		leave()
		writers.Wait()
	}()
	if attached != nil {
		attached()
	}
	if query.Get("tty") == "true" {
		c.resize(size)
		writers.Go(func() { c.sizes(s.Resize) })
	}
	writers.Go(c.ping)
	if s.Stdin != nil {
		// It ends with its source: the creator of Stdin closes it.
		go c.input(s.Stdin)
	}
	status, err := c.output(unless(ctx, s.Stdout), unless(ctx, s.Stderr))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return status, err
}

// unless returns a writer that drops what comes after the end of ctx; nil for nil.
func unless(ctx context.Context, w io.Writer) io.Writer {
	if w == nil {
		return nil
	}
	return writerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return len(p), nil
		}
		n, err := w.Write(p)
		if ctx.Err() != nil {
			err = nil // the user has left meanwhile
		}
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// write writes one message.
func (c *session) write(channel byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Write(c.ctx, websocket.MessageBinary, append([]byte{channel}, body...))
}

// input copies to the standard input, and ends it. A process that no longer reads breaks
// the copy, which is no error.
func (c *session) input(stdin io.Reader) {
	chunk := make([]byte, maxChunk)
	for {
		n, err := stdin.Read(chunk)
		if n > 0 && c.write(channelStdin, chunk[:n]) != nil {
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) && c.conn.Subprotocol() == protocolV5 {
				_ = c.write(channelClose, []byte{channelStdin}) // fails if the process has ended
			}
			return
		}
	}
}

// sizes passes on the sizes of the terminal.
func (c *session) sizes(sizes <-chan structs.Resize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			c.resize(size)
		case <-c.ctx.Done():
			return
		}
	}
}

// resize sets the terminal's size. It fails if the process has ended.
func (c *session) resize(size structs.Resize) {
	if size.Width > 0 && size.Height > 0 {
		_ = c.write(channelResize, fmt.Appendf(nil, `{"Width":%d,"Height":%d}`, size.Width, size.Height))
	}
}

// ping breaks a connection whose other side is gone without a word.
func (c *session) ping() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(c.ctx, pingEvery)
		err := c.conn.Ping(ctx)
		cancel()
		if err != nil {
			_ = c.conn.CloseNow() // output then fails
			return
		}
	}
}

// errBroken says that a connection has ended without a word on the process.
var errBroken = &backend.Failure{Reason: backend.ErrAway,
	Msg: "the connection to the container broke: the cluster's API or the pod's node has ended it"}

// output copies what the process writes, until the cluster says how it has ended. Errors of
// the writers are returned as they are.
func (c *session) output(stdout, stderr io.Writer) (*metav1.Status, error) {
	for {
		_, message, err := c.conn.Read(c.ctx)
		if err != nil {
			if c.ctx.Err() != nil {
				return nil, c.ctx.Err()
			}
			return nil, &backend.Failure{Reason: errBroken.Reason, Msg: errBroken.Msg, Err: err}
		}
		if len(message) == 0 {
			continue
		}
		var to io.Writer
		switch message[0] {
		case channelStdout:
			to = stdout
		case channelStderr:
			to = stderr
		case channelStatus:
			status := new(metav1.Status)
			if err := json.Unmarshal(message[1:], status); err != nil {
				return nil, &backend.Failure{Msg: "the cluster says in no known form how the process has ended", Err: err}
			}
			return status, nil
		}
		if to == nil || len(message) == 1 {
			continue // an empty message opens a channel
		}
		if _, err := to.Write(message[1:]); err != nil {
			return nil, err
		}
	}
}

// exitCode returns the exit code in the status of a process that has run; ok is false if it
// hasn't.
func exitCode(status *metav1.Status) (code int, ok bool) {
	if status.Status == metav1.StatusSuccess {
		return 0, true
	}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			if cause.Type == "ExitCode" {
				code, err := strconv.Atoi(cause.Message)
				return code, err == nil
			}
		}
	}
	return 0, false
}

// statusError returns a status as an error.
func statusError(status *metav1.Status) error {
	return failure(&apierrors.StatusError{ErrStatus: *status})
}
