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

// QueryOptions are the options of a read. The zero value asks for the current
// state, at least as new as any response that this client has received.
type QueryOptions struct {
	Index       uint64        // blocking read: respond once the object or list changed after Index; 0 responds at once
	Wait        time.Duration // limit of a blocking read; 0 means the server's default
	Consistent  bool          // at least as new as the request, on any server
	Stale       bool          // any state, without waiting
	AllProjects bool          // operators only

	// For lists only.
	Detail  bool       // all fields of each object, not only the summary
	Limit   int        // maximum number of objects; 0 means all, from as many pages as it takes
	Marker  string     // uuid: the list starts after this object
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

// waitText returns the value of ?wait=, "" for the server's default.
func waitText(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < 0:
		return "0s"
	}
	return min(d, structs.MaxWait).String()
}

// query adds the wait to q, which may be nil.
func (o WriteOptions) query(q url.Values) url.Values {
	if q == nil {
		q = url.Values{}
	}
	if w := waitText(o.Wait); w != "" {
		q.Set("wait", w)
	}
	return q
}

// WriteOptions are the options of a write. With the zero value the server responds
// once the write is committed.
type WriteOptions struct {
	// Wait is how long the server may delay the response until the work is done
	// or has failed; see Meta.Done. 0 means the server's default, a negative
	// value doesn't wait.
	Wait           time.Duration
	IdempotencyKey string // of a create; "" generates a key for this call
}

// newCreate returns a POST with an Idempotency-Key: it creates one object however
// often it is sent.
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

// list reads the objects of a noun page by page, until it has o.Limit objects or
// all of them. The Meta is that of the first page, with the Items of all pages. A
// blocking read blocks on the first page only.
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
			return nil, meta, structs.Errorf(structs.CodeInternal,
				"the response of %s to GET %s has no list %q: check the address: %w", c.Address(), r.path, noun, err)
		}
		for _, b := range raw {
			var one T
			if err := json.Unmarshal(b, &one); err != nil {
				return nil, meta, structs.Errorf(structs.CodeInternal, "an object in the response to GET %s can't be decoded: %w", r.path,
					err)
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
		// Only the marker of next is used. Its host is the address that the server
		// knows itself by, which may not work for a client behind a proxy or NAT.
		r.query.Set("marker", marker)
		r.query.Del("index")
		r.query.Del("wait")
		r.wait = 0
	}
}

// nextMarker returns the marker in a page's "next" URL, "" on the last page.
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
