package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// ArchiveTimeout is how long an archive may take on its way.
const ArchiveTimeout = 10 * time.Minute

// ReadArchive returns what is at an absolute path of a container as a tar
// stream, whose entries begin with the path's last element. The caller closes
// it. CodeNotFound: the container or the path, CodeTooLarge: it has more than
// structs.MaxArchive bytes.
func (t Containers) ReadArchive(ctx context.Context, ident, path string) (io.ReadCloser, error) {
	url, query, err := archivePath(ident, path)
	if err != nil {
		return nil, err
	}
	resp, err := t.c.stream(ctx, call{
		method: http.MethodGet, path: url, query: query, wait: ArchiveTimeout,
		header: http.Header{"Accept": {"application/x-tar"}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// WriteArchive unpacks a tar stream in a directory of a container, given by
// its absolute path. CodeNotFound: the container or the directory,
// CodeInvalid: it is no directory, or the stream no tar, CodeTooLarge: it has
// more than structs.MaxArchive bytes.
func (t Containers) WriteArchive(ctx context.Context, ident, path string, archive io.Reader) (Meta, error) {
	url, query, err := archivePath(ident, path)
	if err != nil {
		return Meta{}, err
	}
	in := &bounded{r: archive, left: structs.MaxArchive, over: errArchive}
	meta, err := t.c.do(ctx, call{
		method: http.MethodPut, path: url, query: query, wait: ArchiveTimeout, upload: in,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}, nil)
	if failed := in.failed(); err != nil && failed != nil {
		return meta, failed // says more than that the request broke off
	}
	return meta, err
}

func archivePath(ident, path string) (string, url.Values, error) {
	at, err := objectPath("containers", ident, "archive")
	return at, url.Values{"path": {path}}, err
}
