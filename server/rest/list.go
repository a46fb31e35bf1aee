package rest

import (
	"cmp"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// resource is one kind of object as lists and shows serve it.
type resource struct {
	noun  string // plural, as in paths
	kind  string
	table structs.Table
	// rows yields the objects of the project that the caller sees, in the order
	// of their creation, from those on whose Seq is above after. nil means the
	// table's own.
	rows func(v view, project string, after uint64) iter.Seq[structs.Row]
	// watches says when the list has changed, and what wakes those who wait for
	// it. nil means the table's own.
	watches func(project string) []service.Watch
	// find looks an identifier up. nil means conductor.Lookup.
	find func(v view, ident string) (structs.Row, error)
	// sorts are the sort_keys beside those that every resource has.
	sorts map[string]func(a, b structs.Row) int
	// filters make a test of a row from an argument's value.
	filters map[string]func(v view, value string) (func(structs.Row) bool, error)
	brief   func(v view, row structs.Row) any // as lists show it
	// append appends the JSON of what brief returns. nil means by way of it.
	append func(b []byte, base string, row structs.Row) []byte
	full   func(v view, row structs.Row) any
}

// reads are the query arguments of everything that can be read.
var reads = []wire.Arg{
	{Name: "index", Kind: wire.ArgInt, Doc: "Answer once the object or list has changed since this X-Magnum-Index."},
	{Name: "wait", Kind: wire.ArgDuration, Doc: "How long to wait for that, default 60s, at most 10m."},
	{Name: "consistent", Kind: wire.ArgBool, Doc: "Not older than this moment, whichever server answers."},
	{Name: "stale", Kind: wire.ArgBool, Doc: "Any state, at once."},
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "Objects of all projects; for operators."},
}

// consistency are those of reads that can't be waited for.
var consistency = reads[2:4]

// waits is the query argument of everything that can wait for its result.
var waits = wire.Arg{Name: "wait", Kind: wire.ArgDuration, Doc: "Answer when it is done or has failed; 202 with the object if it isn't by then."}

// pages are the query arguments of lists.
var pages = []wire.Arg{
	{Name: "limit", Kind: wire.ArgInt, Doc: "Objects of one page, 1 or more; capped at 1000."},
	{Name: "marker", Kind: wire.ArgText, Doc: "UUID of the last object of the page before."},
	{Name: "sort_key", Kind: wire.ArgText, Doc: "Field to sort by; default id, the order of creation."},
	{Name: "sort_dir", Kind: wire.ArgText, Doc: "asc or desc."},
}

// listArgs returns the query arguments of the resource's lists.
func (res *resource) listArgs(filters ...wire.Arg) []wire.Arg {
	return slices.Concat(reads, pages, filters)
}

// page says which part of a list is wanted.
type page struct {
	limit   int
	marker  structs.Row // nil means from the start
	sortKey string
	desc    bool
}

// list answers with one page of the list.
func (res *resource) list(detail bool) func(*request) error {
	return func(q *request) error {
		return q.service.Sure(q.ctx(), &q.call, func() error { return res.listOnce(q, detail) })
	}
}

func (res *resource) listOnce(q *request, detail bool) error {
	project := q.caller().ProjectID
	if q.query.Bool("all_projects", false) {
		if err := identity.Check(q.caller(), identity.AllProjects); err != nil {
			return err
		}
		project = state.AllProjects
	}
	if err := q.service.Await(q.ctx(), &q.call); err != nil {
		return err
	}
	v := q.view(q.service.ChangedLists(q.ctx(), &q.call, q.change(), res.watching(project)))
	p, err := res.page(q, v)
	if err != nil {
		return err
	}
	keep, err := res.filter(q, v)
	if err != nil {
		return err
	}
	rows, err := res.take(v, project, p, keep)
	if err != nil {
		return err
	}
	return res.answer(q, v, p, rows, detail)
}

func (res *resource) watching(project string) []service.Watch {
	if res.watches != nil {
		return res.watches(project)
	}
	return []service.Watch{{Table: res.table, Project: project}}
}

