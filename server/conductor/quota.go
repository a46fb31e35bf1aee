package conductor

import (
	"github.com/stackforge/magnum/server/conductor/scratch"
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

// decide returns the last row. CodeNotFound if there is none.
func (r DeleteQuota) decide(t *scratch.Tx) (*structs.Quota, error) {
	q := scratch.Row[structs.Quota](t, structs.QuotaID(r.Project))
	if q == nil {
		return nil, structs.Errorf(structs.CodeNotFound, "Quota of %s could not be found: nobody has set any limits.",
			quotaOwner(r.Project)).About(structs.KindQuota)
	}
	t.Remove(q)
	return q, nil
}

func quotaOwner(project string) string {
	if project == "" {
		return "all projects"
	}
	return "project " + structs.Shorten(project)
}
