package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// containerActions answers with the actions on a container, the newest first.
func containerActions(q *web.Request) error {
	snap, _, actions, err := q.Service.Containers().Actions(q.Context(), &q.Call, q.Ident())
	if err != nil {
		return err
	}
	q.W.Index = snap.Index()
	body := structs.ActionsBody{Actions: []structs.ActionBody{}}
	for _, a := range slices.Backward(actions) {
		body.Actions = append(body.Actions, structs.ActionBody{
			Action: a.Action, UserID: a.UserID, RequestID: wire.OrNull(a.RequestID), StartedAt: structs.Time{Time: a.StartedAt},
			FinishedAt: structs.Time{Time: a.FinishedAt}, Result: a.Result, Message: wire.OrNull(a.Message),
		})
	}
	return q.JSON(http.StatusOK, body)
}
