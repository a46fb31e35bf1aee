package rest

import (
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// The query arguments of volumes.
var (
	volumeListArgs   = slices.Concat(hostListArgs, []wire.Arg{filterArgName})
	volumeDeleteArgs = []wire.Arg{
		{Name: "bay", Kind: wire.ArgText, Doc: "Where it is: uuid or name of a bay."},
		{Name: "host", Kind: wire.ArgText, Doc: "Where it is: uuid or name of a host. Needed if several hosts have volumes of this name."},
		{Name: "project_id", Kind: wire.ArgText, Doc: "Of another project; for operators."},
	}
)

func volumeRoutes() []*route {
	return []*route{
		{method: http.MethodGet, path: "/volumes", action: identity.VolumeList, handle: listVolumes, args: volumeListArgs, summary: "List the volumes on hosts", gives: ok(structs.VolumesBody{})},
		{method: http.MethodDelete, path: "/volumes/:id", action: identity.VolumeDelete, handle: deleteVolume, args: volumeDeleteArgs, summary: "Delete a volume and what is in it", gives: removed()},
	}
}

// listVolumes answers with the project's volumes on the hosts that it can use.
func listVolumes(q *request) error {
	snap, body, err := q.service.Volumes.List(q.ctx(), &q.call, hostFilter(q), q.query.Text("name"))
	return q.jsonOf(snap, body, err)
}

// deleteVolume deletes the one volume of a name.
func deleteVolume(q *request) error {
	err := q.service.Volumes.Delete(q.ctx(), &q.call, service.DeleteVolume{
		Name: q.ident(), Bay: q.query.Text("bay"), Host: q.query.Text("host"), ProjectID: q.query.Text("project_id"),
	})
	if err != nil {
		return err
	}
	return q.noContent()
}
