package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Stats returns a container's current use of its host. CodeNotFound, CodeConflict:
// the container does not run.
func (t Containers) Stats(ctx context.Context, ident string) (*structs.StatsBody, Meta, error) {
	path, err := objectPath("containers", ident, "stats")
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.StatsBody)
	meta, err := t.c.do(ctx, call{method: http.MethodGet, path: path}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// FollowStats calls each with a container's use of its host once a second. It
// returns nil when the container ends, the cause when ctx ends, or the error that
// each returns. CodeNotFound, CodeConflict: the container does not run.
func (t Containers) FollowStats(ctx context.Context, ident string, each func(structs.StatsBody) error) error {
	path, err := objectPath("containers", ident, "stats")
	if err != nil {
		return err
	}
	resp, err := t.c.stream(ctx, call{method: http.MethodGet, path: path, query: url.Values{"stream": {"true"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var stats structs.StatsBody
		switch err := dec.Decode(&stats); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return structs.Errorf(structs.CodeUnavailable, "the statistics of container %s broke off: %w", ident, err)
		}
		if err := each(stats); err != nil {
			return err
		}
	}
}

// Top returns the processes of a container as ps prints them on its host with the
// arguments psArgs; "" means -ef. CodeNotFound, CodeConflict: the container does
// not run.
func (t Containers) Top(ctx context.Context, ident, psArgs string) (*structs.TopBody, Meta, error) {
	path, err := objectPath("containers", ident, "top")
	if err != nil {
		return nil, Meta{}, err
	}
	q := url.Values{}
	if psArgs != "" {
		q.Set("ps_args", psArgs)
	}
	body := new(structs.TopBody)
	meta, err := t.c.do(ctx, call{method: http.MethodGet, path: path, query: q}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}
