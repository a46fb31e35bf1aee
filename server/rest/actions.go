package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// actionsOf returns the route of the actions on an object of a kind, the newest first.
func actionsOf(noun, kind string, may identity.Action) *web.Route {
	return &web.Route{Method: http.MethodGet, Path: "/" + noun + "/:id/actions", Action: may,
		Handle: func(q *web.Request) error { return answerActions(q, kind) }, Args: web.Consistency,
		Summary: "The last actions on a " + kind, Gives: web.OK(structs.ActionsBody{})}
}

// actionRoutes are those of objects that run nothing themselves.
func actionRoutes() []*web.Route {
	return []*web.Route{
		actionsOf("bays", structs.KindBay, identity.BayActions), actionsOf("baymodels", structs.KindBayModel, identity.BayModelActions),
		actionsOf("nodes", structs.KindNode, identity.NodeActions), actionsOf("hosts", structs.KindHost, identity.HostActions),
		actionsOf("rcs", structs.KindRC, identity.RCActions), actionsOf("services", structs.KindService, identity.ServiceActions),
	}
}

// containerActions answers with the actions on a container, podActions with those on a pod;
// the newest first.
var (
	containerActions = func(q *web.Request) error { return answerActions(q, structs.KindContainer) }
	podActions       = func(q *web.Request) error { return answerActions(q, structs.KindPod) }
)

func answerActions(q *web.Request, kind string) error {
	snap, _, actions, err := q.Service.Actions(q.Context(), &q.Call, kind, q.Ident())
	if err != nil {
		return err
	}
	q.W.Index = snap.Index()
	body := structs.ActionsBody{Actions: []structs.ActionBody{}}
	for _, a := range slices.Backward(actions) {
		body.Actions = append(body.Actions, structs.ActionBody{
			Action: a.Action, UserID: a.UserID, ProjectID: wire.OrNull(a.ProjectID), ServiceUserID: wire.OrNull(a.ServiceID),
			RequestID: wire.OrNull(a.RequestID), StartedAt: structs.Time{Time: a.StartedAt},
			FinishedAt: structs.Time{Time: a.FinishedAt}, Result: a.Result, Message: wire.OrNull(a.Message),
		})
	}
	return q.JSON(http.StatusOK, body)
}
