package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// outputArgs are the query arguments of an execute about the form of its output.
var outputArgs = []wire.Arg{
	{Name: "split", Kind: wire.ArgBool, Doc: "Also answer with stdout and stderr as two fields."},
	{Name: "encoding", Kind: wire.ArgText,
		Doc: "base64 keeps every byte of the output. Without it, the output is text, with U+FFFD for bytes that aren't UTF-8."},
}

// execute executes a command and answers with its output.
func (s sessionCalls) execute(q *web.Request) error {
	text := func(b []byte) string { return string(b) }
	encoding := q.Query.Text("encoding")
	switch encoding {
	case "":
	case structs.EncodingBase64:
		text = base64.StdEncoding.EncodeToString
	default:
		return structs.Invalid("encoding", encoding, "It must be base64, or left out for text.")
	}
	r, err := wire.ExecRequest(q.Query)
	if err != nil {
		return err
	}
	out, err := s.of(q).Execute(q.Context(), &q.Call, q.Ident(), r)
	if err != nil {
		return err
	}
	body := structs.OutputBody{ExitCode: out.ExitCode, Encoding: encoding, Truncated: out.Truncated}
	if encoding == "" && !q.Query.Bool("split", false) {
		return web.Output(q, out.Both, body)
	}
	if err := q.Use.Grow(4 * len(out.Both)); err != nil { // copies in the body, before they are encoded
		return err
	}
	body.Output = text(out.Both)
	if q.Query.Bool("split", false) {
		stdout, stderr := text(out.Stdout), text(out.Stderr)
		body.Stdout, body.Stderr = &stdout, &stderr
	}
	return q.JSON(http.StatusOK, body)
}

// maxMessage is the limit of a user's message in a session, in bytes.
const maxMessage = 1 << 20

// executeWS executes a command with streams in both directions. The messages of
// the WebSocket are passed on to the host's agent and back.
func (s sessionCalls) executeWS(q *web.Request) error {
	if err := q.CheckUpgrade(); err != nil {
		return err
	}
	width, height, err := wire.TerminalSize(q.Query)
	if err != nil {
		return err
	}
	r, err := wire.ExecRequest(q.Query)
	if err != nil {
		return err
	}
	r.TTY, r.Stdin = q.Query.Bool("tty", false), q.Query.Bool("stdin", false)
	r.Width, r.Height = width, height
	session, err := s.of(q).OpenExec(q.Context(), &q.Call, q.Ident(), r)
	if err != nil {
		return err
	}
	defer session.Close()
	return terminal(q, session)
}

// terminal upgrades the request to a WebSocket and connects its user to the session.
func terminal(q *web.Request, session *dispatch.Session) error {
	conn := q.Upgrade(nil)
	if conn == nil {
		return nil
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1) // fromUser has its own limit, and answers with an error
	bridge(q.Context(), conn, session)
	return nil
}

// closeGrace is how long the last message may take to reach the user.
const closeGrace = 5 * time.Second

// bridge passes messages on between a user and an agent until one of them ends. The last
// message to the user says how the agent's side ended.
func bridge(ctx context.Context, user *websocket.Conn, agent *dispatch.Session) {
	refused := make(chan error, 1) // why the user's side was cut off; nil if the user left
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := fromUser(ctx, user, agent)
		refused <- err
		if !errors.Is(err, errAgentEnded) { // else its last message may still have to be read
			agent.Close() // wakes the other direction
		}
	}()
	defer func() { <-done }()
	defer user.CloseNow() // wakes fromUser, which may read from the user
	defer agent.Close()   // wakes fromUser, which may write to an agent that reads no more

	last := fromAgent(ctx, user, agent)
	select {
	case err := <-refused:
		if err == nil {
			return // the user has left
		}
		if !errors.Is(err, errAgentEnded) {
			last = controlMessage(err)
		}
	default:
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if last != nil && user.Write(finish, websocket.MessageBinary, last) == nil {
		user.Close(websocket.StatusNormalClosure, "")
	}
}

// fromAgent passes on the agent's messages, and returns the last message for the user,
// nil if the user can't be reached.
func fromAgent(ctx context.Context, user *websocket.Conn, agent *dispatch.Session) []byte {
	for {
		channel, payload, err := agent.Read(ctx)
		if err != nil {
			return controlMessage(err)
		}
		if channel != structs.ChannelControl {
			if send(ctx, user, channel, payload) != nil {
				return nil
			}
			continue
		}
		var m structs.Control
		switch {
		case json.Unmarshal(payload, &m) != nil:
		case m.ExitCode != nil || m.Error != "" || m.Done:
			return append([]byte{channel}, payload...)
		case m.Attached || m.EOF:
			if send(ctx, user, channel, payload) != nil {
				return nil
			}
		}
	}
}

// errAgentEnded: the agent takes no more messages. fromAgent knows why.
var errAgentEnded = errors.New("the agent has ended the session")

// fromUser passes on the user's messages until the user leaves, for which it returns nil. It
// returns errAgentEnded if the agent leaves, and another error if the user sent an invalid
// message.
func fromUser(ctx context.Context, user *websocket.Conn, agent *dispatch.Session) error {
	for {
		kind, r, err := user.Reader(ctx)
		if err != nil {
			return nil
		}
		message, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
		if err != nil {
			return nil
		}
		if len(message) > maxMessage {
			return structs.Errorf(structs.CodeTooLarge, "a message has at most %d bytes: split longer input into several messages",
				maxMessage)
		}
		if kind != websocket.MessageBinary || len(message) == 0 ||
			message[0] != structs.ChannelStdin && message[0] != structs.ChannelControl {
			return structs.Errorf(structs.CodeInvalid, "a message to the command is binary and begins with channel 0 or 3")
		}
		if message[0] == structs.ChannelControl {
			var m structs.Control
			if json.Unmarshal(message[1:], &m) != nil || m.Resize == nil && !m.EOF {
				return structs.Errorf(structs.CodeInvalid, "a message on channel 3 is {\"resize\":{\"w\":80,\"h\":24}} or {\"eof\":true}")
			}
			if m.Resize != nil {
				if err := wire.CheckSize(m.Resize.Width, m.Resize.Height); err != nil {
					return err
				}
			}
		}
		if agent.Write(ctx, message[0], message[1:]) != nil {
			if ctx.Err() != nil {
				return nil // the request is cut off
			}
			return errAgentEnded
		}
	}
}

// send writes one message to the user.
func send(ctx context.Context, user *websocket.Conn, channel byte, payload []byte) error {
	w, err := user.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte{channel}); err != nil {
		return err
	}
	if _, err := w.Write(payload); err != nil {
		return err
	}
	return w.Close()
}

// controlMessage returns a message that tells the user why a session failed.
func controlMessage(err error) []byte {
	m := structs.Control{Error: service.ErrUnexpected.Msg, Code: structs.CodeInternal}
	var known *structs.Error
	if errors.As(err, &known) {
		m.Error, m.Code = known.Msg, known.Code
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	return append([]byte{structs.ChannelControl}, b...)
}
