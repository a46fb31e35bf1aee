package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// SnapshotTimeout is how long a snapshot may take on its way.
const SnapshotTimeout = 30 * time.Minute

// SaveSnapshot returns the state of the servers as a snapshot file, secrets
// included. One that is cut off ends with an error. The caller closes it.
// CodeForbidden.
func (t Operator) SaveSnapshot(ctx context.Context, o QueryOptions) (io.ReadCloser, error) {
	resp, err := t.c.stream(ctx, call{
		method: http.MethodGet, path: "/v1/operator/snapshot", query: o.values(), stale: o.Stale,
		header: http.Header{"Accept": {"application/octet-stream"}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

var errSnapshot = structs.Errorf(structs.CodeTooLarge, "the file has more than %d GiB, the most that is restored", int64(structs.MaxSnapshot)>>30)

// RestoreSnapshot replaces the state of all servers by that of a snapshot file.
// With keep the cluster keeps its own id, and agents of the snapshot's cluster
// can't follow. CodeForbidden, CodeInvalid: it is damaged or no snapshot, CodeConflict:
// the servers can't go on with it, CodeNoSpace, CodeNoLeader.
func (t Operator) RestoreSnapshot(ctx context.Context, file io.Reader, keep bool) (*structs.RestoredBody, Meta, error) {
	q := url.Values{}
	if keep {
		q.Set("keep_cluster_id", "true")
	}
	in := &bounded{r: file, left: structs.MaxSnapshot, over: errSnapshot}
	body := new(structs.RestoredBody)
	meta, err := t.c.do(ctx, call{
		method: http.MethodPut, path: "/v1/operator/snapshot", query: q, wait: SnapshotTimeout, upload: in,
		// A refusal shall come before the file is on its way.
		header: http.Header{"Content-Type": {"application/octet-stream"}, "Expect": {"100-continue"}},
	}, body)
	if failed := in.failed(); err != nil && failed != nil {
		return nil, meta, failed // says more than that the request broke off
	}
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}
