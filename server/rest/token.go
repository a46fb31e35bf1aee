package rest

import (
	"iter"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// tokens belong to no project: the policy lets only operators see them. Bodies never have
// a token's secret, which is stored nowhere, nor its hash.
var tokens = &web.Resource{
	Noun: "tokens", Kind: structs.KindToken, Table: structs.TableTokens,
	// Tokens are stored under project "", whichever project asks.
	Rows: func(v web.View, _ string, after uint64) iter.Seq[structs.Row] {
		return v.Snap.List(structs.TableTokens, "", after)
	},
	Watches: func(string) []service.Watch { return []service.Watch{{Table: structs.TableTokens}} },
	Sorts: map[string]func(a, b structs.Row) int{
		"name": web.By(func(t *structs.Token) string { return t.Name }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string { return r.(*structs.Token).Name }),
	},
	Summary: func(v web.View, r structs.Row) any { return tokenBody(v, r.(*structs.Token)) },
	Detail:  func(v web.View, r structs.Row) any { return tokenBody(v, r.(*structs.Token)) },
}

// tokenBody returns a token with all fields.
func tokenBody(v web.View, t *structs.Token) structs.TokenBody {
	body := structs.TokenBody{
		UUID: t.ID, Name: t.Name, ProjectID: wire.OrNull(t.Project), UserID: wire.OrNull(t.User), Join: t.Join,
		MaxHosts: t.MaxHosts, Labels: wire.Object(t.Labels),
		ExpiresAt: structs.Time{Time: t.ExpiresAt}, Expired: t.Expired(time.Now()), CreatedAt: structs.Time{Time: t.CreatedAt},
		CreatedBy: wire.OrNull(t.UserID), Links: v.Links("tokens", t.ID),
	}
	if t.Role != "" {
		body.Role = &t.Role
	}
	return body
}

var tokenShape = wire.NewShape(structs.KindToken, structs.TokenRequest{}, structs.TokenBody{})

func tokenRoutes() []*web.Route {
	get := web.Reading(tokens, structs.TokenBody{}, structs.TokenBody{}, identity.TokenList, identity.TokenDetail, identity.TokenGet,
		web.FilterArgName)
	return append(get,
		// This gives out the first token, so that it can't ask for one.
		&web.Route{Method: http.MethodPost, Path: "/operator/bootstrap", Action: identity.Public, Handle: bootstrap,
			Summary: "Give out the first admin token, once", Gives: web.CreatedNow(structs.TokenSecretBody{})},
		&web.Route{Method: http.MethodPost, Path: "/tokens", Action: identity.TokenCreate, Handle: createToken,
			Summary: "Create a token; only this response shows its secret", Takes: structs.TokenRequest{},
			Gives: web.CreatedNow(structs.TokenSecretBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/tokens/:id", Action: identity.TokenRevoke, Handle: revokeToken,
			Summary: "Revoke a token", Gives: web.DeletedNow()},
	)
}

var createToken = web.Write(func(q *web.Request) (service.NewToken, error) {
	var body structs.TokenRequest
	once, err := q.Decode(tokenShape, &body)
	if err != nil {
		return service.NewToken{}, err
	}
	return q.Service.Tokens().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, t service.NewToken) error {
	tokens.Locate(q, t.Token)
	return showSecret(q, t)
})

// showSecret answers with a token that was just created, and its secret.
func showSecret(q *web.Request, t service.NewToken) error {
	q.W.Header().Set("Cache-Control", "no-store")
	return q.JSON(http.StatusCreated, structs.TokenSecretBody{
		TokenBody: tokenBody(q.View(q.Service.Snapshot()), t.Token), Token: structs.FormatToken(t.Token.ID, t.Secret),
	})
}

var revokeToken = web.Write(func(q *web.Request) (service.Removed[*structs.Token], error) {
	return q.Service.Tokens().Revoke(q.Context(), &q.Call, q.Ident())
}, func(q *web.Request, _ service.Removed[*structs.Token]) error { return q.NoContent() })

// bootstrap gives out the first admin token, to whoever asks first.
var bootstrap = web.Write(func(q *web.Request) (service.NewToken, error) {
	return q.Service.Tokens().Bootstrap(q.Context(), &q.Call, q.R.RemoteAddr)
}, showSecret)
