package rest

import (
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// mediaTar is the type of archives.
const mediaTar = "application/x-tar"

// archiveArgs are the query arguments of archives.
var archiveArgs = []wire.Arg{
	{Name: "path", Kind: wire.ArgText, Wants: true, Doc: "Absolute path in the container; of a PUT the directory to unpack in."},
}

// openArchive opens the session of an archive. Errors: CodeInvalid, and those
// of target.
func (q *request) openArchive(kind structs.SessionKind) (*dispatch.Session, error) {
	at := q.query.Text("path")
	if !path.IsAbs(at) || len(at) > structs.MaxText {
		return nil, wire.Invalid("path", at, "It is not an absolute path of up to %d bytes.", structs.MaxText)
	}
	c, err := q.target()
	if err != nil {
		return nil, err
	}
	return q.Dispatch.Open(q.r.Context(), c.HostID, structs.SessionOffer{Kind: kind, ContainerID: c.ID, Epoch: c.Epoch, Path: at})
}

// getArchive answers with a file or directory of a container as a tar archive.
func getArchive(q *request) error {
	var archive spool
	defer archive.Close()
	if err := q.fetchArchive(&archive); err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("Content-Type", mediaTar)
	h.Set("Content-Length", strconv.FormatInt(archive.size, 10))
	q.w.WriteHeader(http.StatusOK)
	_, err := io.Copy(q.w, archive.reader())
	return err
}

// fetchArchive reads an archive from the container's host.
func (q *request) fetchArchive(archive *spool) error {
	session, err := q.openArchive(structs.SessionArchiveGet)
	if err != nil {
		return err
	}
	defer session.Close()
	for {
		channel, payload, err := session.Read(q.r.Context())
		if err != nil {
			return err
		}
		switch channel {
		case structs.ChannelStdout:
			if _, err := archive.Write(payload); err != nil {
				return err
			}
		case structs.ChannelControl:
			m, err := control(payload)
			if err != nil || m.Done {
				return err
			}
		}
	}
}

// putArchive unpacks the request's body in a directory of a container.
func putArchive(q *request) error {
	if q.r.ContentLength > structs.MaxArchive {
		q.w.Header().Set("Connection", "close") // what follows is not read
		return errArchiveTooLarge()
	}
	var archive spool
	defer archive.Close()
	if err := archive.fill(q.r.Body); err != nil {
		q.w.Header().Set("Connection", "close")
		return err
	}
	if err := q.sendArchive(&archive); err != nil {
		return err
	}
	return q.null()
}

// fill reads r to its end. CodeTooLarge, CodeInvalid if it breaks off.
func (s *spool) fill(r io.Reader) error {
	_, err := io.Copy(s, io.LimitReader(r, structs.MaxArchive+1))
	var known *structs.Error
	if err != nil && !errors.As(err, &known) {
		return structs.Errorf(structs.CodeInvalid, "The request's body could not be read to its end: %w", err)
	}
	return err
}

// archiveChunk is how much of an archive one message carries.
const archiveChunk = 16 << 10

// sendArchive hands an archive to the container's host and waits until it is
// unpacked.
func (q *request) sendArchive(archive *spool) error {
	session, err := q.openArchive(structs.SessionArchivePut)
	if err != nil {
		return err
	}
	defer session.Close()
	ctx := q.r.Context()
	ended := make(chan error, 1)
	go func() { ended <- awaitDone(q, session) }()

	chunk, from := make([]byte, archiveChunk), archive.reader()
	for {
		n, err := from.Read(chunk)
		if n > 0 && session.Write(ctx, structs.ChannelStdin, chunk[:n]) != nil {
			break // what ended the agent's side is its last message
		}
		if err == io.EOF {
			_ = session.Write(ctx, structs.ChannelControl, []byte(`{"eof":true}`)) // likewise
			break
		}
		if err != nil {
			session.Close() // wakes the reader
			<-ended
			return err
		}
	}
	return <-ended
}

// awaitDone reads a session to its end.
func awaitDone(q *request, session *dispatch.Session) error {
	var out output
	return out.read(q.r.Context(), session)
}
