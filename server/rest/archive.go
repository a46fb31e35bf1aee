package rest

import (
	"io"
	"net/http"
	"strconv"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// mediaTar is the media type of archives.
const mediaTar = "application/x-tar"

// getArchive answers with a file or directory of a container as a tar archive.
func (s sessionCalls) getArchive(q *web.Request) error {
	var archive service.Archive
	defer archive.Close()
	if err := s.of(q).GetArchive(q.Context(), &q.Call, q.Ident(), q.Query.Text("path"), &archive); err != nil {
		return err
	}
	h := q.W.Header()
	h.Set("Content-Type", mediaTar)
	h.Set("Content-Length", strconv.FormatInt(archive.Size(), 10))
	q.W.WriteHeader(http.StatusOK)
	_, err := io.Copy(q.W, archive.Reader())
	return err
}

// putArchive unpacks the request's body into a directory of a container.
func (s sessionCalls) putArchive(q *web.Request) error {
	if q.R.ContentLength > structs.MaxArchive {
		return q.CloseOnError(service.ErrArchiveTooLarge())
	}
	var archive service.Archive
	defer archive.Close()
	if err := archive.Fill(q.R.Body); err != nil {
		return q.CloseOnError(err)
	}
	if err := s.of(q).PutArchive(q.Context(), &q.Call, q.Ident(), q.Query.Text("path"), &archive); err != nil {
		return err
	}
	return q.Null()
}
