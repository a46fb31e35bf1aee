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
	return t.process(ident).readArchive(ctx, path)
}

// WriteArchive unpacks a tar stream in the directory at an absolute path of a
// container. CodeNotFound: the container or the path doesn't exist, CodeInvalid:
// the path is not a directory or the stream not a tar, CodeTooLarge: the archive
// is larger than structs.MaxArchive bytes.
func (t Containers) WriteArchive(ctx context.Context, ident, path string, archive io.Reader) (Meta, error) {
	return t.process(ident).writeArchive(ctx, path, archive)
}

func (p process) readArchive(ctx context.Context, at string) (io.ReadCloser, error) {
	path, query, err := p.request(url.Values{"path": {at}}, "archive")
	if err != nil {
		return nil, err
	}
	resp, err := p.c.stream(ctx, call{
		method: http.MethodGet, path: path, query: query, wait: ArchiveTimeout,
		header: http.Header{"Accept": {"application/x-tar"}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (p process) writeArchive(ctx context.Context, at string, archive io.Reader) (Meta, error) {
	path, query, err := p.request(url.Values{"path": {at}}, "archive")
	if err != nil {
		return Meta{}, err
	}
	in := &limitedReader{r: archive, left: structs.MaxArchive, tooLarge: errArchiveTooLarge}
	meta, err := p.c.do(ctx, call{
		method: http.MethodPut, path: path, query: query, wait: ArchiveTimeout, upload: in,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}, nil)
	if failed := in.readError(); err != nil && failed != nil {
		return meta, failed // err only says that the request was aborted
	}
	return meta, err
}
