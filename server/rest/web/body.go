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

// The times that a request's body has. They are counted by the connection, so that
// a client that sends nothing holds neither a goroutine nor memory for longer,
// whether it has shown a credential or not.
const (
	bodyTime      = 30 * time.Second // from the request's headers to the end of its body; default of Config.BodyTime
	uploadSilence = 2 * time.Minute  // between two pieces of a body that is streamed
	lingerTime    = time.Second      // for the rest of a body that nobody wants any more
)

// incoming is the body of a request. It keeps the deadline of what is left of it.
// net/http lifts the deadline when the body is at its end, for from then on it
// watches the connection for its client's end.
type incoming struct {
	io.ReadCloser
	q     *Request
	idle  time.Duration // for each read; 0 means that the deadline of the whole body holds
	ended bool          // it is whole, broken off, or nobody wants the rest
	whole bool          // at its end
}

// receive bounds the time in which the request's body has to come.
func (q *Request) limitBodyTime() {
	if q.R.ContentLength == 0 {
		return
	}
	q.incoming = &incoming{ReadCloser: q.R.Body, q: q}
	r := *q.R // net/http goes by the body of its own when it ends a connection
	r.Body = q.incoming
	q.R = &r
	q.incoming.deadline(q.server.config.BodyTime)
}

// deadline gives the body so much time from now on.
func (in *incoming) deadline(d time.Duration) {
	_ = http.NewResponseController(in.q.W).SetReadDeadline(time.Now().Add(d)) // a test's writer has none
}

// Read reads on.
func (in *incoming) Read(p []byte) (int, error) {
	if in.idle > 0 && !in.ended {
		in.deadline(in.idle)
		// A guard that cuts the request off ends its context before it moves the
		// deadline: one of the two is seen here.
		if err := in.q.R.Context().Err(); err != nil {
			return 0, err
		}
	}
	n, err := in.ReadCloser.Read(p)
	in.ended, in.whole = in.ended || err != nil, in.whole || err == io.EOF
	return n, err
}

// forget gives the rest of a body that is refused a moment to come. net/http reads
// it before and after the answer, to keep the connection.
func (q *Request) discardBody() {
	if q.incoming != nil && !q.incoming.ended {
		q.incoming.ended = true
		q.incoming.deadline(lingerTime)
	}
}

// takesBody reports whether the route has a use for a body.
func (rt *Route) takesBody() bool { return rt.Takes != nil || rt.TakesMedia != "" }

// checkBody refuses a body where the route takes none, and one of another type.
// It reads no more of it than it takes to see that.
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
	// One that says nothing does no harm, and there are libraries that send such.
	begin := make([]byte, len(" {} null\r\n"))
	n, err := io.ReadFull(q.R.Body, begin)
	if text := string(bytes.TrimSpace(begin[:n])); (err == io.EOF || err == io.ErrUnexpectedEOF && q.incoming.whole) &&
		(text == "" || text == "{}" || text == "null") {
		return nil
	}
	return structs.Errorf(structs.CodeInvalid, "The request has a body, and %s %s takes none%s.", q.route.Method, q.route.FullPath(),
		q.route.hasArguments())
}

// hasArguments says where what the body may have said belongs.
func (rt *Route) hasArguments() string {
	var names []string
	for _, a := range rt.Args {
		names = append(names, a.Name)
	}
	if names == nil {
		return ""
	}
	return ": its arguments belong into the query (" + strings.Join(names, ", ") + ")"
}

// checkMedia refuses a body of another type than the route takes. A page of any
// site can have a browser send forms and plain text without asking first, so that
// they are refused even where their content would do. A body that doesn't say what
// it is is taken for what the route takes, but from no browser.
func (q *Request) checkMedia() error {
	said := q.R.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(said)
	switch {
	case said == "" && q.R.Header.Get("Origin") == "" && q.R.Header.Get("Sec-Fetch-Site") == "":
		return nil
	case said == "":
		said = "unknown"
	case err != nil:
	case q.route.TakesMedia == "" && (media == "application/json" || strings.HasPrefix(media, "application/") &&
		strings.HasSuffix(media, "+json")):
		return nil
	case q.route.TakesMedia != "" && strings.HasPrefix(media, "application/") && media != "application/json" &&
		media != "application/x-www-form-urlencoded":
		return nil // application/octet-stream, and what else people call a tar
	}
	want := q.route.TakesMedia
	if want == "" {
		want = "application/json"
	}
	return structs.Errorf(structs.CodeMedia, "The request's body is of type %.64q, and %s is wanted: send the header \"Content-Type: %s\" with it (curl: -H 'Content-Type: %s').", said, want, want, want)
}

// takesArguments reports whether the arguments of the route may stand in a body.
func (rt *Route) takesArguments() bool {
	return rt.Dialect != nil && rt.Dialect.Arguments && !rt.takesBody() && rt.Method != http.MethodGet
}

// bodyArguments adds the arguments in the request's body to those of the query.
func (q *Request) bodyArguments(given url.Values) error {
	raw, err := q.Body()
	if err != nil {
		return err
	}
	return wire.ReadArguments(raw, q.route.Args, given)
}

// intoQuery has the request say in its query what it has said in its body: a leader
// to which it is handed on may be of a version that looks at no such body.
func (q *Request) moveArgumentsToQuery(values url.Values) {
	u := *q.R.URL
	u.RawQuery = values.Encode()
	r := *q.R
	r.URL = &u
	q.R, q.raw = &r, nil
}

// mostBody is how many bytes a body may have that is read as a whole.
func (rt *Route) bodyLimit() int64 {
	switch {
	case rt.MaxBody != 0:
		return rt.MaxBody
	case rt.Action == identity.Public:
		return structs.MaxRegistration
	}
	return structs.MaxBody
}

func errTooLarge(most int64) error {
	return structs.Errorf(structs.CodeTooLarge, "The request's body is larger than %s bytes.", strconv.FormatInt(most, 10))
}

// Unread says that the connection ends if a part of the body may be left: it
// isn't read any more.
func (q *Request) CloseOnError(err error) error {
	if err != nil {
		q.W.Header().Set("Connection", "close")
	}
	return err
}
