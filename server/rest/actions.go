package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// actionsOf returns a container of the caller and what was done to it, oldest
// first.
func (q *request) actionsOf() (*structs.Container, []structs.ActionRecord, error) {
	if err := q.await(); err != nil {
		return nil, nil, err
	}
	snap := q.Store.Snapshot()
	q.w.index = snap.Index()
	found, err := conductor.Lookup(snap, q.caller(), structs.KindContainer, q.ident())
	if err != nil {
		return nil, nil, err
	}
	c := found.(*structs.Container)
	if a, ok := snap.Get(structs.TableActions, c.ID).(*structs.Actions); ok {
		return c, a.List, nil
	}
	return c, []structs.ActionRecord{structs.CreationOf(c)}, nil
}

// containerActions answers with what was done to a container, the newest first.
func containerActions(q *request) error {
	_, actions, err := q.actionsOf()
	if err != nil {
		return err
	}
	body := structs.ActionsBody{Actions: []structs.ActionBody{}}
	for _, a := range slices.Backward(actions) {
		body.Actions = append(body.Actions, structs.ActionBody{
			Action: a.Action, UserID: a.UserID, RequestID: wire.OrNull(a.RequestID), StartedAt: structs.Time{Time: a.StartedAt},
			FinishedAt: structs.Time{Time: a.FinishedAt}, Result: a.Result, Message: wire.OrNull(a.Message),
		})
	}
	return q.json(http.StatusOK, body)
}
