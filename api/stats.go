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
	return t.process(ident).stats(ctx)
}

// FollowStats calls each with a container's use of its host once a second. It
// returns nil when the container ends, the cause when ctx ends, or the error that
// each returns. CodeNotFound, CodeConflict: the container does not run.
func (t Containers) FollowStats(ctx context.Context, ident string, each func(structs.StatsBody) error) error {
	return t.process(ident).followStats(ctx, each)
}

// Top returns the processes of a container as ps prints them on its host with the
// arguments psArgs; "" means -ef. CodeNotFound, CodeConflict: the container does
// not run.
func (t Containers) Top(ctx context.Context, ident, psArgs string) (*structs.TopBody, Meta, error) {
	return t.process(ident).top(ctx, psArgs)
}

func (p process) stats(ctx context.Context) (*structs.StatsBody, Meta, error) {
	path, q, err := p.request(url.Values{}, "stats")
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.StatsBody)
	meta, err := p.c.do(ctx, call{method: http.MethodGet, path: path, query: q}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

func (p process) followStats(ctx context.Context, each func(structs.StatsBody) error) error {
	path, q, err := p.request(url.Values{"stream": {"true"}}, "stats")
	if err != nil {
		return err
	}
	resp, err := p.c.stream(ctx, call{method: http.MethodGet, path: path, query: q})
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
			return structs.Errorf(structs.CodeUnavailable, "the statistics of %s %s broke off: %w", p.kind, p.ident, err)
		}
		if err := each(stats); err != nil {
			return err
		}
	}
}

func (p process) top(ctx context.Context, psArgs string) (*structs.TopBody, Meta, error) {
	q := url.Values{}
	if psArgs != "" {
		q.Set("ps_args", psArgs)
	}
	path, q, err := p.request(q, "top")
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.TopBody)
	meta, err := p.c.do(ctx, call{method: http.MethodGet, path: path, query: q}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}