// page reads the arguments of paging. Errors: CodeInvalid, CodeNotFound for an
// unknown marker.
func (res *resource) page(q *request, v view) (page, error) {
	p := page{limit: structs.MaxPage, sortKey: "id"}
	if q.query.Has("limit") {
		n := q.query.Int("limit", 0)
		if n <= 0 {
			return p, structs.Errorf(structs.CodeInvalid, "Limit must be positive")
		}
		p.limit = int(min(n, structs.MaxPage))
	}
	if q.query.Has("sort_key") {
		p.sortKey = q.query.Text("sort_key")
		if res.order(p.sortKey) == nil {
			return p, structs.Errorf(structs.CodeInvalid, "The sort_key value (%s) is invalid for sorting: it is one of %s", structs.Shorten(p.sortKey), strings.Join(res.sortKeys(), ", "))
		}
	}
	if q.query.Has("sort_dir") {
		switch dir := q.query.Text("sort_dir"); dir {
		case "asc", "desc":
			p.desc = dir == "desc"
		default:
			return p, structs.Errorf(structs.CodeInvalid, "Invalid sort direction: %s. Acceptable values are 'asc' or 'desc'", structs.Shorten(dir))
		}
	}
	if marker := q.query.Text("marker"); q.query.Has("marker") {
		if !structs.IsID(marker) {
			return p, structs.NotUUID(marker)
		}
		row, err := res.lookup(v, marker)
		if err != nil {
			return p, err
		}
		p.marker = row
	}
	return p, nil
}

func (res *resource) lookup(v view, ident string) (structs.Row, error) {
	if res.find != nil {
		return res.find(v, ident)
	}
	return conductor.Lookup(v.snap, v.caller, res.kind, ident)
}

// filter returns the test of all filters in the query together, nil if there
// are none.
func (res *resource) filter(q *request, v view) (func(structs.Row) bool, error) {
	var tests []func(structs.Row) bool
	for name, make := range res.filters {
		for _, value := range q.query.Values[name] {
			test, err := make(v, value)
			if err != nil {
				return nil, err
			}
			tests = append(tests, test)
		}
	}
	if tests == nil {
		return nil, nil
	}
	return func(r structs.Row) bool {
		for _, test := range tests {
			if !test(r) {
				return false
			}
		}
		return true
	}, nil
}

// take returns the rows of one page. In the order of creation it reads no more
// rows than it has to.
func (res *resource) take(v view, project string, p page, keep func(structs.Row) bool) ([]structs.Row, error) {
	var after uint64
	inOrder := p.sortKey == "id" && !p.desc
	if inOrder && p.marker != nil {
		after = p.marker.Base().Seq
	}
	rows := make([]structs.Row, 0, min(p.limit, 100))
	for r := range res.all(v, project, after) {
		if keep != nil && !keep(r) {
			continue
		}
		rows = append(rows, r)
		if inOrder && len(rows) == p.limit {
			break
		}
	}
	if inOrder {
		return rows, nil
	}
	order := res.order(p.sortKey)
	less := func(a, b structs.Row) int {
		c := cmp.Or(order(a, b), cmp.Compare(a.Base().Seq, b.Base().Seq))
		if p.desc {
			return -c
		}
		return c
	}
	slices.SortFunc(rows, less)
	if p.marker != nil {
		from, found := slices.BinarySearchFunc(rows, p.marker, less)
		if found {
			from++
		}
		rows = rows[from:]
	}
	return rows[:min(len(rows), p.limit)], nil
}

func (res *resource) all(v view, project string, after uint64) iter.Seq[structs.Row] {
	if res.rows != nil {
		return res.rows(v, project, after)
	}
	return v.snap.List(res.table, project, after)
}

// commonSorts are the sort_keys of every resource.
var commonSorts = map[string]func(a, b structs.Row) int{
	"id":         func(a, b structs.Row) int { return cmp.Compare(a.Base().Seq, b.Base().Seq) },
	"uuid":       func(a, b structs.Row) int { return cmp.Compare(a.Base().ID, b.Base().ID) },
	"created_at": func(a, b structs.Row) int { return a.Base().CreatedAt.Compare(b.Base().CreatedAt) },
	"updated_at": func(a, b structs.Row) int { return a.Base().UpdatedAt.Compare(b.Base().UpdatedAt) },
}

