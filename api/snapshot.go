package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// SnapshotTimeout limits the transfer of a snapshot.
const SnapshotTimeout = 30 * time.Minute

// SaveSnapshot returns the servers' state as a snapshot file, which includes
// secrets. Reading a truncated file ends with an error. The caller closes it.
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

var errSnapshotTooLarge = structs.Errorf(structs.CodeTooLarge,
	"the file has more than %d GiB, the limit of a restore", int64(structs.MaxSnapshot)>>30)

// RestoreSnapshot replaces the state of all servers with that of a snapshot file.
// With keep the cluster keeps its cluster ID; agents of the snapshot's cluster can't
// follow then. CodeForbidden, CodeInvalid: the file is damaged or not a snapshot,
// CodeConflict: the servers can't use this state, CodeNoSpace, CodeNoLeader.
func (t Operator) RestoreSnapshot(ctx context.Context, file io.Reader, keep bool) (*structs.RestoredBody, Meta, error) {
	q := url.Values{}
	if keep {
		q.Set("keep_cluster_id", "true")
	}
	in := &limitedReader{r: file, left: structs.MaxSnapshot, tooLarge: errSnapshotTooLarge}
	body := new(structs.RestoredBody)
	meta, err := t.c.do(ctx, call{
		method: http.MethodPut, path: "/v1/operator/snapshot", query: q, wait: SnapshotTimeout, upload: in,
		// The server can refuse before the file is sent.
		header: http.Header{"Content-Type": {"application/octet-stream"}, "Expect": {"100-continue"}},
	}, body)
	if failed := in.readError(); err != nil && failed != nil {
		return nil, meta, failed // err only says that the request was aborted
	}
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}
