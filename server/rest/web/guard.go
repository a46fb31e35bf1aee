package web

import (
	"context"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// shortLived are the actions whose requests are over in a moment: what they do is
// decided or read once, and their answer is sent as a whole. They need no guard,
// unless they are asked to wait. A new action has one.
var shortLived = map[identity.Action]bool{
	identity.APIVersion: true, identity.APIDocument: true,
	identity.BayCreate: true, identity.BayList: true, identity.BayDetail: true, identity.BayGet: true,
	identity.BayModelCreate: true, identity.BayModelList: true, identity.BayModelDetail: true, identity.BayModelGet: true,
	identity.BayModelUpdate: true, identity.BayModelDelete: true,
	identity.NodeCreate: true, identity.NodeList: true, identity.NodeDetail: true, identity.NodeGet: true, identity.NodeUpdate: true,
	identity.NodeDelete: true,
	identity.HostList:   true, identity.HostDetail: true, identity.HostGet: true, identity.HostUpdate: true,
	identity.HostDrain: true, identity.HostFence: true, identity.HostRelease: true, identity.HostAdopt: true,
	identity.ContainerCreate: true, identity.ContainerList: true, identity.ContainerDetail: true, identity.ContainerGet: true,
	identity.ContainerActions: true,
	identity.TokenCreate:      true, identity.TokenList: true, identity.TokenDetail: true, identity.TokenGet: true,
	identity.TokenRevoke:   true,
	identity.OperatorState: true, identity.OperatorMembers: true,
}

// IsShortLived reports whether a request for the action needs no guard, unless it waits.
func IsShortLived(action identity.Action) bool { return shortLived[action] }

// needsNoTokenWatch reports whether the request needs no guard.
func (q *Request) needsNoTokenWatch() bool {
	return IsShortLived(q.route.Action) && !q.Query.Has("index") && !q.Query.Has("wait")
}

// guard cuts the request off once the token that let it in is revoked or its
// time is over: until then a stream, an upload, or a read that is parked, would go
// on. The function that it returns ends the guard before the connection has its
// next request. What is over at once goes without a guard, which costs a goroutine.
func (q *Request) watchToken() (end func()) {
	if q.needsNoTokenWatch() {
		return func() {}
	}
	return q.WatchTokenOf(q.Caller())
}

// GuardOf is guard for a caller who was let in by another request.
func (q *Request) WatchTokenOf(caller structs.Caller) (end func()) {
	if caller.TokenID == "" {
		return func() {}
	}
	ctx, cut := context.WithCancel(q.R.Context())
	q.R = q.R.WithContext(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if !q.Service.TokenEnds(ctx, caller.TokenID) {
			return
		}
		q.server.config.Logger.Info("request cut off: its token is revoked or has expired", "request_id", q.W.RequestID, "token_id",
			caller.TokenID)
		// What its handler still has to say, and if it is only that all is well,
		// doesn't arrive any more.
		connection, over := http.NewResponseController(q.W), time.Unix(1, 0)
		_ = connection.SetWriteDeadline(over)
		cut()
		_ = connection.SetReadDeadline(over) // wakes who reads the body; see incoming.Read
	}()
	return func() {
		cut()
		<-ended
	}
}
