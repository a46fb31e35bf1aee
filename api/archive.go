package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// ArchiveTimeout limits the transfer of an archive.
const ArchiveTimeout = 10 * time.Minute

// ReadArchive returns the file or directory at an absolute path of a container as
// a tar stream. The names of its entries begin with the path's last element. The
// caller closes the stream. CodeNotFound: the container or the path doesn't exist,
// CodeTooLarge: the archive is larger than structs.MaxArchive bytes.
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

// WriteArchive unpacks a tar stream in the directory at an absolute path of a
// container. CodeNotFound: the container or the path doesn't exist, CodeInvalid:
// the path is not a directory or the stream not a tar, CodeTooLarge: the archive
// is larger than structs.MaxArchive bytes.
func (t Containers) WriteArchive(ctx context.Context, ident, path string, archive io.Reader) (Meta, error) {
	url, query, err := archivePath(ident, path)
	if err != nil {
		return Meta{}, err
	}
	in := &limitedReader{r: archive, left: structs.MaxArchive, tooLarge: errArchiveTooLarge}
	meta, err := t.c.do(ctx, call{
		method: http.MethodPut, path: url, query: query, wait: ArchiveTimeout, upload: in,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}, nil)
	if failed := in.readError(); err != nil && failed != nil {
		return meta, failed // err only says that the request was aborted
	}
	return meta, err
}

func archivePath(ident, path string) (string, url.Values, error) {
	at, err := objectPath("containers", ident, "archive")
	return at, url.Values{"path": {path}}, err
}
