package conductor

import (
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// SetQuota sets limits of a project, or those of all projects without a limit of their own.
type SetQuota struct {
	Caller  structs.Caller
	Project string // "" for the default of all projects
	Limits  []structs.QuotaLimit
}

// decide returns the row. What is used already stays, also above a limit.
func (r SetQuota) decide(t *scratch.Tx) (*structs.Quota, error) {
	if t.Base.Cluster().SchemaInUse() < structs.SchemaQuotas {
		return nil, structs.Errorf(structs.CodeUnavailable,
			"quotas need a cluster whose servers all run this version or a newer one, which the leader has not found out yet: "+
				"try again in a few seconds, or upgrade the other servers first").About(structs.KindQuota)
	}
	id := structs.QuotaID(r.Project)
	was := scratch.Row[structs.Quota](t, id)
	q := structs.Quota{Project: r.Project}
	if was != nil {
		q = *was
	} else {
		q.Meta = t.Meta(structs.Caller{UserID: r.Caller.UserID}, id)
	}
	for _, l := range r.Limits {
		q.Set(l.Resource, l.Limit)
	}
	q.UpdatedAt = t.Now
	t.Put(&q)
	return &q, nil
}

// DeleteQuota deletes the limits of a project, or those of all projects without a limit of their
// own. The defaults apply again.
type DeleteQuota struct {
	Caller  structs.Caller
	Project string // "" for the default of all projects
}

// decide returns the last row, nil if there was none.
func (r DeleteQuota) decide(t *scratch.Tx) (*structs.Quota, error) {
	q := scratch.Row[structs.Quota](t, structs.QuotaID(r.Project))
	if q != nil {
		t.Remove(q)
	}
	return q, nil
}

// QuotaOf returns the quota of a project as the API shows it; "" stands for the default of all
// projects, which nobody uses.
func QuotaOf(c *Conductor, snap *state.Snapshot, project string) (body structs.QuotaBody) {
	own, every := snap.Quota(project), snap.Quota("")
	limits, used := own.Over(every.Over(c.quota)), snap.Charged().Of(project)
	if project == "" {
		own, used = nil, &structs.Amounts{}
	} else {
		body.ProjectID = &project
	}
	for i, use := range body.Uses() {
		r := structs.Resource(i)
		use.Limit, use.InUse, use.Source = r.Shown(limits[i]), r.Shown(used[i]), structs.QuotaShipped
		switch {
		case own.Has(r):
			use.Source = structs.QuotaOfProject
		case every.Has(r):
			use.Source = structs.QuotaOfDefault
		}
	}
	if row := snap.Quota(project); row != nil {
		body.UpdatedAt = structs.Time{Time: row.UpdatedAt}
	}
	return body
}
