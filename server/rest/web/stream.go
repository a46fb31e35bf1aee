package web

import (
	"context"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// session is what a stream reads. *dispatch.Session satisfies it.
type session interface {
	// Read returns the next message. The payload is valid until the next Read.
	Read(ctx context.Context) (channel byte, payload []byte, err error)
}

// message is one message of a session.
type message struct {
	channel byte
	payload []byte
	err     error
}

// A stream begins its response once it has output. A refusal before that gets its status.
const (
	// acceptedWait is how long a stream without output waits after the host has accepted the
	// session: the engine may still refuse it.
	acceptedWait = 250 * time.Millisecond
	// hostWait is how long a stream waits for the host. A host of an earlier version doesn't say
	// that it has accepted the session.
	hostWait = 5 * time.Second
)

// Stream writes the session's output as it comes. shown encodes each message.
func Stream(q *Request, session session, media string, shown func(payload []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(q.Context())
	messages, next, done := make(chan message), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m message
			m.channel, m.payload, m.err = session.Read(ctx)
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
			if m.err != nil {
				return
			}
			select {
			case <-next: // the payload was written
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { <-done }()
	defer cancel()

	begin := time.NewTimer(hostWait)
	defer begin.Stop()
	w := streamWriter{q: q, media: media, shown: shown}
	for {
		select {
		case m := <-messages:
			accepted, over, err := w.write(m)
			if over || err != nil {
				return err
			}
			if accepted {
				begin.Reset(acceptedWait)
			}
			next <- struct{}{}
		case <-ctx.Done():
			return structs.Errorf(structs.CodeUnavailable, "the stream was cut short: %w", context.Cause(ctx))
		case <-begin.C:
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
}

// streamWriter writes the messages of a session to its user.
type streamWriter struct {
	q     *Request
	media string
	shown func(payload []byte) ([]byte, error)
}

// begin begins the response.
func (w *streamWriter) begin() {
	if w.q.W.Status == 0 {
		w.q.W.Header().Set("Content-Type", w.media)
		w.q.W.Header().Set("X-Content-Type-Options", "nosniff")
		w.q.W.WriteHeader(http.StatusOK)
	}
}

// flush sends what was written.
func (w *streamWriter) flush() error {
	w.begin()
	return http.NewResponseController(w.q.W).Flush()
}

// write writes one message. accepted says that the host has accepted the session, over that the
// message was the last one.
func (w *streamWriter) write(m message) (accepted, over bool, err error) {
	if m.err != nil {
		return false, true, m.err
	}
	if m.channel == structs.ChannelControl {
		c, err := service.Control(m.payload)
		if over = c.Done || c.ExitCode != nil; over && err == nil {
			w.begin()
		}
		return c.Accepted, over, err
	}
	text, err := w.shown(m.payload)
	if err != nil {
		return false, true, err
	}
	w.begin()
	if _, err := w.q.W.Write(text); err != nil {
		return false, true, err
	}
	return false, false, w.flush()
}
