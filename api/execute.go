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

// Streams are the ends of an interactive execute or attach that the caller
// holds.
type Streams struct {
	Stdin  io.Reader             // nil if the command gets no input; its Read may outlive ExecuteInteractive
	Stdout io.Writer             // also the terminal's output
	Stderr io.Writer             // nothing comes here with a TTY
	Resize <-chan structs.Resize // new sizes of the terminal; may be nil
}

// ExecuteInteractive runs a command in a container with streams in both
// directions and returns its exit code. It ends when the command does, or with
// ctx. CodeNotFound, CodeConflict: the container does not run,
// CodeUnavailable: the connection broke, and whether the command goes on is
// not known.
func (t Containers) ExecuteInteractive(ctx context.Context, ident string, req structs.ExecRequest, s Streams) (int, error) {
	path, err := objectPath("containers", ident, "execute", "ws")
	if err != nil {
		return 0, err
	}
	q, err := execQuery(req)
	if err != nil {
		return 0, err
	}
	q.Set("tty", strconv.FormatBool(req.TTY))
	q.Set("stdin", strconv.FormatBool(req.Stdin && s.Stdin != nil))
	setSize(q, structs.Resize{Width: req.Width, Height: req.Height})
	conn, err := t.c.dial(ctx, path, q, nil)
	if err != nil {
		return 0, err
	}
	if !req.Stdin {
		s.Stdin = nil
	}
	code, err := t.c.converse(ctx, conn, s, nil)
	if err == nil && code == nil {
		err = structs.Errorf(structs.CodeInternal, "the session ended without the command's exit code")
	}
	if err != nil {
		return 0, err
	}
	return *code, nil
}

// setSize adds a terminal's size, if it is known, to a session's query.
func setSize(q url.Values, size structs.Resize) {
	if size.Width > 0 && size.Height > 0 {
		q.Set("w", strconv.FormatUint(uint64(size.Width), 10))
		q.Set("h", strconv.FormatUint(uint64(size.Height), 10))
	}
}

// converse joins the streams to a session until its last message, and returns
// the exit code in it: nil if the session ended and the process did not. It
// closes the connection. joined is called once the agent has joined the process's
// streams; nil for nobody.
func (c *Client) converse(ctx context.Context, conn *websocket.Conn, s Streams, joined func()) (*int, error) {
	defer conn.CloseNow()
	session, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.Stdin != nil {
		// Not waited for: a Read of a terminal can't be interrupted. Its
		// writes end with the connection.
		go sendInput(session, conn, s.Stdin)
	}
	resized := make(chan struct{})
	go func() {
		defer close(resized)
		sendSizes(session, conn, s.Resize)
	}()
	code, err := receiveOutput(session, conn, s, joined)
	cancel()
	<-resized
	if err != nil {
		var ours *structs.Error
		if errors.As(err, &ours) {
			return nil, err
		}
		return nil, c.brokenSession(ctx, err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
	return code, nil
}

// brokenSession makes the error of a session that ended before its last
// message.
func (c *Client) brokenSession(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the caller's own wish
	}
	return structs.Errorf(structs.CodeUnavailable, "the connection to %s broke before the command ended; whether it still runs is not known: %w", c.Address(), err)
}

// sendInput copies the caller's input to the command until either ends.
func sendInput(ctx context.Context, conn *websocket.Conn, in io.Reader) {
	buf := make([]byte, 1+16<<10)
	buf[0] = structs.ChannelStdin
	for {
		n, err := in.Read(buf[1:])
		if n > 0 && conn.Write(ctx, websocket.MessageBinary, buf[:1+n]) != nil {
			return // the reader of the connection tells why
		}
		if err != nil {
			_ = sendControl(ctx, conn, structs.Control{EOF: true}) // likewise
			return
		}
	}
}

// sendSizes tells the command its terminal's new sizes.
func sendSizes(ctx context.Context, conn *websocket.Conn, sizes <-chan structs.Resize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if sendControl(ctx, conn, structs.Control{Resize: &size}) != nil {
				return // the reader of the connection tells why
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

// receiveOutput copies the command's output to the caller until the server's
// last message, and returns the exit code in it, if there is one.
func receiveOutput(ctx context.Context, conn *websocket.Conn, s Streams, joined func()) (*int, error) {
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
				return nil, structs.Errorf(structs.CodeInternal, "a control message of the server can't be read: %w", err)
			}
			if m.Error != "" {
				if m.Code == "" {
					m.Code = structs.CodeInternal
				}
				return nil, &structs.Error{Code: m.Code, Kind: structs.KindContainer, Msg: m.Error}
			}
			if m.ExitCode != nil || m.Done {
				return m.ExitCode, nil
			}
			if m.Attached && joined != nil {
				joined()
			}
		}
		if err != nil {
			return nil, structs.Errorf(structs.CodeInternal, "the command's output can't be written: %w", err)
		}
	}
}

// writeAll writes data; a nil writer drops it.
func writeAll(w io.Writer, data []byte) error {
	if w == nil {
		return nil
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
