package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// How long images may take on their way.
const (
	ImageLoadTimeout  = 3 * time.Hour
	imagePruneTimeout = 10 * time.Minute
	hostListTimeout   = 15 * time.Second
)

// Images are the images on hosts.
type Images struct{ c *Client }

// Images returns the images on hosts.
func (c *Client) Images() Images { return Images{c} }

// HostListOptions says which hosts are asked for a list, and what of it is
// wanted. The zero value asks those of all bays that the project can use.
type HostListOptions struct {
	Bay         string // uuid or name
	Host        string // uuid or name
	Name        string // only what has this name
	AllProjects bool   // all hosts, and volumes of all projects; operators only
	Consistent  bool   // hosts not older than the moment of the request
	Stale       bool   // hosts of any state
}

func (o HostListOptions) values() url.Values {
	q := QueryOptions{Consistent: o.Consistent, Stale: o.Stale, AllProjects: o.AllProjects}.values()
	for key, value := range map[string]string{"bay": o.Bay, "host": o.Host, "name": o.Name} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q
}

// hostList reads a list that hosts are asked for. The Meta has its Items.
func hostList[T any](ctx context.Context, c *Client, noun string, o HostListOptions) (*T, Meta, error) {
	body, items := new(T), map[string]json.RawMessage{}
	meta, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/" + noun, query: o.values(), wait: hostListTimeout, stale: o.Stale}, &items)
	if err == nil {
		err = errors.Join(json.Unmarshal(meta.Raw, body), json.Unmarshal(items[noun], &meta.Items))
		if err != nil {
			err = structs.Errorf(structs.CodeInternal, "the answer of %s to GET /v1/%s is not magnum's: check the address: %w", c.Address(), noun, err)
		}
	}
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// List returns the images on the hosts that the options ask for, and beside
// them which hosts could not answer. CodeForbidden, CodeInvalid.
func (t Images) List(ctx context.Context, o HostListOptions) (*structs.ImagesBody, Meta, error) {
	return hostList[structs.ImagesBody](ctx, t.c, "images", o)
}

// Pull pulls an image to all ready hosts of a bay, or to one host. each hears
// how far they are, and last of each host what became of it; Pull returns when
// all have ended, with those last words. They may be errors, one by one.
// CodeForbidden, CodeInvalid, CodeUnavailable.
func (t Images) Pull(ctx context.Context, r *structs.ImagePullRequest, each func(structs.HostResult)) ([]structs.HostResult, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "the request can't be written as JSON: %w", err)
	}
	resp, err := t.c.stream(ctx, call{
		method: http.MethodPost, path: "/v1/images", raw: body,
		header: http.Header{"Accept": {"application/x-ndjson"}},
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var ended []structs.HostResult
	for dec := json.NewDecoder(resp.Body); ; {
		var result structs.HostResult
		switch err := dec.Decode(&result); {
		case ctx.Err() != nil:
			return ended, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return ended, nil
		case err != nil:
			return ended, structs.Errorf(structs.CodeUnavailable, "the pull of %s broke off: %w", r.Image, err)
		}
		if each(result); result.Result != structs.ResultProgress {
			ended = append(ended, result)
		}
	}
}

// HostTarget says on which hosts something is done to images. The zero value
// means those of the only bay that the project can use.
type HostTarget struct {
	Bay  string // uuid or name: its ready hosts
	Host string // uuid or name, instead of a bay; operators only
	All  bool   // all ready hosts, of a prune only
}

func (t HostTarget) values() url.Values {
	q := url.Values{}
	if t.Bay != "" {
		q.Set("bay", t.Bay)
	}
	if t.Host != "" {
		q.Set("host", t.Host)
	}
	if t.All {
		q.Set("all", "true")
	}
	return q
}

var errImageFile = structs.Errorf(structs.CodeTooLarge, "the archive has more than %d GiB, the most that is loaded at a time: save fewer images into it", int64(structs.MaxImageFile)>>30)

// Load loads the images of a tar stream, as docker save writes it, on hosts,
// and returns what became of it on each. If no host could load it, the error
// names each. CodeForbidden, CodeInvalid, CodeTooLarge: it has more than
// structs.MaxImageFile bytes, CodeUnavailable.
func (t Images) Load(ctx context.Context, at HostTarget, archive io.Reader) ([]structs.HostResult, Meta, error) {
	in := &bounded{r: archive, left: structs.MaxImageFile, over: errImageFile}
	results, meta, err := t.change(ctx, call{
		path: "/v1/images/load", query: at.values(), wait: ImageLoadTimeout, upload: in,
		// A refusal shall come before the archive is on its way.
		header: http.Header{"Content-Type": {"application/x-tar"}, "Expect": {"100-continue"}},
	})
	if failed := in.failed(); err != nil && failed != nil {
		return nil, meta, failed // says more than that the request broke off
	}
	return results, meta, err
}

// Prune removes the images that no container uses, and returns what became of
// it on each host. If no host could do it, the error names each.
// CodeForbidden, CodeInvalid, CodeUnavailable.
func (t Images) Prune(ctx context.Context, at HostTarget) ([]structs.HostResult, Meta, error) {
	return t.change(ctx, call{path: "/v1/images/prune", query: at.values(), wait: imagePruneTimeout})
}

func (t Images) change(ctx context.Context, r call) ([]structs.HostResult, Meta, error) {
	r.method = http.MethodPut
	var body structs.HostResultsBody
	meta, err := t.c.do(ctx, r, &body)
	return body.Results, meta, err
}
