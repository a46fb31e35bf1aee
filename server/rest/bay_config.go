package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/structs"
)

// bayConfigRoutes are for the users' own clients of a bay's Kubernetes cluster.
func bayConfigRoutes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/bays/:id/config", Action: identity.BayConfig, Handle: bayConfig, Args: web.Consistency,
			Summary: "Show how clients of Kubernetes reach the bay's cluster", Gives: web.OK(structs.BayConfigBody{})},
		{Method: http.MethodPost, Path: "/bays/:id/credential", Action: identity.BayCredential, Handle: bayCredential,
			Summary: "Make a token of the bay's Kubernetes cluster for the project's namespace; only this response shows it",
			Gives:   web.OK(structs.BayCredentialBody{})},
	}
}

func bayConfig(q *web.Request) error {
	snap, body, err := q.Service.Bays().Config(q.Context(), &q.Call, q.Ident())
	return q.JSONOf(snap, body, err)
}

func bayCredential(q *web.Request) error {
	snap, body, err := q.Service.Bays().Credential(q.Context(), &q.Call, q.Ident())
	q.W.Header().Set("Cache-Control", "no-store")
	return q.JSONOf(snap, body, err)
}
