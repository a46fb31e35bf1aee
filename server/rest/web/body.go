package web

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// The deadlines of a request's body. They are set on the connection, so that a client
// that sends nothing holds no goroutine and no memory for longer, with or without a
// credential.
const (
	bodyTime      = 30 * time.Second // from the request's headers to the end of its body; default of Config.BodyTime
	uploadSilence = 2 * time.Minute  // between two reads of a streamed body
	lingerTime    = time.Second      // for the rest of a body that is not needed
)

// incoming is the body of a request with its deadline. net/http removes the deadline at
// the end of the body, because it then reads from the connection to notice when the
// client leaves.
type incoming struct {
	io.ReadCloser
	q     *Request
	idle  time.Duration // deadline of each read; 0 means one deadline for the whole body
	ended bool          // the body was read to its end, has failed, or is not needed
	whole bool          // the body was read to its end
}

// limitBodyTime sets the deadline of the request's body.
func (q *Request) limitBodyTime() {
	if q.R.ContentLength == 0 {
		return
	}
	q.incoming = &incoming{ReadCloser: q.R.Body, q: q}
	r := *q.R // a copy: net/http looks at its own request's body when it closes a connection
	r.Body = q.incoming
	q.R = &r
	q.incoming.setDeadline(q.server.config.BodyTime)
}

// setDeadline sets the deadline of the connection's reads to d from now.
func (in *incoming) setDeadline(d time.Duration) {
	_ = http.NewResponseController(in.q.W).SetReadDeadline(time.Now().Add(d)) // the writer of a test has no deadlines
}

// Read reads from the body and, if it is streamed, sets the next deadline.
func (in *incoming) Read(p []byte) (int, error) {
	if in.idle > 0 && !in.ended {
		in.setDeadline(in.idle)
		// watchToken cancels the context before it sets its own deadline: either the
		// canceled context is seen here, or its deadline comes last.
		if err := in.q.R.Context().Err(); err != nil {
			return 0, err
		}
	}
	n, err := in.ReadCloser.Read(p)
	in.ended, in.whole = in.ended || err != nil, in.whole || err == io.EOF
	return n, err
}

// discardBody gives the rest of a body that is not needed a short deadline. net/http
// reads the rest before and after the response, so that it can keep the connection.
func (q *Request) discardBody() {
	if q.incoming != nil && !q.incoming.ended {
		q.incoming.ended = true
		q.incoming.setDeadline(lingerTime)
	}
}

// takesBody reports whether requests for the route have a body.
func (rt *Route) takesBody() bool { return rt.Takes != nil || rt.TakesMedia != "" }

// checkBody refuses a body if the route takes none, and a body of a wrong type. It reads
// only as many bytes as that needs. Errors: CodeInvalid, CodeMedia.
func (q *Request) checkBody() error {
	if q.R.ContentLength == 0 || q.route.Method == "" {
		return nil
	}
	if q.route.Streams {
		q.incoming.idle = uploadSilence
	}
	if q.route.takesBody() || q.route.takesArguments() {
		return q.checkMedia()
	}
	// An empty object does no harm, and some libraries send one.
	begin := make([]byte, len(" {} null\r\n"))
	n, err := io.ReadFull(q.R.Body, begin)
	if text := string(bytes.TrimSpace(begin[:n])); (err == io.EOF || err == io.ErrUnexpectedEOF && q.incoming.whole) &&
		(text == "" || text == "{}" || text == "null") {
		return nil
	}
	return structs.Errorf(structs.CodeInvalid, "The request has a body, and %s %s takes none%s.", q.route.Method, q.route.FullPath(),
		q.route.hasArguments())
}

// hasArguments returns advice for a client that sent arguments in a body, "" if the
// route has no arguments.
func (rt *Route) hasArguments() string {
	var names []string
	for _, a := range rt.Args {
		names = append(names, a.Name)
	}
	if names == nil {
		return ""
	}
	return ": its arguments belong in the query (" + strings.Join(names, ", ") + ")"
}

// checkMedia refuses a body of another type than the route takes. A page of any site
// can make a browser send forms and plain text without a preflight request, so they are
// refused even if their content would be valid. A body without a type is accepted, but
// not from a browser. CodeMedia.
func (q *Request) checkMedia() error {
	said := q.R.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(said)
	switch {
	case said == "" && q.R.Header.Get("Origin") == "" && q.R.Header.Get("Sec-Fetch-Site") == "":
		return nil
	case said == "":
		said = "unknown"
	case err != nil:
	case q.route.TakesMedia == "" && (media == "application/json" ||
		strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")):
		return nil
	case q.route.TakesMedia != "" && strings.HasPrefix(media, "application/") && media != "application/json" &&
		media != "application/x-www-form-urlencoded":
		return nil // application/octet-stream, and other types that people use for tar
	}
	want := q.route.TakesMedia
	if want == "" {
		want = "application/json"
	}
	return structs.Errorf(structs.CodeMedia, "The request's body is of type %.64q, and %s is wanted: "+
		"send the header \"Content-Type: %s\" with it (curl: -H 'Content-Type: %s').", said, want, want, want)
}

// takesArguments reports whether the route's arguments may be in a body.
func (rt *Route) takesArguments() bool {
	return rt.Dialect != nil && rt.Dialect.Arguments && !rt.takesBody() && rt.Method != http.MethodGet
}

// bodyArguments adds the arguments in the request's body to given, those of the query.
func (q *Request) bodyArguments(given url.Values) error {
	raw, err := q.Body()
	if err != nil {
		return err
	}
	return wire.ReadArguments(raw, q.route.Args, given)
}

// moveArgumentsToQuery replaces the request's query by values, which include the
// arguments of its body. A leader to which the request is forwarded may be of a version
// that reads no arguments from a body.
func (q *Request) moveArgumentsToQuery(values url.Values) {
	u := *q.R.URL
	u.RawQuery = values.Encode()
	r := *q.R
	r.URL = &u
	q.R, q.raw = &r, nil
}

// bodyLimit returns how many bytes a body may have that is not streamed.
func (rt *Route) bodyLimit() int64 {
	switch {
	case rt.MaxBody != 0:
		return rt.MaxBody
	case rt.Action == identity.Public:
		return structs.MaxRegistration
	}
	return structs.MaxBody
}

// errTooLarge refuses a body of more bytes than most. No manifest needs so many: one that has
// them is refused as one that has more than a manifest may.
func (rt *Route) errTooLarge(most int64) error {
	if rt.Manifest {
		return structs.Errorf(structs.CodeInvalid, "manifest: is more than %d bytes: the request's body is larger than %d",
			structs.MaxManifest, most)
	}
	return structs.Errorf(structs.CodeTooLarge, "The request's body is larger than %s bytes.", strconv.FormatInt(most, 10))
}

// CloseOnError has the connection closed after the response if err is not nil, because
// the rest of the body isn't read. It returns err.
func (q *Request) CloseOnError(err error) error {
	if err != nil {
		q.W.Header().Set("Connection", "close")
	}
	return err
}
