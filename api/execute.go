package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// Streams are the caller's streams of an interactive execute or attach.
type Streams struct {
	Stdin  io.Reader             // nil if the process gets no input; a Read may outlast the call
	Stdout io.Writer             // also gets the output of a TTY; nil drops it
	Stderr io.Writer             // gets nothing with a TTY; nil drops it
	Resize <-chan structs.Resize // new sizes of the terminal; may be nil
}

// ExecuteInteractive runs a command in a container with streams in both directions
// and returns its exit code. It returns when the command ends, or when ctx does.
// CodeNotFound, CodeConflict: the container does not run, CodeUnavailable: the
// connection broke, and the command may still run.
func (t Containers) ExecuteInteractive(ctx context.Context, ident string, req structs.ExecRequest, s Streams) (int, error) {
	return t.process(ident).executeInteractive(ctx, req, s)
}

// setSize adds a terminal's size to a session's query if the size is known.
func setSize(q url.Values, size structs.Resize) {
	if size.Width > 0 && size.Height > 0 {
		q.Set("w", strconv.FormatUint(uint64(size.Width), 10))
		q.Set("h", strconv.FormatUint(uint64(size.Height), 10))
	}
}

// runSession copies the streams of a session until its last message, and returns
// the exit code in that message: nil if the process goes on. It closes the
// connection. joined is called once the agent has attached to the process's
// streams; it may be nil.
func (p process) runSession(ctx context.Context, opened *session, s Streams, joined func()) (*int, error) {
	conn := opened.Conn
	defer conn.CloseNow()
	session, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.Stdin != nil {
		// Not waited for: a Read of a terminal can't be interrupted. The
		// goroutine's next write fails once the connection is closed.
		go sendInput(session, conn, s.Stdin)
	}
	resized := make(chan struct{})
	go func() {
		defer close(resized)
		sendSizes(session, conn, s.Resize)
	}()
	code, err := receiveOutput(session, conn, p.kind, s, joined)
	cancel()
	<-resized
	if err != nil {
		var ours *structs.Error
		if errors.As(err, &ours) {
			return nil, err
		}
		return nil, opened.begun.sessionError(ctx, err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
	return code, nil
}

// sessionError returns the error of a session that ended before its last message.
func (b begun) sessionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err = b.cause(ctx, err); errors.Is(err, ErrTokenEnded) {
		return structs.Errorf(structs.CodeUnavailable,
			"%s has ended the session before the command ended; the command may still run. A session can't go on with another token: "+
				"%w", b.c.Address(), err)
	}
	return structs.Errorf(structs.CodeUnavailable,
		"the connection to %s broke before the command ended; the command may still run: %w", b.c.Address(), err)
}

// sendInput copies the caller's input to the session until either ends.
func sendInput(ctx context.Context, conn *websocket.Conn, in io.Reader) {
	buf := make([]byte, 1+16<<10)
	buf[0] = structs.ChannelStdin
	for {
		n, err := in.Read(buf[1:])
		if n > 0 && conn.Write(ctx, websocket.MessageBinary, buf[:1+n]) != nil {
			return // receiveOutput returns the error of the connection
		}
		if err != nil {
			_ = sendControl(ctx, conn, structs.Control{EOF: true}) // receiveOutput returns the error
			return
		}
	}
}

// sendSizes sends the terminal's new sizes to the session.
func sendSizes(ctx context.Context, conn *websocket.Conn, sizes <-chan structs.Resize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if sendControl(ctx, conn, structs.Control{Resize: &size}) != nil {
				return // receiveOutput returns the error of the connection
			}
		case <-ctx.Done():
			return
		}
	}
}

// sendControl sends one control message.
func sendControl(ctx context.Context, conn *websocket.Conn, m structs.Control) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageBinary, append([]byte{structs.ChannelControl}, text...))
}

// receiveOutput copies the session's output to the caller until the server's last
// message, and returns the exit code in it, nil if it has none.
func receiveOutput(ctx context.Context, conn *websocket.Conn, kind string, s Streams, joined func()) (*int, error) {
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return nil, err
		}
		if len(message) == 0 {
			continue
		}
		data := message[1:]
		switch message[0] {
		case structs.ChannelStdout:
			err = writeAll(s.Stdout, data)
		case structs.ChannelStderr:
			err = writeAll(s.Stderr, data)
		case structs.ChannelControl:
			var m structs.Control
			if err := json.Unmarshal(data, &m); err != nil {
				return nil, structs.Errorf(structs.CodeInternal, "a control message of the server can't be decoded: %w", err)
			}
			if m.Error != "" {
				if m.Code == "" {
					m.Code = structs.CodeInternal
				}
				return nil, &structs.Error{Code: m.Code, Kind: kind, Msg: m.Error}
			}
			if m.ExitCode != nil || m.Done {
				return m.ExitCode, nil
			}
			if m.Attached && joined != nil {
				joined()
			}
		}
		if err != nil {
			return nil, structs.Errorf(structs.CodeInternal, "writing the command's output: %w", err)
		}
	}
}

// writeAll writes data to w; a nil w drops it.
func writeAll(w io.Writer, data []byte) error {
	if w == nil {
		return nil
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
