package scratch

import (
	"iter"

	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// account is what projects use of their quotas as the batch sees it.
type account struct {
	charged *charges.Batch
	limits  map[string]*structs.Amounts // by project; cached until a quota is written
	shipped structs.Amounts             // limits that nobody has set
	marks   []mark                      // of the projects whose charges the request has changed
}

// mark is what a project used when the request began.
type mark struct {
	project string
	used    structs.Amounts
}

// SetShipped sets the limits of projects for which nobody has set any. There are none at first.
func (t *Tx) SetShipped(limits *structs.Amounts) {
	t.account.shipped = *limits
	clear(t.account.limits)
}

// charge replaces the charges of a row by those of another one.
func (t *Tx) charge(table structs.Table, was, now structs.Row) {
	if !charges.Charges(table) {
		return
	}
	for _, row := range [...]structs.Row{was, now} {
		if row != nil {
			t.account.mark(row.Base().ProjectID)
		}
	}
	t.account.charged.Replace(was, now)
}

func (a *account) mark(projectID string) {
	for i := range a.marks {
		if a.marks[i].project == projectID {
			return
		}
	}
	a.marks = append(a.marks, mark{projectID, *a.charged.Of(projectID)})
}

// Charged yields the projects whose charges the request has changed, and what they used before
// it.
func (t *Tx) Charged() iter.Seq2[string, *structs.Amounts] {
	return func(yield func(string, *structs.Amounts) bool) {
		for i := range t.account.marks {
			if m := &t.account.marks[i]; !yield(m.project, &m.used) {
				return
			}
		}
	}
}

// Uses returns what a project uses of its quota. It must not be modified.
func (t *Tx) Uses(projectID string) *structs.Amounts { return t.account.charged.Of(projectID) }

// Takes returns what a new row would take of its project's quota.
func (t *Tx) Takes(row structs.Row) structs.Amounts { return t.account.charged.Takes(row) }

// Limits returns the quota of a project. It must not be modified. Before all servers of the
// cluster understand quotas nothing is limited.
func (t *Tx) Limits(projectID string) *structs.Amounts {
	limits := t.account.limits[projectID]
	if limits == nil {
		all := structs.UnlimitedAmounts()
		if t.Base.Cluster().SchemaInUse() >= structs.SchemaQuotas {
			all = Row[structs.Quota](t, structs.QuotaID("")).Over(t.account.shipped)
			all = Row[structs.Quota](t, structs.QuotaID(projectID)).Over(all)
		}
		if limits = &all; t.account.limits == nil {
			t.account.limits = make(map[string]*structs.Amounts)
		}
		t.account.limits[projectID] = limits
	}
	return limits
}

// Written yields the rows that the request has written, as they were before and as they are:
// nil for one that wasn't there or isn't any more. A row may occur more than once.
func (t *Tx) Written() iter.Seq2[structs.Row, structs.Row] {
	return func(yield func(was, now structs.Row) bool) {
		for i := range t.undo {
			u := &t.undo[i]
			was := u.previous.row
			if !u.written {
				was = t.baseRow(u.key)
			}
			if !yield(was, t.rows[u.key].row) {
				return
			}
		}
	}
}
