package web

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

// Resource is one kind of object with its lists and its show.
type Resource struct {
	Noun  string // plural, as in paths
	Kind  string
	Table structs.Table
	// Rows yields the project's objects that the caller may see and whose Seq is above
	// after, in the order of creation. nil means the rows of Table.
	Rows func(v View, project string, after uint64) iter.Seq[structs.Row]
	// Watches returns what a blocking read of the list waits for. nil means the
	// project's rows of Table and Beside.
	Watches func(project string) []service.Watch
	// Beside are tables whose row with the ID of an object is shown with it, so that a
	// blocking read waits for its changes too.
	Beside []structs.Table
	// Find looks up an identifier. nil means conductor.Lookup.
	Find func(v View, ident string) (structs.Row, error)
	// Sorts are the sort_keys in addition to CommonSorts.
	Sorts map[string]func(a, b structs.Row) int
	// Filters make a test of a row from the value of a query argument.
	Filters map[string]func(v View, value string) (func(structs.Row) bool, error)
	Summary func(v View, row structs.Row) any // short form, for lists
	// AppendSummary appends the JSON of what Summary returns. nil encodes Summary's
	// result.
	AppendSummary func(b []byte, base string, row structs.Row) []byte
	Detail        func(v View, row structs.Row) any
	// Whole is Detail with what is too large for lists. nil means Detail.
	Whole func(v View, row structs.Row) any
}

// whole returns the body of a single object.
func (res *Resource) whole(v View, row structs.Row) any {
	if res.Whole != nil {
		return res.Whole(v, row)
	}
	return res.Detail(v, row)
}

// Reads are the query arguments of every read of objects.
var Reads = []wire.Arg{
	{Name: "index", Kind: wire.ArgInt, Doc: "Answer once the object or list has changed since this X-Magnum-Index."},
	{Name: "wait", Kind: wire.ArgDuration, Doc: "How long to wait for that, default 60s, at most 10m."},
	{Name: "consistent", Kind: wire.ArgBool, Doc: "Not older than this moment, whichever server answers."},
	{Name: "stale", Kind: wire.ArgBool, Doc: "Any state, at once."},
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "Objects of all projects; for operators."},
}

// Consistency are the query arguments of reads that can't block.
var Consistency = Reads[2:4]

// Waits is the query argument of every write that can wait for its result.
var Waits = wire.Arg{Name: "wait", Kind: wire.ArgDuration,
	Doc: "Answer when it is done or has failed; 202 with the object if it isn't by then."}

// pages are the query arguments of lists.
var pages = []wire.Arg{
	{Name: "limit", Kind: wire.ArgInt, Doc: "Objects of one page, 1 or more; capped at 1000."},
	{Name: "marker", Kind: wire.ArgText, Doc: "UUID of the last object of the page before."},
	{Name: "sort_key", Kind: wire.ArgText, Doc: "Field to sort by; default id, the order of creation."},
	{Name: "sort_dir", Kind: wire.ArgText, Doc: "asc or desc."},
}

// ListArgs returns the query arguments of the resource's lists.
func (res *Resource) ListArgs(filters ...wire.Arg) []wire.Arg {
	return slices.Concat(Reads, pages, filters)
}

// page is the requested part of a list.
type page struct {
	limit   int
	marker  structs.Row // nil means from the start
	sortKey string
	desc    bool
}

// List answers with one page of the list.
func (res *Resource) List(detail bool) func(*Request) error {
	return func(q *Request) error {
		return q.Service.ConfirmRefusal(q.Context(), &q.Call, func() error { return res.listOnce(q, detail) })
	}
}

