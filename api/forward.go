package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// HalfCloser is a connection whose directions end one by one. *net.TCPConn is one.
type HalfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Forward joins local to a TCP port of the pod of a uuid or name, until both directions have
// ended, or until local is closed by its other end. It closes local. The error is the cause of
// ctx's end if that ends it. CodeNotFound, CodeConflict: the pod has no host, or has ended; CodeUnavailable: the pod takes no connection
// on the port, or the connection broke.
func (t Pods) Forward(ctx context.Context, ident string, port int, local HalfCloser) error {
	defer local.Close()
	path, err := objectPath("pods", ident, "forward", "ws")
	if err != nil {
		return err
	}
	return forward(ctx, t.c, structs.KindPod, path, url.Values{"port": {strconv.Itoa(port)}}, local)
}

// forward joins local to the session at a path, and closes local.
func forward(ctx context.Context, c *Client, kind, path string, q url.Values, local HalfCloser) error {
	opened, err := c.dial(ctx, path, q, http.Header{})
	if err != nil {
		return err
	}
	conn := opened.Conn
	defer conn.CloseNow()
	session, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		sendInput(session, conn, local)
	}()
	defer func() {
		local.Close() // ends sendInput
		conn.CloseNow()
		<-sent
	}()
	defer context.AfterFunc(session, func() { local.Close() })()
	err = receiveForwarded(session, conn, kind, local)
	switch {
	case err == nil:
		conn.Close(websocket.StatusNormalClosure, "")
		return nil
	case ctx.Err() == nil && errors.Is(err, errLocalGone):
		return nil
	}
	if c, ok := local.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0) // so that local doesn't take what it has got for all; fails if it has gone
	}
	var ours *structs.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &ours):
		return err
	}
	return structs.Errorf(structs.CodeUnavailable, "the connection to %s broke: %w", c.Address(), opened.begun.cause(ctx, err))
}

// errLocalGone: the local side has closed its connection.
var errLocalGone = errors.New("the local side has gone")

// receiveForwarded copies what the pod sends to local until the last message.
func receiveForwarded(ctx context.Context, conn *websocket.Conn, kind string, local HalfCloser) error {
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		switch {
		case len(message) == 0:
		case message[0] == structs.ChannelStdout:
			if _, err := local.Write(message[1:]); err != nil {
				return errLocalGone
			}
		case message[0] == structs.ChannelControl:
			var m structs.Control
			if err := json.Unmarshal(message[1:], &m); err != nil {
				return structs.Errorf(structs.CodeInternal, "a control message of the server can't be decoded: %w", err)
			}
			switch {
			case m.Error != "":
				if m.Code == "" {
					m.Code = structs.CodeInternal
				}
				return &structs.Error{Code: m.Code, Kind: kind, Msg: m.Error}
			case m.EOF:
				_ = local.CloseWrite() // fails if the local side has gone, which its next read shows
			case m.Done:
				return nil
			}
		}
	}
}
