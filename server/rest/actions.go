package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

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
			Action: a.Action, UserID: a.UserID, RequestID: wire.OrNull(a.RequestID), StartedAt: structs.Time{Time: a.StartedAt},
			FinishedAt: structs.Time{Time: a.FinishedAt}, Result: a.Result, Message: wire.OrNull(a.Message),
		})
	}
	return q.JSON(http.StatusOK, body)
}
