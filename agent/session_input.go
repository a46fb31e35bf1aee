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

// maxInput is how much standard input is kept for a process that doesn't read
// it yet. Beyond it the session's connection isn't read: the sender waits, and
// the end of the connection has to be probed for.
const maxInput = 256 << 10

// probeEvery is the pause between two probes of a connection that isn't read.
const probeEvery = 250 * time.Millisecond

// input is what comes from a session's user: standard input, to be read like a
// file, and sizes of the terminal. One goroutine feeds it, one reads it.
type input struct {
	resize chan structs.Resize // the newest size

	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	ended   bool // there will be no more
	told    bool // that it has ended: the user has said so
	closed  bool // nobody reads any more

	stalled chan bool // whether feed waits: the newest word, for probe
}

func newInput() *input {
	in := &input{resize: make(chan structs.Resize, 1), stalled: make(chan bool, 1)}
	in.changed = sync.NewCond(&in.mu)
	return in
}

// read takes in messages until the connection ends.
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

// take takes in one message. One that makes no sense is ignored: a newer
// client may send more.
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
			in.told = true
			in.mu.Unlock()
			in.end()
		}
		if c.Resize != nil {
			select {
			case <-in.resize: // an older one that nobody has taken
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
		in.tellStalled(true)
		for len(in.buf) >= maxInput && !in.closed {
			in.changed.Wait()
		}
		in.tellStalled(false)
	}
	if in.closed || in.ended {
		return
	}
	in.buf = append(in.buf, b...)
	in.changed.Broadcast()
}

// tellStalled tells probe whether the connection is read.
func (in *input) tellStalled(stalled bool) {
	select {
	case <-in.stalled: // an older word that nobody has taken
	default:
	}
	in.stalled <- stalled
}

// probe calls send again and again while the connection isn't read, until ctx
// ends or send fails. What is sent to a peer that has left is refused, while its
// leaving stands behind the unread input and may never be seen.
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

// close drops what is unread and lets nobody wait any more.
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
		in.buf = nil // its room is free again
	}
	in.changed.Broadcast()
	return n, nil
}

// whole returns a reader of standard input for which an end that the user did
// not tell is an error: half an archive is none.
func (in *input) whole() io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := in.Read(p)
		in.mu.Lock()
		defer in.mu.Unlock()
		if err != nil && !in.told {
			err = structs.Errorf(structs.CodeInvalid, "the archive was cut short: %w", io.ErrUnexpectedEOF)
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
