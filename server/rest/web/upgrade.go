package web

import (
	"strings"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// CheckUpgrade refuses a request that doesn't upgrade to a WebSocket. CodeInvalid.
func (q *Request) CheckUpgrade() error {
	if !strings.EqualFold(q.R.Header.Get("Upgrade"), "websocket") {
		return structs.Errorf(structs.CodeInvalid, "This is a WebSocket: the request has to upgrade to one.")
	}
	return nil
}

// Upgrade upgrades the request to a WebSocket. It returns nil if that failed; the client
// then has its answer.
func (q *Request) Upgrade(options *websocket.AcceptOptions) *websocket.Conn {
	conn, err := websocket.Accept(q.W, q.R, options)
	if err != nil {
		q.server.config.Logger.Debug("websocket refused", "request_id", q.W.RequestID, "error", err)
		return nil
	}
	return conn
}