func (res *Resource) listOnce(q *Request, detail bool) error {
	project := q.Caller().ProjectID
	if q.Query.Bool("all_projects", false) {
		if err := identity.Check(q.Caller(), identity.AllProjects); err != nil {
			return err
		}
		project = state.AllProjects
	}
	if err := q.Service.Await(q.Context(), &q.Call); err != nil {
		return err
	}
	v := q.View(q.Service.ChangedLists(q.Context(), &q.Call, q.change(), res.watchedLists(project)))
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

func (res *Resource) watchedLists(project string) []service.Watch {
	if res.Watches != nil {
		return res.Watches(project)
	}
	watches := []service.Watch{{Table: res.Table, Project: project}}
	for _, table := range res.Beside {
		watches = append(watches, service.Watch{Table: table, Project: project})
	}
	return watches
}

// page reads the arguments of paging. Errors: CodeInvalid, CodeNotFound for an
// unknown marker.
func (res *Resource) page(q *Request, v View) (page, error) {
	p := page{limit: structs.MaxPage, sortKey: "id"}
	if q.Query.Has("limit") {
		n := q.Query.Int("limit", 0)
		if n <= 0 {
			return p, structs.Errorf(structs.CodeInvalid, "Limit must be positive")
		}
		p.limit = int(min(n, structs.MaxPage))
	}
	if q.Query.Has("sort_key") {
		p.sortKey = q.Query.Text("sort_key")
		if res.order(p.sortKey) == nil {
			return p, structs.Errorf(structs.CodeInvalid, "The sort_key value (%s) is invalid for sorting: it is one of %s",
				structs.Shorten(p.sortKey), strings.Join(res.sortKeys(), ", "))
		}
	}
	if q.Query.Has("sort_dir") {
		switch dir := q.Query.Text("sort_dir"); dir {
		case "asc", "desc":
			p.desc = dir == "desc"
		default:
			return p, structs.Errorf(structs.CodeInvalid, "Invalid sort direction: %s. Acceptable values are 'asc' or 'desc'",
				structs.Shorten(dir))
		}
	}
	if marker := q.Query.Text("marker"); q.Query.Has("marker") {
		if !structs.IsID(marker) {
			return p, structs.NotUUID(marker)
		}
		row, err := res.Lookup(v, marker)
		if err != nil {
			return p, err
		}
		p.marker = row
	}
	return p, nil
}

// Lookup finds an object of the resource that the caller sees. Errors are those of
// conductor.Lookup.
func (res *Resource) Lookup(v View, ident string) (structs.Row, error) {
	if res.Find != nil {
		return res.Find(v, ident)
	}
	return conductor.Lookup(v.Snap, v.Caller, res.Kind, ident)
}

// filter returns a test that combines all filters in the query, nil if there are none.
func (res *Resource) filter(q *Request, v View) (func(structs.Row) bool, error) {
	var tests []func(structs.Row) bool
	for name, make := range res.Filters {
		for _, value := range q.Query.Values[name] {
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

// take returns the rows of one page. In the order of creation it stops reading at the
// end of the page.
func (res *Resource) take(v View, project string, p page, keep func(structs.Row) bool) ([]structs.Row, error) {
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

func (res *Resource) all(v View, project string, after uint64) iter.Seq[structs.Row] {
	if res.Rows != nil {
		return res.Rows(v, project, after)
	}
	return v.Snap.List(res.Table, project, after)
}

// CommonSorts are the sort_keys of every resource.
var CommonSorts = map[string]func(a, b structs.Row) int{
	"id":         func(a, b structs.Row) int { return cmp.Compare(a.Base().Seq, b.Base().Seq) },
	"uuid":       func(a, b structs.Row) int { return cmp.Compare(a.Base().ID, b.Base().ID) },
	"created_at": func(a, b structs.Row) int { return a.Base().CreatedAt.Compare(b.Base().CreatedAt) },
	"updated_at": func(a, b structs.Row) int { return a.Base().UpdatedAt.Compare(b.Base().UpdatedAt) },
}

func (res *Resource) order(key string) func(a, b structs.Row) int {
	if order := CommonSorts[key]; order != nil {
		return order
	}
	return res.Sorts[key]
}

func (res *Resource) sortKeys() []string {
	var keys []string
	for _, m := range []map[string]func(a, b structs.Row) int{CommonSorts, res.Sorts} {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// By returns an order of rows by one field. Rows of another type come first.
func By[R structs.Row, K cmp.Ordered](field func(R) K) func(a, b structs.Row) int {
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

// answer writes the page, with next if the page is full. It holds a part of the page at a time.
func (res *Resource) answer(q *Request, v View, p page, rows []structs.Row, detail bool) error {
	out := newJSONStream(q)
	defer out.e.Free()
	e := out.e
	e.Buf.WriteString(`{"` + res.Noun + `":[`)
	more := len(rows) == p.limit
	for i, r := range rows {
		if i > 0 {
			e.Buf.WriteByte(',')
		}
		if err := res.write(e, v, r, detail); err != nil {
			return err
		}
		if i == len(rows)-1 {
			break
		}
		if err := out.flush(); err != nil {
			return err
		}
		if out.sent >= maxPageBytes {
			rows, more = rows[:i+1], true
			break
		}
	}
	e.Buf.WriteByte(']')
	if more {
		e.Buf.WriteString(`,"next":`)
		if err := e.Value(res.next(q, v, p, rows[len(rows)-1], detail)); err != nil {
			return err
		}
	}
	e.Buf.WriteByte('}')
	return out.end()
}

// maxPageBytes is the size of a page in bytes after which it ends, even if it has fewer objects
// than its limit.
const maxPageBytes = 8 << 20

// write writes the object of one row.
func (res *Resource) write(e *wire.Encoder, v View, r structs.Row, detail bool) error {
	switch {
	case detail:
		return e.Value(res.Detail(v, r))
	case res.AppendSummary != nil:
		e.Buf.Write(res.AppendSummary(e.Buf.AvailableBuffer(), v.Base, r))
		return nil
	}
	return e.Value(res.Summary(v, r))
}

// next returns the URL of the next page.
func (res *Resource) next(q *Request, v View, p page, last structs.Row, detail bool) string {
	var b strings.Builder
	b.WriteString(v.Base + "/v1/" + res.Noun)
	if detail {
		b.WriteString("/detail")
	}
	dir := "asc"
	if p.desc {
		dir = "desc"
	}
	b.WriteString("?sort_key=" + url.QueryEscape(p.sortKey) + "&sort_dir=" + dir)
	for _, name := range slices.Sorted(keysOf(res.Filters)) {
		for _, value := range q.Query.Values[name] {
			b.WriteString("&" + name + "=" + url.QueryEscape(value))
		}
	}
	for _, name := range []string{"all_projects", "consistent", "stale"} {
		if q.Query.Bool(name, false) {
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

// Show answers with one object.
func (res *Resource) Show(q *Request) error {
	return q.Service.ConfirmRefusal(q.Context(), &q.Call, func() error { return res.showOnce(q) })
}

func (res *Resource) showOnce(q *Request) error {
	if q.Query.Bool("all_projects", false) {
		if err := identity.Check(q.Caller(), identity.AllProjects); err != nil {
			return err
		}
	}
	if err := q.Service.Await(q.Context(), &q.Call); err != nil {
		return err
	}
	v := q.View(q.Service.Snapshot())
	row, err := res.Lookup(v, q.Ident())
	if err != nil {
		return err
	}
	if q.Call.Freshness.Blocking {
		v = q.View(q.Service.ChangedRow(q.Context(), &q.Call, q.change(), row.Table(), row.Base().ID, res.Beside...))
		if row = v.Snap.Get(row.Table(), row.Base().ID); row == nil {
			return structs.NotFound(res.Kind, q.Ident())
		}
	}
	return q.JSON(http.StatusOK, res.whole(v, row))
}

// Written answers with the present state of an object that the request has written, so
// that the content belongs to the X-Magnum-Index of the response.
func (res *Resource) Written(q *Request, status int, row structs.Row) error {
	v := q.View(q.Service.Snapshot())
	if now := v.Snap.Get(row.Table(), row.Base().ID); now != nil {
		row = now
	}
	return q.JSON(status, res.whole(v, row))
}

// Locate sets the Location header to the URL of a created object.
func (res *Resource) Locate(q *Request, row structs.Row) {
	q.W.Header().Set("Location", q.BaseURL()+"/v1/"+res.Noun+"/"+row.Base().ID)
}

// FilterName returns a filter by name.
func FilterName(name func(structs.Row) string) func(View, string) (func(structs.Row) bool, error) {
	return func(_ View, value string) (func(structs.Row) bool, error) {
		return func(r structs.Row) bool { return name(r) == value }, nil
	}
}

// FilterStatus returns a filter by status that ignores case. A status that no object can have is
// refused: known are those that they can.
func FilterStatus[S ~string](status func(structs.Row) string, known ...S) func(View, string) (func(structs.Row) bool, error) {
	return func(_ View, value string) (func(structs.Row) bool, error) {
		if !slices.ContainsFunc(known, func(s S) bool { return strings.EqualFold(string(s), value) }) {
			names := make([]string, len(known))
			for i, s := range known {
				names[i] = string(s)
			}
			return nil, structs.Invalid("status", value, "It must be one of %s.", strings.Join(names, ", "))
		}
		return func(r structs.Row) bool { return strings.EqualFold(status(r), value) }, nil
	}
}

// FilterLabel returns a filter by label: key=value, or key alone for any value.
func FilterLabel(labels func(structs.Row) map[string]string) func(View, string) (func(structs.Row) bool, error) {
	return func(_ View, value string) (func(structs.Row) bool, error) {
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

// FilterBay returns a filter by a bay's UUID or name.
func FilterBay(bayID func(structs.Row) string) func(View, string) (func(structs.Row) bool, error) {
	return func(v View, value string) (func(structs.Row) bool, error) {
		bay, err := conductor.Lookup(v.Snap, v.Caller, structs.KindBay, value)
		if structs.CodeOf(err) == structs.CodeNotFound {
			return nil, structs.Errorf(structs.CodeInvalid, "Bay %s could not be found.",
				structs.Shorten(value)).About(structs.KindBay).With(structs.HintUnknown)
		}
		if err != nil {
			return nil, err
		}
		id := bay.Base().ID
		return func(r structs.Row) bool { return bayID(r) == id }, nil
	}
}

// FilterHost filters workloads by their host's UUID or name. It doesn't look up the host,
// because only operators may know which hosts exist.
func FilterHost(v View, value string) (func(structs.Row) bool, error) {
	return func(r structs.Row) bool {
		h := v.Snap.Host(r.(structs.Workload).Place().HostID)
		return h != nil && (h.ID == value || h.Name == value)
	}, nil
}

// The filters of lists.
var (
	FilterArgName   = wire.Arg{Name: "name", Kind: wire.ArgText, Doc: "Only objects of this name."}
	FilterArgStatus = wire.Arg{Name: "status", Kind: wire.ArgText, Doc: "Only objects of this status."}
	FilterArgLabel  = wire.Arg{Name: "label", Kind: wire.ArgText, Many: true, Doc: "Only objects with this label: key=value, or key."}
	FilterArgBay    = wire.Arg{Name: "bay", Kind: wire.ArgText, Doc: "Only objects of this bay: uuid or name."}
	FilterArgHost   = wire.Arg{Name: "host", Kind: wire.ArgText,
		Doc: "Only objects on this host: uuid or name; of pods in a Kubernetes bay also the name of a node."}
)

// Reading returns the routes that list and show a resource. summary and detailed are
// values of the bodies' types.
func Reading(res *Resource, summary, detailed any, list, detail, show identity.Action, filters ...wire.Arg) []*Route {
	args := res.ListArgs(filters...)
	return []*Route{
		{Method: http.MethodGet, Path: "/" + res.Noun, Action: list, Handle: res.List(false), Args: args,
			Summary: "List " + res.Noun, Gives: []wire.Answer{{Status: http.StatusOK, Body: wire.ListOf{Noun: res.Noun, Item: summary}}}},
		{Method: http.MethodGet, Path: "/" + res.Noun + "/detail", Action: detail, Handle: res.List(true), Args: args,
			Summary: "List " + res.Noun + " with all fields",
			Gives:   []wire.Answer{{Status: http.StatusOK, Body: wire.ListOf{Noun: res.Noun, Item: detailed}}}},
		{Method: http.MethodGet, Path: "/" + res.Noun + "/:id", Action: show, Handle: res.Show, Args: Reads,
			Summary: "Show a " + res.Kind, Gives: []wire.Answer{{Status: http.StatusOK, Body: detailed}}},
	}
}
