package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/stackforge/magnum/structs"
)

// QueryOptions says how a read is answered. The zero value asks for the
// current state, not older than what this client has seen.
type QueryOptions struct {
	Index       uint64        // hold the answer back until the object or list has changed since; 0 answers at once
	Wait        time.Duration // how long to hold it back; 0 means the server's default
	Consistent  bool          // not older than the moment of the request, on any server
	Stale       bool          // any state, at once
	AllProjects bool          // operators only

	// Of lists.
	Detail  bool       // all fields of each object, not only the short list's
	Limit   int        // objects at most; 0 means all of them, however many pages
	Marker  string     // uuid of the object before the first one wanted
	SortKey string     // field to sort by; "" means creation order
	SortDir string     // asc or desc; "" means asc
	Filters url.Values // such as name, status, bay, host, label=k=v
}

func (o QueryOptions) values() url.Values {
	q := url.Values{}
	for k, v := range o.Filters {
		q[k] = v
	}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	if o.Index > 0 {
		set("index", strconv.FormatUint(o.Index, 10))
	}
	set("wait", waitText(o.Wait))
	if o.Consistent {
		set("consistent", "true")
	}
	if o.Stale {
		set("stale", "true")
	}
	if o.AllProjects {
		set("all_projects", "true")
	}
	if o.Limit > 0 {
		set("limit", strconv.Itoa(min(o.Limit, structs.MaxPage)))
	}
	set("marker", o.Marker)
	set("sort_key", o.SortKey)
	set("sort_dir", o.SortDir)
	return q
}

// waitText is a duration as ?wait= takes it, "" for the server's default.
func waitText(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < 0:
		return "0s"
	}
	return min(d, structs.MaxWait).String()
}

// query adds the wait to a call's query, which may be nil.
func (o WriteOptions) query(q url.Values) url.Values {
	if q == nil {
		q = url.Values{}
	}
	if w := waitText(o.Wait); w != "" {
		q.Set("wait", w)
	}
	return q
}

// WriteOptions says how a write is made. The zero value answers as soon as the
// servers have promised to do it.
type WriteOptions struct {
	Wait           time.Duration // hold the answer back until it is done or has failed; Meta.Done tells which. 0 means the server's default, below 0 don't
	IdempotencyKey string        // of a create; "" mints one for this call
}

// newCreate is a POST that makes one object however often it is sent.
func newCreate(path string, q url.Values, body any, o WriteOptions) call {
	key := o.IdempotencyKey
	if key == "" {
		key = structs.NewID()
	}
	return call{
		method: http.MethodPost, path: path, query: o.query(q), body: body, wait: o.Wait, retry: true,
		header: http.Header{HeaderIdempotency: {key}},
	}
}

// get reads one object of a noun.
func get[T any](ctx context.Context, c *Client, noun, ident string, o QueryOptions) (*T, Meta, error) {
	path, err := objectPath(noun, ident)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(T)
	meta, err := c.do(ctx, call{method: http.MethodGet, path: path, query: o.values(), wait: o.Wait, stale: o.Stale}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// create makes one object of a noun.
func create[T any](ctx context.Context, c *Client, noun string, q url.Values, req any, o WriteOptions) (*T, Meta, error) {
	body := new(T)
	meta, err := c.do(ctx, newCreate("/v1/"+noun, q, req, o), body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// update changes one object of a noun.
func update[T any](ctx context.Context, c *Client, noun, ident string, ops []structs.PatchOp, o WriteOptions) (*T, Meta, error) {
	path, err := objectPath(noun, ident)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(T)
	meta, err := c.do(ctx, call{method: http.MethodPatch, path: path, query: o.query(nil), body: ops, wait: o.Wait}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// remove deletes one object of a noun.
func remove(ctx context.Context, c *Client, noun, ident string, q url.Values, o WriteOptions) (Meta, error) {
	path, err := objectPath(noun, ident)
	if err != nil {
		return Meta{}, err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, query: o.query(q), wait: o.Wait}, nil)
}

// list reads the objects of a noun, following the servers' pages until there
// are o.Limit of them or no more. The Meta is the first page's, with the
// Items of all pages. A blocking read blocks on the first page.
func list[T any](ctx context.Context, c *Client, noun string, o QueryOptions) ([]T, Meta, error) {
	r := call{method: http.MethodGet, path: "/v1/" + noun, query: o.values(), wait: o.Wait, stale: o.Stale}
	if o.Detail {
		r.path += "/detail"
	}
	var first Meta
	all := []T{}
	var items []json.RawMessage
	for page := 0; ; page++ {
		var body map[string]json.RawMessage
		meta, err := c.do(ctx, r, &body)
		if err != nil {
			return nil, meta, err
		}
		if page == 0 {
			first = meta
		}
		var raw []json.RawMessage
		if err := json.Unmarshal(body[noun], &raw); err != nil {
			return nil, meta, structs.Errorf(structs.CodeInternal, "the answer of %s to GET %s has no list %q: check the address: %w", c.Address(), r.path, noun, err)
		}
		for _, b := range raw {
			var one T
			if err := json.Unmarshal(b, &one); err != nil {
				return nil, meta, structs.Errorf(structs.CodeInternal, "an object in the answer to GET %s is not magnum's: %w", r.path, err)
			}
			all, items = append(all, one), append(items, b)
			if o.Limit > 0 && len(all) == o.Limit {
				first.Items = items
				return all, first, nil
			}
		}
		marker := nextMarker(body["next"])
		if marker == "" || marker == r.query.Get("marker") || len(raw) == 0 {
			first.Items = items
			return all, first, nil
		}
		// Only the marker of next is taken: its host is the server's idea of
		// itself, which behind a proxy or NAT is not how this client got there.
		r.query.Set("marker", marker)
		r.query.Del("index")
		r.query.Del("wait")
		r.wait = 0
	}
}

// nextMarker returns the marker in a page's "next" URL, "" if it is the last.
func nextMarker(raw json.RawMessage) string {
	var next string
	if json.Unmarshal(raw, &next) != nil {
		return ""
	}
	u, err := url.Parse(next)
	if err != nil {
		return ""
	}
	return u.Query().Get("marker")
}
