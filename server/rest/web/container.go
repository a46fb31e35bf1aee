package web

import (
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// The functions here decide writes that the API and the dialect request with the same
// arguments. Each of the two has its own answer.

// ActOnContainer returns a function that has an action on a container decided.
func ActOnContainer(action conductor.Action) func(*Request) (*structs.Container, error) {
	return func(q *Request) (*structs.Container, error) {
		timeout, err := wire.StopTimeout(q.Query)
		if err != nil {
			return nil, err
		}
		return q.Service.Containers().Act(q.Context(), &q.Call, service.ActOnContainer{
			Ident: q.Ident(), Action: action, Timeout: timeout, Signal: q.Query.Text("signal"),
		})
	}
}

// RebuildContainer has a container created again, from another image if one is given.
func RebuildContainer(q *Request) (*structs.Container, error) {
	r := service.RebuildContainer{Ident: q.Ident()}
	if q.Query.Has("image") {
		image := q.Query.Text("image")
		r.Image = &image
	}
	return q.Service.Containers().Rebuild(q.Context(), &q.Call, r)
}

// DeleteContainer has a container deleted.
func DeleteContainer(q *Request) (service.Removed[*structs.Container], error) {
	return q.Service.Containers().Delete(q.Context(), &q.Call, service.DeleteContainer{
		Ident: q.Ident(), Stop: q.Query.Bool("stop", false), Force: q.Query.Bool("force", false),
	})
}
