package agent

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// maxInput is how much unread standard input is kept, in bytes. Beyond it the session's
// connection isn't read: the sender waits, and the user's leaving has to be probed for.
const maxInput = 256 << 10

// probeEvery is the pause between two probes of a connection that isn't read.
const probeEvery = 250 * time.Millisecond

// input is what a session's user sends: standard input, to be read like a file, and sizes
// of the terminal. One goroutine feeds it, one reads it.
type input struct {
	resize chan structs.Resize // the newest size

	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	ended   bool // there will be no more
	eof     bool // the user has sent the end of input
	closed  bool // nobody reads any more

	stalled chan bool // whether feed waits: the newest value, for probe
}

func newInput() *input {
	in := &input{resize: make(chan structs.Resize, 1), stalled: make(chan bool, 1)}
	in.changed = sync.NewCond(&in.mu)
	return in
}

// read takes messages until the connection ends.
func (in *input) read(ctx context.Context, conn *websocket.Conn) {
	defer in.end()
	for {
		kind, m, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary && len(m) > 0 {
			in.take(m[0], m[1:])
		}
	}
}

// take takes one message. Unknown messages are ignored, because a newer client may send
// more.
func (in *input) take(channel byte, body []byte) {
	switch channel {
	case structs.ChannelStdin:
		in.feed(body)
	case structs.ChannelControl:
		var c structs.Control
		if json.Unmarshal(body, &c) != nil {
			return
		}
		if c.EOF {
			in.mu.Lock()
			in.eof = true
			in.mu.Unlock()
			in.end()
		}
		if c.Resize != nil {
			select {
			case <-in.resize: // drop an older size
			default:
			}
			in.resize <- *c.Resize
		}
	}
}

// feed adds to standard input, and waits while too much is unread.
func (in *input) feed(b []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.buf) >= maxInput && !in.closed {
		in.setStalled(true)
		for len(in.buf) >= maxInput && !in.closed {
			in.changed.Wait()
		}
		in.setStalled(false)
	}
	if in.closed || in.ended {
		return
	}
	in.buf = append(in.buf, b...)
	in.changed.Broadcast()
}

// setStalled says to probe whether feed waits.
func (in *input) setStalled(stalled bool) {
	select {
	case <-in.stalled: // drop an older value
	default:
	}
	in.stalled <- stalled
}

// probe calls send repeatedly while the connection isn't read, until ctx ends or send
// fails. A peer that has left refuses what is sent, while the end of the connection is
// behind the unread input and can't be seen.
func (in *input) probe(ctx context.Context, send func() error) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var due <-chan time.Time // nil while the connection is read
	for {
		select {
		case stalled := <-in.stalled:
			due = nil
			if stalled {
				tick.Reset(probeEvery)
				due = tick.C
			}
		case <-due:
			if err := send(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// end marks the end of standard input.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	in.changed.Broadcast()
}

// endedByUser reports whether the user has said that no more input will follow.
func (in *input) endedByUser() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.eof
}

// close drops unread input and ends all waiting.
func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended, in.closed, in.buf = true, true, nil
	in.changed.Broadcast()
}

// Read reads standard input.
func (in *input) Read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.buf) == 0 && !in.ended {
		in.changed.Wait()
	}
	if len(in.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, in.buf)
	in.buf = in.buf[n:]
	if len(in.buf) == 0 {
		in.buf = nil // free the memory
	}
	in.changed.Broadcast()
	return n, nil
}

// whole returns a reader of standard input. It fails if input ends without the user's
// word: half an archive is none.
func (in *input) whole() io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := in.Read(p)
		in.mu.Lock()
		defer in.mu.Unlock()
		if err != nil && !in.eof {
			err = structs.Errorf(structs.CodeInvalid, "the archive was cut short: %w", io.ErrUnexpectedEOF)
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
