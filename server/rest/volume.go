package rest

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// The query arguments of volumes.
var (
	volumeListArgs   = slices.Concat(hostListArgs, []wire.Arg{web.FilterArgName})
	volumeDeleteArgs = []wire.Arg{
		{Name: "bay", Kind: wire.ArgText, Doc: "UUID or name of the volume's bay."},
		{Name: "host", Kind: wire.ArgText, Doc: "UUID or name of the volume's host. Needed if several hosts have a volume of this name."},
		{Name: "project_id", Kind: wire.ArgText, Doc: "Another project that owns the volume; for operators."},
	}
)

func volumeRoutes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/volumes", Action: identity.VolumeList, Handle: listVolumes, Args: volumeListArgs,
			Summary: "List the volumes on hosts", Gives: web.OK(structs.VolumesBody{})},
		{Method: http.MethodDelete, Path: "/volumes/:id", Action: identity.VolumeDelete, Handle: deleteVolume,
			Args: volumeDeleteArgs, Summary: "Delete a volume and its content", Gives: web.DeletedNow()},
	}
}

// listVolumes answers with the project's volumes on the hosts that the project can use.
func listVolumes(q *web.Request) error {
	snap, body, err := q.Service.Volumes().List(q.Context(), &q.Call, hostFilter(q), q.Query.Text("name"))
	return q.JSONOf(snap, body, err)
}

// deleteVolume deletes the only volume that has the name.
func deleteVolume(q *web.Request) error {
	web.AuditTarget(q, q.Ident(), cmp.Or(q.Query.Text("project_id"), q.Caller().ProjectID))
	err := q.Service.Volumes().Delete(q.Context(), &q.Call, service.DeleteVolume{
		Name: q.Ident(), Bay: q.Query.Text("bay"), Host: q.Query.Text("host"), ProjectID: q.Query.Text("project_id"),
	})
	if err != nil {
		return err
	}
	return q.NoContent()
}
