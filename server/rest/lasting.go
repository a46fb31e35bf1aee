package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// lasting are the actions whose answers may go on for long after their caller
// was let in.
var lasting = map[identity.Action]bool{
	identity.EventList: true, identity.ContainerLogs: true, identity.ContainerStats: true,
	identity.ContainerExecute: true, identity.ContainerAttach: true,
}

// guard cuts the request off once the token that let it in is revoked or its
// time is over: until then a stream, or a read that is parked, would go on
// telling. The function that it returns ends the guard before the connection
// has its next request. What is over at once goes without a guard, which costs
// a goroutine.
func (q *request) guard() (end func()) {
	if !lasting[q.route.action] && !q.query.has("index") && !q.query.has("wait") {
		return func() {}
	}
	return q.guardOf(q.caller())
}

// guardOf is guard for a caller who was let in by another request.
func (q *request) guardOf(caller structs.Caller) (end func()) {
	if caller.TokenID == "" {
		return func() {}
	}
	ctx, cut := context.WithCancel(q.r.Context())
	q.r = q.r.WithContext(ctx)
	changed := q.Store.Subscribe(state.TopicRow(structs.TableTokens, caller.TokenID))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer changed.Close()
		for {
			token := q.Store.Snapshot().Token(caller.TokenID)
			if token == nil || token.Expired(time.Now()) {
				break
			}
			var over <-chan time.Time
			if !token.ExpiresAt.IsZero() {
				over = time.After(time.Until(token.ExpiresAt))
			}
			select {
			case <-changed.C():
			case <-over:
			case <-ctx.Done():
				return
			}
		}
		q.Logger.Info("request cut off: its token is revoked or has expired", "request_id", q.w.requestID, "token_id", caller.TokenID)
		// What its handler still has to say, and if it is only that all is well,
		// doesn't arrive any more.
		_ = http.NewResponseController(q.w).SetWriteDeadline(time.Unix(1, 0))
		cut()
	}()
	return func() {
		cut()
		<-ended
	}
}
