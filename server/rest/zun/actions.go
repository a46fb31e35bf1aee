package zun

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// action is one action on a container.
type action struct {
	Action    string       `json:"action"`
	UUID      string       `json:"container_uuid"`
	ProjectID string       `json:"project_id"`
	UserID    string       `json:"user_id"`
	RequestID string       `json:"request_id"`
	StartTime structs.Time `json:"start_time"`
	Message   *string      `json:"message"`
	Events    []event      `json:"events,omitempty"` // only if a single action is shown
}

// event is the course of an action on its host.
type event struct {
	Event      string       `json:"event"`
	StartTime  structs.Time `json:"start_time"`
	FinishTime structs.Time `json:"finish_time"`
	Result     string       `json:"result"`
}

func newAction(w structs.Row, a *structs.ActionRecord) action {
	return action{
		Action: a.Action, UUID: w.Base().ID, ProjectID: w.Base().ProjectID, UserID: a.UserID, RequestID: a.RequestID,
		StartTime: structs.Time{Time: a.StartedAt}, Message: wire.OrNull(a.Message),
	}
}

// listActions answers with the actions on a container, the newest first.
func listActions(q *web.Request) error {
	snap, w, actions, err := q.Service.Actions(q.Context(), &q.Call, structs.KindContainer, q.Ident())
	if err != nil {
		return err
	}
	q.W.Index = snap.Index()
	body := struct {
		Actions []action `json:"containerActions"`
	}{[]action{}}
	for i := range slices.Backward(actions) {
		body.Actions = append(body.Actions, newAction(w, &actions[i]))
	}
	return q.JSON(http.StatusOK, body)
}

// showAction answers with the action that one request caused. CodeNotFound.
func showAction(q *web.Request) error {
	snap, w, actions, err := q.Service.Actions(q.Context(), &q.Call, structs.KindContainer, q.Ident())
	if err != nil {
		return err
	}
	q.W.Index = snap.Index()
	wanted := q.Param("request")
	for i := range actions {
		a := &actions[i]
		if a.RequestID != wanted || wanted == "" {
			continue
		}
		body := newAction(w, a)
		body.Events = []event{{Event: a.Action, StartTime: body.StartTime, FinishTime: structs.Time{Time: a.FinishedAt}, Result: a.Result}}
		return q.JSON(http.StatusOK, body)
	}
	return structs.Errorf(structs.CodeNotFound, "Action of request %s on container %s could not be found.", structs.Shorten(wanted),
		structs.NameOf(w)).About(structs.KindContainer)
}
