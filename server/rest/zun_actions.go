package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// zunAction is one thing that somebody did to a container.
type zunAction struct {
	Action    string       `json:"action"`
	UUID      string       `json:"container_uuid"`
	ProjectID string       `json:"project_id"`
	UserID    string       `json:"user_id"`
	RequestID string       `json:"request_id"`
	StartTime structs.Time `json:"start_time"`
	Message   *string      `json:"message"`
	Events    []zunEvent   `json:"events,omitempty"` // of one alone
}

// zunEvent is how an action went on its host.
type zunEvent struct {
	Event      string       `json:"event"`
	StartTime  structs.Time `json:"start_time"`
	FinishTime structs.Time `json:"finish_time"`
	Result     string       `json:"result"`
}

func newZunAction(c *structs.Container, a *structs.ActionRecord) zunAction {
	return zunAction{
		Action: a.Action, UUID: c.ID, ProjectID: c.ProjectID, UserID: a.UserID, RequestID: a.RequestID,
		StartTime: structs.Time{Time: a.StartedAt}, Message: wire.OrNull(a.Message),
	}
}

// listActionsZun answers with what was done to a container.
func listActionsZun(q *request) error {
	snap, c, actions, err := q.service.Containers.Actions(q.ctx(), &q.call, q.ident())
	if err != nil {
		return err
	}
	q.w.index = snap.Index()
	body := struct {
		Actions []zunAction `json:"containerActions"`
	}{[]zunAction{}}
	for i := range slices.Backward(actions) {
		body.Actions = append(body.Actions, newZunAction(c, &actions[i]))
	}
	return q.json(http.StatusOK, body)
}

// showActionZun answers with what one request did to a container.
func showActionZun(q *request) error {
	snap, c, actions, err := q.service.Containers.Actions(q.ctx(), &q.call, q.ident())
	if err != nil {
		return err
	}
	q.w.index = snap.Index()
	wanted := q.param("request")
	for i := range actions {
		a := &actions[i]
		if a.RequestID != wanted || wanted == "" {
			continue
		}
		body := newZunAction(c, a)
		body.Events = []zunEvent{{Event: a.Action, StartTime: body.StartTime, FinishTime: structs.Time{Time: a.FinishedAt}, Result: a.Result}}
		return q.json(http.StatusOK, body)
	}
	return structs.Errorf(structs.CodeNotFound, "Action of request %s on container %s could not be found.", structs.Shorten(wanted), c.Name).About(structs.KindContainer)
}