func (res *resource) order(key string) func(a, b structs.Row) int {
	if order := commonSorts[key]; order != nil {
		return order
	}
	return res.sorts[key]
}

func (res *resource) sortKeys() []string {
	var keys []string
	for _, m := range []map[string]func(a, b structs.Row) int{commonSorts, res.sorts} {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// by makes an order of rows from a field of theirs.
func by[R structs.Row, K cmp.Ordered](field func(R) K) func(a, b structs.Row) int {
	return func(a, b structs.Row) int {
		x, okX := a.(R)
		y, okY := b.(R)
		if !okX || !okY {
			return cmp.Compare(boolInt(okX), boolInt(okY))
		}
		return cmp.Compare(field(x), field(y))
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// answer writes the page. next is there only if the page is full.
func (res *resource) answer(q *request, v view, p page, rows []structs.Row, detail bool) error {
	e := wire.NewEncoder()
	defer e.Free()
	e.Buf.WriteString(`{"` + res.noun + `":[`)
	for i, r := range rows {
		if i > 0 {
			e.Buf.WriteByte(',')
		}
		if !detail && res.append != nil {
			e.Buf.Write(res.append(e.Buf.AvailableBuffer(), v.base, r))
			continue
		}
		body := res.brief
		if detail {
			body = res.full
		}
		if err := e.Value(body(v, r)); err != nil {
			return err
		}
	}
	e.Buf.WriteByte(']')
	if len(rows) == p.limit {
		e.Buf.WriteString(`,"next":`)
		if err := e.Value(res.next(q, v, p, rows[len(rows)-1], detail)); err != nil {
			return err
		}
	}
	e.Buf.WriteByte('}')
	sendJSON(q.w, http.StatusOK, e)
	return nil
}

// next returns the URL of the next page.
func (res *resource) next(q *request, v view, p page, last structs.Row, detail bool) string {
	var b strings.Builder
	b.WriteString(v.base + "/v1/" + res.noun)
	if detail {
		b.WriteString("/detail")
	}
	dir := "asc"
	if p.desc {
		dir = "desc"
	}
	b.WriteString("?sort_key=" + url.QueryEscape(p.sortKey) + "&sort_dir=" + dir)
	for _, name := range slices.Sorted(keysOf(res.filters)) {
		for _, value := range q.query.Values[name] {
			b.WriteString("&" + name + "=" + url.QueryEscape(value))
		}
	}
	for _, name := range []string{"all_projects", "consistent", "stale"} {
		if q.query.Bool(name, false) {
			b.WriteString("&" + name + "=true")
		}
	}
	b.WriteString("&limit=" + strconv.Itoa(p.limit) + "&marker=" + last.Base().ID)
	return b.String()
}

func keysOf[V any](m map[string]V) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// show answers with one object.
func (res *resource) show(q *request) error {
	return q.service.Sure(q.ctx(), &q.call, func() error { return res.showOnce(q) })
}

func (res *resource) showOnce(q *request) error {
	if q.query.Bool("all_projects", false) {
		if err := identity.Check(q.caller(), identity.AllProjects); err != nil {
			return err
		}
	}
	if err := q.service.Await(q.ctx(), &q.call); err != nil {
		return err
	}
	v := q.view(q.service.Snapshot())
	row, err := res.lookup(v, q.ident())
	if err != nil {
		return err
	}
	if q.call.Freshness.Blocking {
		v = q.view(q.service.ChangedRow(q.ctx(), &q.call, q.change(), row.Table(), row.Base().ID))
		if row = v.snap.Get(row.Table(), row.Base().ID); row == nil {
			return structs.NotFound(res.kind, q.ident())
		}
	}
	return q.json(http.StatusOK, res.full(v, row))
}

// written answers with an object that the request has written, as it is now:
// the X-Magnum-Index of the answer and its content belong together.
func (res *resource) written(q *request, status int, row structs.Row) error {
	v := q.view(q.service.Snapshot())
	if now := v.snap.Get(row.Table(), row.Base().ID); now != nil {
		row = now
	}
	return q.json(status, res.full(v, row))
}

// locate sets the Location header to the object that the request has made.
func (res *resource) locate(q *request, row structs.Row) {
	q.w.Header().Set("Location", q.baseURL()+"/v1/"+res.noun+"/"+row.Base().ID)
}

// The filters that several resources have.
func filterName(name func(structs.Row) string) func(view, string) (func(structs.Row) bool, error) {
	return func(_ view, value string) (func(structs.Row) bool, error) {
		return func(r structs.Row) bool { return name(r) == value }, nil
	}
}

func filterStatus(status func(structs.Row) string) func(view, string) (func(structs.Row) bool, error) {
	return func(_ view, value string) (func(structs.Row) bool, error) {
		return func(r structs.Row) bool { return strings.EqualFold(status(r), value) }, nil
	}
}

// filterLabel takes key=value, or key alone for any value.
func filterLabel(labels func(structs.Row) map[string]string) func(view, string) (func(structs.Row) bool, error) {
	return func(_ view, value string) (func(structs.Row) bool, error) {
		key, want, valued := strings.Cut(value, "=")
		if key == "" {
			return nil, structs.Invalid("label", value, "It is written as key=value, or as key.")
		}
		return func(r structs.Row) bool {
			got, ok := labels(r)[key]
			return ok && (!valued || got == want)
		}, nil
	}
}

// filterBay takes a bay's UUID or name.
func filterBay(bayID func(structs.Row) string) func(view, string) (func(structs.Row) bool, error) {
	return func(v view, value string) (func(structs.Row) bool, error) {
		bay, err := conductor.Lookup(v.snap, v.caller, structs.KindBay, value)
		if structs.CodeOf(err) == structs.CodeNotFound {
			return nil, structs.Errorf(structs.CodeInvalid, "Bay %s could not be found.", structs.Shorten(value)).About(structs.KindBay)
		}
		if err != nil {
			return nil, err
		}
		id := bay.Base().ID
		return func(r structs.Row) bool { return bayID(r) == id }, nil
	}
}

// filterHost takes a host's UUID or the name that containers show. It looks no
// host up: which hosts there are is for operators to know.
func filterHost(v view, value string) (func(structs.Row) bool, error) {
	return func(r structs.Row) bool {
		h := v.snap.Host(r.(*structs.Container).HostID)
		return h != nil && (h.ID == value || h.Name == value)
	}, nil
}

// The filters of lists.
var (
	filterArgName   = wire.Arg{Name: "name", Kind: wire.ArgText, Doc: "Only objects of this name."}
	filterArgStatus = wire.Arg{Name: "status", Kind: wire.ArgText, Doc: "Only objects of this status."}
	filterArgLabel  = wire.Arg{Name: "label", Kind: wire.ArgText, Many: true, Doc: "Only objects with this label: key=value, or key."}
	filterArgBay    = wire.Arg{Name: "bay", Kind: wire.ArgText, Doc: "Only objects of this bay: uuid or name."}
	filterArgHost   = wire.Arg{Name: "host", Kind: wire.ArgText, Doc: "Only objects on this host: uuid or name."}
)

// reading returns the three routes on which a resource is read.
func reading(res *resource, brief, full any, list, detail, show identity.Action, filters ...wire.Arg) []*route {
	args := res.listArgs(filters...)
	return []*route{
		{method: http.MethodGet, path: "/" + res.noun, action: list, handle: res.list(false), args: args,
			summary: "List " + res.noun, gives: []wire.Answer{{Status: http.StatusOK, Body: wire.ListOf{Noun: res.noun, Item: brief}}}},
		{method: http.MethodGet, path: "/" + res.noun + "/detail", action: detail, handle: res.list(true), args: args,
			summary: "List " + res.noun + " with all fields", gives: []wire.Answer{{Status: http.StatusOK, Body: wire.ListOf{Noun: res.noun, Item: full}}}},
		{method: http.MethodGet, path: "/" + res.noun + "/:id", action: show, handle: res.show, args: reads,
			summary: "Show a " + res.kind, gives: []wire.Answer{{Status: http.StatusOK, Body: full}}},
	}
}
