package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
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

// listVolumes answers with the project's volumes on the hosts that it can use.
func listVolumes(q *request) error {
	v, hosts, err := q.listedHosts()
	if err != nil {
		return err
	}
	project := v.caller.ProjectID
	if q.query.Bool("all_projects", false) {
		if err := identity.Check(v.caller, identity.AllProjects); err != nil {
			return err
		}
		project = ""
	}
	return q.json(http.StatusOK, q.volumes(v, hosts, project, q.query.Text("name")))
}

// volumes asks hosts for volumes. An empty project or name means any.
func (q *request) volumes(v view, hosts []*structs.Host, project, name string) structs.VolumesBody {
	answers := askHosts[[]structs.Volume](q, hosts, structs.SessionOffer{Kind: structs.SessionVolumeList, ProjectID: project})
	body := structs.VolumesBody{Volumes: []structs.VolumeBody{}, Errors: hostErrors(q, answers)}
	for _, t := range answers {
		for _, vol := range t.value {
			// What a host says is never trusted with whose it is.
			if t.err != nil || project != "" && vol.ProjectID != project || name != "" && vol.Name != name {
				continue
			}
			vol.UsedBy = v.containerNames(vol.UsedBy)
			body.Volumes = append(body.Volumes, structs.VolumeBody{Volume: vol, OnHost: onHost(t.host)})
		}
	}
	return body
}

// containerNames are the names that containers have now, of those that are
// magnum's.
func (v view) containerNames(ids []string) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id
		if c := v.snap.Container(id); c != nil {
			names[i] = c.Name
		}
	}
	return names
}

// deleteVolume deletes the one volume of a name.
func deleteVolume(q *request) error {
	v, hosts, err := q.listedHosts()
	if err != nil {
		return err
	}
	project := v.caller.ProjectID
	if other := q.query.Text("project_id"); other != "" && other != project {
		if err := identity.Check(v.caller, identity.AllProjects); err != nil {
			return err
		}
		project = other
	}
	vol, err := q.findVolume(v, hosts, project)
	if err != nil {
		return err
	}
	if len(vol.UsedBy) > 0 {
		return structs.Errorf(structs.CodeConflict, "Volume %s on host %s is used by container %s: delete that first", vol.Name, vol.Host, strings.Join(vol.UsedBy, ", ")).About(structs.KindVolume)
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), prunePatience)
	defer cancel()
	var room atomic.Int64
	err = q.converse(ctx, v.snap.Host(vol.HostUUID), structs.SessionOffer{Kind: structs.SessionVolumeDelete, ProjectID: project, Volume: vol.Name}, &room, nil)
	var known *structs.Error
	if errors.As(err, &known) {
		known.Kind = structs.KindVolume
	}
	if err != nil {
		return err
	}
	return q.noContent()
}

// findVolume finds the one volume of the path's name. A host that can't be asked
// may have one, too, and what is deleted by mistake doesn't come back: so that
// is refused. Errors: CodeNotFound, CodeConflict, CodeUnavailable.
func (q *request) findVolume(v view, hosts []*structs.Host, project string) (*structs.VolumeBody, error) {
	found := q.volumes(v, hosts, project, q.ident())
	if len(found.Volumes) > 1 {
		var names []string
		for _, vol := range found.Volumes {
			names = append(names, fmt.Sprintf("%s (%s)", vol.Host, vol.HostUUID))
		}
		return nil, structs.Errorf(structs.CodeConflict, "Volumes named %s are on %d hosts: say which with host: %s", q.ident(), len(names), strings.Join(names, ", ")).About(structs.KindVolume)
	}
	if len(found.Errors) > 0 {
		e := found.Errors[0]
		return nil, structs.Errorf(structs.CodeUnavailable, "Volume %s may be on host %s, which can't be asked: %s. Say with host where it is, or try again later", q.ident(), e.Host, e.Message).About(structs.KindVolume)
	}
	if len(found.Volumes) == 0 {
		return nil, structs.NotFound(structs.KindVolume, q.ident())
	}
	return &found.Volumes[0], nil
}
