package web

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/structs"
)

// bodyWeight is how many bytes in flight each byte of a whole body counts as: it is decoded,
// and encoded for the log.
const bodyWeight = 4

// knower is an Authenticator that can tell which tokens it checks without asking another
// server. The tokens of other Authenticators are all unknown.
type knower interface{ Knows(token string) bool }

// authenticateLimited authenticates the request. An address from which too many requests
// come without a valid credential is refused first, unless the credential is known: whoever
// shares an address with an attacker is served. Hosts and other servers have no rate, and a
// forwarded request was counted by the server that forwarded it. Errors are CodeRateLimited
// and those of authenticate.
func authenticateLimited(q *Request) error {
	l := q.server.config.Limits
	switch {
	case l == nil || q.server.open:
		return q.authenticate()
	case q.Call.Forwarded:
		l.OfPeer(&q.Use)
		return q.authenticate()
	}
	client := ClientAddress(q.R)
	if !isKnown(q) {
		if err := l.MayTry(client); err != nil {
			return err
		}
		if q.route.Action == identity.Public {
			l.Failed(client)
		}
	}
	err := q.authenticate()
	if structs.CodeOf(err) == structs.CodeUnauthenticated {
		l.Failed(client)
		if limited := l.MayTry(client); limited != nil {
			return limited // the client doesn't learn whether the credential was right
		}
	}
	return err
}

// isKnown reports whether this server can check the request's credential without asking
// another one.
func isKnown(q *Request) bool {
	switch q.route.Action {
	case identity.AgentRegister:
		return false
	case identity.AgentCall:
		return q.server.config.Store.Snapshot().Host(q.Ident()) != nil
	}
	authenticator, ok := q.server.config.Authenticator.(knower)
	token, service := q.token(), q.R.Header.Get("X-Service-Token")
	return ok && token != "" && authenticator.Knows(token) && (service == "" || authenticator.Knows(service))
}

// countFailure counts a registration that was refused as a request without a valid
// credential.
func countFailure(q *Request, err error) {
	if q.server.config.Limits == nil || q.route.Action != identity.AgentRegister {
		return
	}
	if code := structs.CodeOf(err); code == structs.CodeUnauthenticated || code == structs.CodeForbidden {
		q.server.config.Limits.Failed(ClientAddress(q.R))
	}
}

// Charge counts the request for its caller, and what it holds from now on. A request is
// counted once. CodeRateLimited.
func Charge(q *Request, caller structs.Caller) error {
	l := q.server.config.Limits
	if l == nil || q.charged || q.Call.Forwarded {
		return nil
	}
	q.charged = true
	var holder structs.SessionHolder
	if !q.server.open {
		holder = structs.SessionHolder{Project: caller.ProjectID, User: caller.UserID}
	}
	l.OfUser(&q.Use, holder)
	if !IsShortLived(q.route.Action) {
		q.R = q.R.WithContext(limits.NewContext(q.R.Context(), &q.Use))
	}
	if q.server.open {
		return nil
	}
	err := l.Request(caller.ProjectID, q.R.Method != http.MethodGet && q.R.Method != http.MethodHead)
	if err != nil {
		q.W.Parked = true
		l.Slow(q.R.Context(), caller.ProjectID)
	}
	return err
}

// TakeTerminal takes one of most terminals of the server for the request's caller. It returns a
// function that gives it back. CodeRateLimited if the caller has its share.
func TakeTerminal(q *Request, most int) (giveBack func(), err error) {
	giveBack, err = q.server.terminals.Take("", most, q.Use.Holder, "terminals of the server")
	if err != nil {
		q.Use.CountRefusal(limits.Terminals)
	}
	return giveBack, err
}
