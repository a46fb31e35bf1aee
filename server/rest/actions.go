package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// containerActions answers with what was done to a container, the newest first.
func containerActions(q *request) error {
	snap, _, actions, err := q.service.Containers.Actions(q.ctx(), &q.call, q.ident())
	if err != nil {
		return err
	}
	q.w.index = snap.Index()
	body := structs.ActionsBody{Actions: []structs.ActionBody{}}
	for _, a := range slices.Backward(actions) {
		body.Actions = append(body.Actions, structs.ActionBody{
			Action: a.Action, UserID: a.UserID, RequestID: wire.OrNull(a.RequestID), StartedAt: structs.Time{Time: a.StartedAt},
			FinishedAt: structs.Time{Time: a.FinishedAt}, Result: a.Result, Message: wire.OrNull(a.Message),
		})
	}
	return q.json(http.StatusOK, body)
}
