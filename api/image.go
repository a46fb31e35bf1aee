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

// Limits of calls that hosts have to answer.
const (
	ImageLoadTimeout  = 3 * time.Hour    // for sending and loading an archive of images
	imagePruneTimeout = 10 * time.Minute // also for deleting a volume
	hostListTimeout   = 15 * time.Second
)

// Images accesses the images on hosts.
type Images struct{ c *Client }

// Images returns the client of images.
func (c *Client) Images() Images { return Images{c} }

// HostListOptions says which hosts are asked, and filters what they list. The zero
// value asks the hosts of all bays that the project can use.
type HostListOptions struct {
	Bay         string // uuid or name
	Host        string // uuid or name
	Name        string // only objects of this name
	AllProjects bool   // all hosts, and volumes of all projects; operators only
	Consistent  bool   // choose hosts from a state at least as new as the request
	Stale       bool   // choose hosts from any state
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

// hostList reads a list that the server collects from hosts. Meta.Items has the
// objects as sent.
func hostList[T any](ctx context.Context, c *Client, noun string, o HostListOptions) (*T, Meta, error) {
	body, items := new(T), map[string]json.RawMessage{}
	r := call{method: http.MethodGet, path: "/v1/" + noun, query: o.values(), wait: hostListTimeout, stale: o.Stale}
	meta, err := c.do(ctx, r, &items)
	if err == nil {
		err = errors.Join(json.Unmarshal(meta.Raw, body), json.Unmarshal(items[noun], &meta.Items))
		if err != nil {
			err = structs.Errorf(structs.CodeInternal,
				"the response of %s to GET /v1/%s is not from a magnum server: check the address: %w", c.Address(), noun, err)
		}
	}
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// List returns the images on the hosts that the options ask for, and the hosts
// that could not answer. CodeForbidden, CodeInvalid.
func (t Images) List(ctx context.Context, o HostListOptions) (*structs.ImagesBody, Meta, error) {
	return hostList[structs.ImagesBody](ctx, t.c, "images", o)
}

// Pull pulls an image to all ready hosts of a bay, or to one host. It calls each
// with the progress and the final result of every host, and returns the final
// results when all hosts have finished. A result may be an error of its host.
// CodeForbidden, CodeInvalid, CodeUnavailable.
func (t Images) Pull(ctx context.Context, r *structs.ImagePullRequest, each func(structs.HostResult)) ([]structs.HostResult, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "encoding the request as JSON: %w", err)
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

// HostTarget selects the hosts of a load or prune. The zero value selects those of
// the only bay that the project can use.
type HostTarget struct {
	Bay  string // uuid or name: its ready hosts
	Host string // uuid or name, instead of a bay; operators only
	All  bool   // all ready hosts; for Prune only
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

var errImageFileTooLarge = structs.Errorf(structs.CodeTooLarge,
	"the archive has more than %d GiB, the limit of one load: save fewer images into it", int64(structs.MaxImageFile)>>30)

// Load loads the images of a tar stream of docker save on hosts, and returns the
// result of each host. If every host failed, the error names each. CodeForbidden,
// CodeInvalid, CodeTooLarge: the archive is larger than structs.MaxImageFile bytes,
// CodeUnavailable.
func (t Images) Load(ctx context.Context, at HostTarget, archive io.Reader) ([]structs.HostResult, Meta, error) {
	in := &limitedReader{r: archive, left: structs.MaxImageFile, tooLarge: errImageFileTooLarge}
	results, meta, err := t.change(ctx, call{
		path: "/v1/images/load", query: at.values(), wait: ImageLoadTimeout, upload: in,
		// The server can refuse before the archive is sent.
		header: http.Header{"Content-Type": {"application/x-tar"}, "Expect": {"100-continue"}},
	})
	if failed := in.readError(); err != nil && failed != nil {
		return nil, meta, failed // err only says that the request was aborted
	}
	return results, meta, err
}

// Prune removes the images that no container uses, and returns the result of each
// host. If every host failed, the error names each. CodeForbidden, CodeInvalid,
// CodeUnavailable.
func (t Images) Prune(ctx context.Context, at HostTarget) ([]structs.HostResult, Meta, error) {
	return t.change(ctx, call{path: "/v1/images/prune", query: at.values(), wait: imagePruneTimeout})
}

func (t Images) change(ctx context.Context, r call) ([]structs.HostResult, Meta, error) {
	r.method = http.MethodPut
	var body structs.HostResultsBody
	meta, err := t.c.do(ctx, r, &body)
	return body.Results, meta, err
}
