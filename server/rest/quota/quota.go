// Package quota has the routes of quotas: what projects may use, and what they use. Projects
// are named by their IDs, which no row of the servers has, so quotas are no resource as others.
//
// server/rest joins them with the other routes.
package quota

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// classPath is the path of the only quota class, in OpenStack's word: the default of all
// projects.
const classPath = "/quota_classes/default"

// Routes returns the routes.
func Routes() []*web.Route {
	get, put, del := http.MethodGet, http.MethodPut, http.MethodDelete
	shown := web.OK(structs.QuotaBody{})
	return []*web.Route{
		{Method: get, Path: "/quotas", Action: identity.QuotaList, Handle: list,
			Args: append([]wire.Arg{
				web.Reads[4],
				{Name: "limit", Kind: wire.ArgInt, Doc: "Quotas of one page, 1 or more; capped at 1000."},
				{Name: "marker", Kind: wire.ArgText, Doc: "ID of the last project of the page before."}}, web.Consistency...),
			Summary: "List the quota of the caller's project; with all_projects those of all projects that use anything or have limits",
			Gives:   []wire.Answer{{Status: http.StatusOK, Body: wire.ListOf{Noun: "quotas", Item: structs.QuotaBody{}}}}},
		{Method: get, Path: "/quotas/:id", Action: identity.QuotaGet, Handle: show(ofProject), Args: web.Consistency,
			Summary: "Show what a project may use, and what it uses; :id is the project", Gives: shown},
		{Method: put, Path: "/quotas/:id", Action: identity.QuotaUpdate, Handle: set(ofProject), Takes: structs.QuotaRequest{},
			Summary: "Set limits of a project; those left out stay", Gives: shown},
		{Method: del, Path: "/quotas/:id", Action: identity.QuotaDelete, Handle: remove(ofProject),
			Summary: "Delete the limits that were set for a project, so that it has the default", Gives: web.DeletedNow()},
		{Method: get, Path: "/quotas/:id/defaults", Action: identity.QuotaGet, Handle: show(ofDefault), Args: web.Consistency,
			Summary: "Show the default that a project would have without limits of its own", Gives: shown},
		{Method: get, Path: classPath, Action: identity.QuotaGet, Handle: show(ofDefault), Args: web.Consistency,
			Summary: "Show the default of all projects", Gives: shown},
		{Method: put, Path: classPath, Action: identity.QuotaUpdate, Handle: set(ofDefault), Takes: structs.QuotaRequest{},
			Summary: "Set default limits of all projects; those left out stay", Gives: shown},
		{Method: del, Path: classPath, Action: identity.QuotaDelete, Handle: remove(ofDefault),
			Summary: "Delete the default limits that were set, so that those apply that magnum ships with", Gives: web.DeletedNow()},
	}
}

// of returns the project that a request is about; "" stands for the default of all projects.
type of func(q *web.Request) (project string)

func ofProject(q *web.Request) string { return q.Ident() }

func ofDefault(*web.Request) string { return "" }

func show(of of) func(*web.Request) error {
	return func(q *web.Request) error {
		snap, body, err := q.Service.Quotas().Get(q.Context(), &q.Call, of(q))
		return q.JSONOf(snap, linked(q, body), err)
	}
}

// linked returns the body with its links.
func linked(q *web.Request, body structs.QuotaBody) structs.QuotaBody {
	path := classPath
	if body.ProjectID != nil {
		path = "/quotas/" + url.PathEscape(*body.ProjectID)
	}
	body.Links = []structs.Link{{Href: q.BaseURL() + "/v1" + path, Rel: "self"}, {Href: q.BaseURL() + path, Rel: "bookmark"}}
	return body
}

var shape = wire.NewShape(structs.KindQuota, structs.QuotaRequest{}, structs.QuotaBody{})

func set(of of) func(*web.Request) error {
	return web.Write(func(q *web.Request) (*structs.Quota, error) {
		var body structs.QuotaRequest
		if _, err := q.Decode(shape, &body); err != nil {
			return nil, err
		}
		return q.Service.Quotas().Set(q.Context(), &q.Call, of(q), &body)
	}, func(q *web.Request, row *structs.Quota) error {
		snap, body := q.Service.Quotas().Now(row.Project)
		return q.JSONOf(snap, linked(q, body), nil)
	})
}

func remove(of of) func(*web.Request) error {
	return web.Write(func(q *web.Request) (*structs.Quota, error) {
		return q.Service.Quotas().Delete(q.Context(), &q.Call, of(q))
	}, func(q *web.Request, _ *structs.Quota) error { return q.NoContent() })
}

// listBody answers GET /v1/quotas.
type listBody struct {
	Quotas []structs.QuotaBody `json:"quotas"`
	Next   string              `json:"next,omitempty"`
}

func list(q *web.Request) error {
	if !q.Query.Bool("all_projects", false) {
		snap, own, err := q.Service.Quotas().Get(q.Context(), &q.Call, q.Caller().ProjectID)
		return q.JSONOf(snap, listBody{Quotas: []structs.QuotaBody{linked(q, own)}}, err)
	}
	if err := identity.Check(q.Caller(), identity.AllProjects); err != nil {
		return err
	}
	limit := structs.MaxPage
	if q.Query.Has("limit") {
		n := q.Query.Int("limit", 0)
		if n <= 0 {
			return structs.Errorf(structs.CodeInvalid, "Limit must be positive")
		}
		limit = int(min(n, structs.MaxPage))
	}
	snap, page, more, err := q.Service.Quotas().All(q.Context(), &q.Call, q.Query.Text("marker"), limit)
	if err != nil {
		return err
	}
	body := listBody{Quotas: page}
	for i := range page {
		page[i] = linked(q, page[i])
	}
	if more {
		body.Next = q.BaseURL() + "/v1/quotas?all_projects=true&limit=" + strconv.Itoa(limit) + "&marker=" + url.QueryEscape(*page[limit-1].ProjectID)
	}
	return q.JSONOf(snap, body, nil)
}
