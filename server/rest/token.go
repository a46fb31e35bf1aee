package rest

import (
	"iter"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// tokens belong to no project: the policy lets only operators see them. What
// is shown of one never has its secret, which nobody keeps, nor the hash.
var tokens = &resource{
	noun: "tokens", kind: structs.KindToken, table: structs.TableTokens,
	// Whoever asks, they are in project "".
	rows: func(v view, _ string, after uint64) iter.Seq[structs.Row] {
		return v.snap.List(structs.TableTokens, "", after)
	},
	watches: func(string) []service.Watch { return []service.Watch{{Table: structs.TableTokens}} },
	sorts: map[string]func(a, b structs.Row) int{
		"name": by(func(t *structs.Token) string { return t.Name }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name": filterName(func(r structs.Row) string { return r.(*structs.Token).Name }),
	},
	brief: func(v view, r structs.Row) any { return tokenBody(v, r.(*structs.Token)) },
	full:  func(v view, r structs.Row) any { return tokenBody(v, r.(*structs.Token)) },
}

// tokenBody returns the token as operators see it.
func tokenBody(v view, t *structs.Token) structs.TokenBody {
	body := structs.TokenBody{
		UUID: t.ID, Name: t.Name, ProjectID: wire.OrNull(t.Project), UserID: wire.OrNull(t.User), Join: t.Join,
		ExpiresAt: structs.Time{Time: t.ExpiresAt}, Expired: t.Expired(time.Now()), CreatedAt: structs.Time{Time: t.CreatedAt},
		CreatedBy: wire.OrNull(t.UserID), Links: v.links("tokens", t.ID),
	}
	if t.Role != "" {
		body.Role = &t.Role
	}
	return body
}

var tokenShape = wire.NewShape(structs.KindToken, structs.TokenRequest{}, structs.TokenBody{})

func tokenRoutes() []*route {
	get := reading(tokens, structs.TokenBody{}, structs.TokenBody{}, identity.TokenList, identity.TokenDetail, identity.TokenGet, filterArgName)
	return append(get,
		// Nobody can have a token before this has given out the first one.
		&route{method: http.MethodPost, path: "/operator/bootstrap", action: identity.Public, handle: bootstrap,
			summary: "Give out the first admin token, once", gives: made(structs.TokenSecretBody{})},
		&route{method: http.MethodPost, path: "/tokens", action: identity.TokenCreate, handle: createToken,
			summary: "Make a token; its secret is shown in this answer only", takes: structs.TokenRequest{}, gives: made(structs.TokenSecretBody{})},
		&route{method: http.MethodDelete, path: "/tokens/:id", action: identity.TokenRevoke, handle: revokeToken, summary: "Revoke a token", gives: removed()},
	)
}

var createToken = write(func(q *request) (service.NewToken, error) {
	var body structs.TokenRequest
	once, err := q.decode(tokenShape, &body)
	if err != nil {
		return service.NewToken{}, err
	}
	return q.service.Tokens.Create(q.ctx(), &q.call, &body, once)
}, func(q *request, t service.NewToken) error {
	tokens.locate(q, t.Token)
	return showSecret(q, t)
})

// showSecret answers with a token that was just made, and its secret.
func showSecret(q *request, t service.NewToken) error {
	q.w.Header().Set("Cache-Control", "no-store")
	return q.json(http.StatusCreated, structs.TokenSecretBody{
		TokenBody: tokenBody(q.view(q.service.Snapshot()), t.Token), Token: structs.FormatToken(t.Token.ID, t.Secret),
	})
}

var revokeToken = write(func(q *request) (service.Removed[*structs.Token], error) {
	return q.service.Tokens.Revoke(q.ctx(), &q.call, q.ident())
}, func(q *request, _ service.Removed[*structs.Token]) error { return q.noContent() })

// bootstrap gives out the first admin token, to whoever asks first.
var bootstrap = write(func(q *request) (service.NewToken, error) {
	return q.service.Tokens.Bootstrap(q.ctx(), &q.call, q.r.RemoteAddr)
}, showSecret)
