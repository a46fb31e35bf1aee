package rest

import (
	"io"
	"net/http"
	"strconv"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// mediaTar is the type of archives.
const mediaTar = "application/x-tar"

// archiveArgs are the query arguments of archives.
var archiveArgs = []wire.Arg{
	{Name: "path", Kind: wire.ArgText, Wants: true, Doc: "Absolute path in the container; of a PUT the directory to unpack in."},
}

// getArchive answers with a file or directory of a container as a tar archive.
func getArchive(q *request) error {
	var archive service.Archive
	defer archive.Close()
	if err := q.service.Sessions.GetArchive(q.ctx(), &q.call, q.ident(), q.query.Text("path"), &archive); err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("Content-Type", mediaTar)
	h.Set("Content-Length", strconv.FormatInt(archive.Size(), 10))
	q.w.WriteHeader(http.StatusOK)
	_, err := io.Copy(q.w, archive.Reader())
	return err
}

// putArchive unpacks the request's body in a directory of a container.
func putArchive(q *request) error {
	if q.r.ContentLength > structs.MaxArchive {
		return q.unread(service.ErrArchiveTooLarge())
	}
	var archive service.Archive
	defer archive.Close()
	if err := archive.Fill(q.r.Body); err != nil {
		return q.unread(err)
	}
	if err := q.service.Sessions.PutArchive(q.ctx(), &q.call, q.ident(), q.query.Text("path"), &archive); err != nil {
		return err
	}
	return q.null()
}
