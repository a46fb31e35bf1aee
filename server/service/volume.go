package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Volumes carries out requests about volumes, by asking the hosts.
type Volumes struct{ s *Service }

// Volumes returns the operations on volumes.
func (s *Service) Volumes() Volumes { return Volumes{s} }

// List returns the volumes of the caller's project on hosts, with the state from which
// the hosts were chosen. Operators may ask for those of all projects. An empty name
// matches any volume. Errors are CodeInvalid, CodeForbidden, CodeConflict, and those of
// Await.
func (n Volumes) List(ctx context.Context, c *Call, f HostFilter, name string) (*state.Snapshot, structs.VolumesBody, error) {
	snap, hosts, err := n.s.listedHosts(ctx, c, f)
	if err != nil {
		return snap, structs.VolumesBody{}, err
	}
	project := c.Caller.ProjectID
	if f.AllProjects {
		if err := identity.Check(c.Caller, identity.AllProjects); err != nil {
			return snap, structs.VolumesBody{}, err
		}
		project = ""
	}
	return snap, n.ask(ctx, c, snap, hosts, project, name), nil
}

// ask asks hosts for volumes. An empty project or name matches any volume.
func (n Volumes) ask(ctx context.Context, c *Call, snap *state.Snapshot, hosts []*structs.Host, project, name string) structs.VolumesBody {
	answers := askHosts[[]structs.Volume](ctx, n.s, hosts, structs.SessionOffer{Kind: structs.SessionVolumeList, ProjectID: project})
	body := structs.VolumesBody{Volumes: []structs.VolumeBody{}, Errors: hostErrors(n.s, c, answers)}
	for _, t := range answers {
		for _, vol := range t.value {
			// A host isn't trusted to filter by project.
			if t.err != nil || project != "" && vol.ProjectID != project || name != "" && vol.Name != name {
				continue
			}
			nameUsers(snap, vol.UsedBy)
			body.Volumes = append(body.Volumes, structs.VolumeBody{Volume: vol, OnHost: onHost(t.host)})
		}
	}
	return body
}

// nameUsers replaces the IDs of magnum's containers and pods by their present names.
func nameUsers(snap *state.Snapshot, ids []string) {
	for i, id := range ids {
		if c := snap.Container(id); c != nil {
			ids[i] = c.Name
		} else if p := snap.Pod(id); p != nil {
			ids[i] = structs.PodUser + p.Name
		}
	}
}

// DeleteVolume is the request to delete a volume.
type DeleteVolume struct {
	Name      string
	Bay, Host string // UUID or name of where it is; both may be "" if only one volume has the name
	ProjectID string // owner of the volume, for operators; "" means the caller's project
}

// Delete deletes the only volume that has the name. Errors are CodeInvalid,
// CodeForbidden, CodeNotFound, CodeConflict, CodeUnavailable, and those of Await.
func (n Volumes) Delete(ctx context.Context, c *Call, r DeleteVolume) error {
	snap, hosts, err := n.s.listedHosts(ctx, c, HostFilter{Bay: r.Bay, Host: r.Host})
	if err != nil {
		return err
	}
	project := c.Caller.ProjectID
	if r.ProjectID != "" && r.ProjectID != project {
		if err := identity.Check(c.Caller, identity.AllProjects); err != nil {
			return err
		}
		project = r.ProjectID
	}
	vol, err := oneVolume(n.ask(ctx, c, snap, hosts, project, r.Name), r.Name)
	if err != nil {
		return err
	}
	if len(vol.UsedBy) > 0 {
		return structs.Errorf(structs.CodeConflict, "Volume %s on host %s is used by %s: delete that first", vol.Name, vol.Host,
			vol.Users()).About(structs.KindVolume)
	}
	ctx, cancel := context.WithTimeout(ctx, prunePatience)
	defer cancel()
	var room atomic.Int64
	err = n.s.askHost(ctx, snap.Host(vol.HostUUID),
		structs.SessionOffer{Kind: structs.SessionVolumeDelete, ProjectID: project, Volume: vol.Name}, &room, nil)
	var known *structs.Error
	if errors.As(err, &known) {
		known.Kind = structs.KindVolume
	}
	return err
}

// oneVolume returns the one volume that was found. If a host can't be asked, it returns
// an error, because that host may have a volume of the name, too, and a deleted volume
// doesn't come back. Errors: CodeNotFound, CodeConflict, CodeUnavailable.
func oneVolume(found structs.VolumesBody, name string) (*structs.VolumeBody, error) {
	if len(found.Volumes) > 1 {
		var names []string
		for _, vol := range found.Volumes {
			names = append(names, fmt.Sprintf("%s (%s)", vol.Host, vol.HostUUID))
		}
		return nil, structs.Errorf(structs.CodeConflict, "Volumes named %s are on %d hosts: say which with host: %s", name, len(names),
			strings.Join(names, ", ")).About(structs.KindVolume)
	}
	if len(found.Errors) > 0 {
		e := found.Errors[0]
		return nil, structs.Errorf(structs.CodeUnavailable,
			"Volume %s may be on host %s, which can't be asked: %s. Say with host where it is, or try again later", name, e.Host,
			e.Message).About(structs.KindVolume)
	}
	if len(found.Volumes) == 0 {
		return nil, structs.NotFound(structs.KindVolume, name)
	}
	return &found.Volumes[0], nil
}
