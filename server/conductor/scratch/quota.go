package scratch

import (
	"iter"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// Quotas is what projects may use, and what they use, as the batch sees it.
type Quotas struct {
	t       *Tx
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
func (q *Quotas) SetShipped(limits *structs.Amounts) {
	q.shipped = *limits
	clear(q.limits)
}

func newQuotas(t *Tx) *Quotas {
	return &Quotas{t: t, charged: charges.NewBatch(state.Charged(t.Base)), shipped: structs.UnlimitedAmounts()}
}

// charge replaces the charges of a row by those of another one.
func (q *Quotas) charge(table structs.Table, was, now structs.Row) {
	if !charges.Charges(table) {
		return
	}
	for _, row := range [...]structs.Row{was, now} {
		if row != nil {
			q.mark(row.Base().ProjectID)
		}
	}
	q.charged.Replace(was, now)
}

func (q *Quotas) mark(projectID string) {
	for i := range q.marks {
		if q.marks[i].project == projectID {
			return
		}
	}
	q.marks = append(q.marks, mark{projectID, *q.charged.Of(projectID)})
}

// Changed yields the projects whose charges the request has changed, and what they used before
// it.
func (q *Quotas) Changed() iter.Seq2[string, *structs.Amounts] {
	return func(yield func(string, *structs.Amounts) bool) {
		for i := range q.marks {
			if m := &q.marks[i]; !yield(m.project, &m.used) {
				return
			}
		}
	}
}

// Uses returns what a project uses of its quota. It must not be modified.
func (q *Quotas) Uses(projectID string) *structs.Amounts { return q.charged.Of(projectID) }

// Takes returns what a new row would take of its project's quota.
func (q *Quotas) Takes(row structs.Row) structs.Amounts { return q.charged.Takes(row) }

// Limits returns the quota of a project. It must not be modified. Before all servers of the
// cluster understand quotas nothing is limited.
func (q *Quotas) Limits(projectID string) *structs.Amounts {
	limits := q.limits[projectID]
	if limits == nil {
		all := structs.UnlimitedAmounts()
		if q.t.Base.Cluster().SchemaInUse() >= structs.SchemaQuotas {
			all = Row[structs.Quota](q.t, structs.QuotaID("")).Over(q.shipped)
			all = Row[structs.Quota](q.t, structs.QuotaID(projectID)).Over(all)
		}
		if limits = &all; q.limits == nil {
			q.limits = make(map[string]*structs.Amounts)
		}
		q.limits[projectID] = limits
	}
	return limits
}

// Written yields the rows that the request has written, as they were before and as they are:
// nil for one that wasn't there or isn't any more. A row may occur more than once.
func (q *Quotas) Written() iter.Seq2[structs.Row, structs.Row] {
	return func(yield func(was, now structs.Row) bool) {
		for i := range q.t.undo {
			u := &q.t.undo[i]
			was := u.previous.row
			if !u.written {
				was = q.t.baseRow(u.key)
			}
			if !yield(was, q.t.rows[u.key].row) {
				return
			}
		}
	}
}
