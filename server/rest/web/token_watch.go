package web

import (
	"context"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// shortLived lists the actions whose requests end soon: they decide or read once and
// send a response of known length. Such a request can't outlive the token that
// authorized it, unless it waits. All other actions are long-lived, new ones included.
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

// IsShortLived reports whether requests for the action end soon, unless they wait.
func IsShortLived(action identity.Action) bool { return shortLived[action] }

// needsNoTokenWatch reports whether the request is too short to outlive its token.
func (q *Request) needsNoTokenWatch() bool {
	return IsShortLived(q.route.Action) && !q.Query.Has("index") && !q.Query.Has("wait")
}

// watchToken cuts the request off when the token that authorized it is revoked or
// expires. Otherwise a stream, an upload or a blocking read would go on. The caller calls
// end before the connection gets its next request. Short-lived requests aren't watched,
// because a watch costs a goroutine.
func (q *Request) watchToken() (end func()) {
	if q.needsNoTokenWatch() {
		return func() {}
	}
	return q.WatchTokenOf(q.Caller())
}

// WatchTokenOf is watchToken for a caller that another request has authenticated.
func (q *Request) WatchTokenOf(caller structs.Caller) (end func()) {
	if caller.TokenID == "" && caller.Credential == nil {
		return func() {}
	}
	ctx, cut := context.WithCancel(q.R.Context())
	q.R = q.R.WithContext(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if caller.Credential != nil {
			if !caller.Credential.Ends(ctx) {
				return
			}
		} else if !q.Service.TokenEnds(ctx, caller.TokenID) {
			return
		}
		q.server.config.Logger.Info("request cut off: its token is revoked or has expired",
			"request_id", q.W.RequestID, "token_id", caller.TokenID, "user_id", caller.UserID, "project_id", caller.ProjectID)
		// From now on nothing that the handler writes reaches the client, not even a
		// success.
		q.W.cutOff()
		cut()
		_ = http.NewResponseController(q.W).SetReadDeadline(time.Unix(1, 0)) // wakes the reader of the body; see incoming.Read
	}()
	return func() {
		cut()
		<-ended
	}
}

// checkToken returns CodeUnauthenticated if the token that authorized the request is
// known to have ended meanwhile.
func checkToken(q *Request) error {
	if c := q.Caller().Credential; c != nil {
		return c.Check()
	}
	return q.Service.CheckToken(q.Caller().TokenID)
}
