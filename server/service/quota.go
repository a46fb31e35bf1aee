package service

import (
	"context"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Quotas carries out requests about what projects may use.
type Quotas struct{ s *Service }

// Quotas returns the operations on quotas.
func (s *Service) Quotas() Quotas { return Quotas{s} }

// Get returns the quota of a project; "" stands for the default of all projects. Errors are
// CodeNotFound for another project than the caller's, unless the caller may see all, and those
// of Await.
func (n Quotas) Get(ctx context.Context, c *Call, project string) (*state.Snapshot, structs.QuotaBody, error) {
	if project != "" && project != c.Caller.ProjectID && !identity.May(c.Caller, identity.AllProjects) {
		return nil, structs.QuotaBody{}, structs.NotFound(structs.KindQuota, structs.Shorten(project))
	}
	if err := checkProject(project); err != nil {
		return nil, structs.QuotaBody{}, err
	}
	if err := n.s.Await(ctx, c); err != nil {
		return nil, structs.QuotaBody{}, err
	}
	snap, body := n.Now(project)
	return snap, body, nil
}

// Now returns the quota of a project in this server's present state.
func (n Quotas) Now(project string) (*state.Snapshot, structs.QuotaBody) {
	snap := n.s.Snapshot()
	return snap, conductor.QuotaOf(n.s.config.Conductor, snap, project)
}

// All returns the quotas of the projects that use anything or have limits of their own, at most
// limit of them, in the order of their IDs, from the first one after the project with the ID on.
// more is true if others follow. Errors are those of Await.
func (n Quotas) All(ctx context.Context, c *Call, after string, limit int) (snap *state.Snapshot, page []structs.QuotaBody, more bool,
	err error) {
	if err := n.s.Await(ctx, c); err != nil {
		return nil, nil, false, err
	}
	snap = n.s.Snapshot()
	var projects []string
	for row := range snap.List(structs.TableQuotas, "", 0) {
		if q := row.(*structs.Quota); q.Project > after {
			projects = append(projects, q.Project)
		}
	}
	used := 0
	for use := range snap.Charged().After(after) {
		projects = append(projects, use.Project)
		if used++; used > limit {
			break
		}
	}
	slices.Sort(projects)
	projects = slices.Compact(projects)
	page = []structs.QuotaBody{}
	for _, project := range projects[:min(limit, len(projects))] {
		page = append(page, conductor.QuotaOf(n.s.config.Conductor, snap, project))
	}
	return snap, page, len(projects) > limit, nil
}

// Set sets limits of a project; "" stands for the default of all projects. Errors are CodeInvalid,
// CodeUnavailable while a server of an earlier version belongs to the cluster, and those of
// onLeader.
func (n Quotas) Set(ctx context.Context, c *Call, project string, body *structs.QuotaRequest) (*structs.Quota, error) {
	if err := checkProject(project); err != nil {
		return nil, err
	}
	r := conductor.SetQuota{Caller: c.Caller, Project: project}
	if err := body.Each(func(of structs.Resource, limit int64) {
		r.Limits = append(r.Limits, structs.QuotaLimit{Resource: of.String(), Limit: limit})
	}); err != nil {
		return nil, err
	}
	return decide(ctx, n.s, c, r)
}

// Delete deletes the limits that were set for a project, if there are any; "" stands for the
// default of all projects. Errors are those of onLeader.
func (n Quotas) Delete(ctx context.Context, c *Call, project string) (*structs.Quota, error) {
	if err := checkProject(project); err != nil {
		return nil, err
	}
	return decide(ctx, n.s, c, conductor.DeleteQuota{Caller: c.Caller, Project: project})
}

func checkProject(id string) error { return structs.CheckLine("project_id", id, structs.MaxName) }
