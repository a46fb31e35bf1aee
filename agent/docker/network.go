package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/agent/backend"
)

// project guards the network of one project. Creating a container holds mu for
// reading, so that the network can't go between being looked up and being
// referred to; removing the network holds it for writing.
type project struct {
	mu    sync.RWMutex
	known atomic.Bool // the network was seen or made, and not removed since
	make  sync.Mutex  // held while the network is made
}

func (d *Docker) project(id string) *project {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.projects[id]
	if p == nil {
		p = new(project)
		d.projects[id] = p
	}
	return p
}

// scopeName is the prefix of the engine's names for a project's things. The
// engine allows fewer characters in a name than magnum in a project id.
func scopeName(projectID string) string {
	for i := range len(projectID) {
		c := projectID[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '_' || c == '.' || c == '-')) {
			sum := sha256.Sum256([]byte(projectID))
			return "mg-x" + hex.EncodeToString(sum[:12])
		}
	}
	return "mg-" + projectID
}

// ensureNetwork makes the project's bridge network unless it is there. The
// caller holds p.mu for reading.
func (d *Docker) ensureNetwork(ctx context.Context, p *project, projectID string) error {
	if p.known.Load() {
		return nil
	}
	// The engine accepts two networks of one name when they are made at once.
	p.make.Lock()
	defer p.make.Unlock()
	if p.known.Load() {
		return nil
	}
	name := scopeName(projectID)
	err := d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		found, err := d.cli.NetworkInspect(ctx, name, network.InspectOptions{})
		if err == nil && found.Labels[backend.LabelProject] != projectID {
			return &backend.Failure{Reason: backend.ErrNameTaken,
				Msg: fmt.Sprintf("the host has a Docker network %s that is not magnum's; remove it with: docker network rm %s", name, name)}
		}
		if isAmbiguous(err) {
			return d.dropDoubles(ctx, name, projectID)
		}
		if err == nil || !errdefs.IsNotFound(err) {
			return err
		}
		_, err = d.cli.NetworkCreate(ctx, name, network.CreateOptions{
			Driver: "bridge",
			Labels: map[string]string{backend.LabelProject: projectID},
		})
		if errdefs.IsConflict(err) {
			return nil // another agent on this engine was faster
		}
		if err != nil {
			return err
		}
		return d.dropDoubles(ctx, name, projectID)
	})
	if err == nil {
		p.known.Store(true)
	}
	return err
}

// isAmbiguous reports whether the engine has more than one network of a name.
func isAmbiguous(err error) bool {
	return err != nil && strings.Contains(err.Error(), "is ambiguous")
}

// dropDoubles leaves one network of the name: the one that is in use, else the
// oldest. Two agents that make it at the same time get two, as may one that was
// killed while the engine was at it, and from then on the engine refuses the
// name. All who look at the same doubles choose alike.
func (d *Docker) dropDoubles(ctx context.Context, name, projectID string) error {
	list, err := d.cli.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(
		filters.Arg("name", name), filters.Arg("label", backend.LabelProject+"="+projectID))})
	if err != nil {
		return err
	}
	var doubles []network.Inspect
	for _, n := range list {
		if n.Name != name { // the filter takes a part of the name
			continue
		}
		n, err := d.cli.NetworkInspect(ctx, n.ID, network.InspectOptions{}) // the list doesn't tell who uses it
		if errdefs.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		doubles = append(doubles, n)
	}
	slices.SortFunc(doubles, func(a, b network.Inspect) int {
		return cmp.Or(cmp.Compare(min(len(b.Containers), 1), min(len(a.Containers), 1)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range doubles[min(1, len(doubles)):] {
		if err := d.cli.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// dropNetwork removes the project's network if no container of the project is
// left on the engine: an engine has room for about 30 networks, and projects
// come and go. Failing is no harm: the next removal tries again.
func (d *Docker) dropNetwork(ctx context.Context, projectID string) {
	if projectID == "" {
		return
	}
	p := d.project(projectID)
	p.mu.Lock()
	defer p.mu.Unlock()
	err := d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		// Whosever they are: agents of two clusters may share an engine.
		left, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Limit: 1,
			Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject+"="+projectID))})
		if err != nil || len(left) > 0 {
			return err
		}
		name := scopeName(projectID)
		found, err := d.cli.NetworkInspect(ctx, name, network.InspectOptions{})
		if isAmbiguous(err) {
			if err = d.dropDoubles(ctx, name, projectID); err == nil {
				found, err = d.cli.NetworkInspect(ctx, name, network.InspectOptions{})
			}
		}
		if errdefs.IsNotFound(err) || err == nil && found.Labels[backend.LabelProject] != projectID {
			return nil
		} else if err != nil {
			return err
		}
		p.known.Store(false)
		return d.cli.NetworkRemove(ctx, found.ID)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Debug("project network not removed", "project_id", projectID, "error", err)
	}
}
