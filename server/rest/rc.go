package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// rcBrief is the summary of a replication controller. The type's name is that of a schema in
// the OpenAPI document.
type rcBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name, from the manifest's metadata; unique in the bay.
	Name string `json:"name"`
	//api:doc Images of the template's containers, in the order of the manifest.
	Images []string `json:"images"`
	//api:doc UUID of the bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Labels, from the manifest's metadata.
	Labels map[string]string `json:"labels"`
	//api:doc Wanted pods.
	Replicas int `json:"replicas"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

var rcs = &web.Resource{
	Noun: "rcs", Kind: structs.KindRC, Table: structs.TableRCs, Beside: []structs.Table{structs.TableObjects},
	Sorts: map[string]func(a, b structs.Row) int{
		"name":     web.By(func(r *structs.RC) string { return r.Name }),
		"replicas": web.By(func(r *structs.RC) int { return r.Replicas }),
		"bay_uuid": web.By(func(r *structs.RC) string { return r.BayID }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name":  web.FilterName(func(r structs.Row) string { return r.(*structs.RC).Name }),
		"label": web.FilterLabel(func(r structs.Row) map[string]string { return r.(*structs.RC).Labels }),
		"bay":   web.FilterBay(func(r structs.Row) string { return r.(*structs.RC).BayID }),
	},
	Summary: func(v web.View, row structs.Row) any {
		r := row.(*structs.RC)
		return rcBrief{UUID: r.ID, Name: r.Name, Images: wire.List(r.Images), BayUUID: r.BayID, Labels: wire.Object(r.Labels),
			Replicas: r.Replicas, Links: v.Links("rcs", r.ID)}
	},
	Detail: func(v web.View, row structs.Row) any {
		body := rcBody(v, row.(*structs.RC))
		return &body
	},
	Whole: func(v web.View, row structs.Row) any {
		r := row.(*structs.RC)
		body := rcBody(v, r)
		if m := v.Snap.Manifest(r.BesideID()); m != nil {
			body.Manifest = &m.Text
		}
		return &body
	},
}

// rcBody returns the detail of a replication controller without its manifest.
func rcBody(v web.View, r *structs.RC) structs.RCBody {
	seen := &r.Observed
	reason := seen.Reason
	if of := objectReason(v, r.BesideID()); of != "" && !r.Deleting {
		reason = of
	}
	return structs.RCBody{
		UUID: r.ID, Name: r.Name, Images: wire.List(r.Images), BayUUID: r.BayID, Labels: wire.Object(r.Labels), Replicas: r.Replicas,
		Links: v.Links("rcs", r.ID), Current: seen.Current, Ready: seen.Ready, Updated: seen.Updated,
		StatusReason: wire.OrNull(reason), Deleting: r.Deleting, Selector: wire.Object(r.Selector),
		ManifestURL: wire.OrNull(r.ManifestURL), CreatedAt: structs.Time{Time: r.CreatedAt},
		UpdatedAt: structs.Time{Time: r.UpdatedAt}, Generation: r.Generation, ObservedGeneration: seen.Generation,
		Exclusive: r.Exclusive, InfraImage: wire.OrNull(r.InfraImage),
	}
}

var (
	rcShape = wire.NewShape(structs.KindRC, structs.RCRequest{}, structs.RCBody{})
	rcPatch = wire.NewPatchRules(rcShape, structs.RCBody{}, []string{"name", "labels", "replicas"},
		[]string{"bay_uuid", "manifest", "manifest_url"}, []string{"manifest", "manifest_url"})
)

func rcRoutes() []*web.Route {
	get := web.Reading(rcs, rcBrief{}, structs.RCBody{}, identity.RCList, identity.RCDetail, identity.RCGet, web.FilterArgName,
		web.FilterArgLabel, web.FilterArgBay)
	return append(get,
		&web.Route{Method: http.MethodPost, Path: "/rcs", Action: identity.RCCreate, Handle: createRC, Args: []wire.Arg{web.Waits},
			Summary: "Create a replication controller from a manifest; it creates its pods", Takes: structs.RCRequest{}, Manifest: true,
			Gives: web.Created(structs.RCBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/rcs/:id", Action: identity.RCUpdate, Handle: patchRC, Args: []wire.Arg{web.Waits},
			Summary: "Replace a replication controller's manifest: the number of pods follows at once, another template pod by pod",
			Takes:   []structs.PatchOp{}, Manifest: true, Gives: web.Changed(structs.RCBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/rcs/:id", Action: identity.RCDelete, Handle: deleteRC,
			Args: []wire.Arg{
				web.Waits,
				{Name: "force", Kind: wire.ArgBool, Doc: "Kill the pods at once; forget those on lost hosts."},
			}, Summary: "Delete a replication controller and its pods", Gives: web.Deleted(structs.RCBody{})},
	)
}

var createRC = web.Write(func(q *web.Request) (*structs.RC, error) {
	var body structs.RCRequest
	once, err := q.Decode(rcShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.RCs().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, r *structs.RC) error {
	rcs.Locate(q, r)
	return awaitRC(q, r, http.StatusCreated)
})

var patchRC = web.Write(func(q *web.Request) (*structs.RC, error) {
	p, err := q.DecodePatch(rcPatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	var body structs.RCRequest
	if err := p.Apply(&body); err != nil {
		return nil, err
	}
	return q.Service.RCs().Patch(q.Context(), &q.Call, service.PatchRC{Ident: q.Ident(), Manifest: body.Manifest, URL: body.ManifestURL})
}, func(q *web.Request, r *structs.RC) error { return awaitRC(q, r, http.StatusOK) })

// awaitRC answers a create or PATCH of a replication controller. With ?wait= it first waits
// until as many pods as wanted are ready, and all are of the present template.
func awaitRC(q *web.Request, r *structs.RC, status int) error {
	atMost, said := q.Patience()
	if !said {
		return rcs.Written(q, status, r)
	}
	now, done, err := q.Service.RCs().AwaitDone(q.Context(), &q.Call, r, atMost)
	switch {
	case err != nil:
		return err
	case now == nil:
		return service.ErrRCDeleted(r)
	case !done:
		status = http.StatusAccepted
	}
	return rcs.Written(q, status, now)
}

var deleteRC = web.Write(func(q *web.Request) (service.Removed[*structs.RC], error) {
	return q.Service.RCs().Delete(q.Context(), &q.Call, service.DeleteRC{
		Ident: q.Ident(), Force: q.Query.Bool("force", false),
	})
}, func(q *web.Request, r service.Removed[*structs.RC]) error {
	if r.Gone {
		return q.NoContent()
	}
	atMost, said := q.Patience()
	now, _, err := q.Service.RCs().AwaitDone(q.Context(), &q.Call, r.Row, atMost)
	switch {
	case err != nil:
		return err
	case now != nil && said:
		return rcs.Written(q, http.StatusAccepted, now)
	}
	return q.NoContent()
})
