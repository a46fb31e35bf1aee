package rest

import (
	"strings"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// checkUpgrade refuses what is no WebSocket.
func (q *request) checkUpgrade() error {
	if !strings.EqualFold(q.r.Header.Get("Upgrade"), "websocket") {
		return structs.Errorf(structs.CodeInvalid, "This is a WebSocket: the request has to upgrade to one.")
	}
	return nil
}

// upgrade makes the request a WebSocket; nil if that failed, which is answered.
func (q *request) upgrade(options *websocket.AcceptOptions) *websocket.Conn {
	conn, err := websocket.Accept(q.w, q.r, options)
	if err != nil {
		q.server.config.Logger.Debug("websocket refused", "request_id", q.w.requestID, "error", err)
		return nil
	}
	return conn
}
