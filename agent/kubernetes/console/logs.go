package console

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/pause"
	"github.com/stackforge/magnum/structs"
)

const (
	// lookPause is the pause between two looks at a container that is to run again.
	lookPause = 500 * time.Millisecond
	// awayLimit is how long a follow waits for an API server that doesn't answer.
	awayLimit = time.Minute
)

// Logs writes the log of a container. The cluster keeps both outputs of a process in one log:
// all goes to Stdout. A follow goes on with the next process of the container, and where it
// was if the connection breaks.
func (cs *Consoles) Logs(ctx context.Context, engineID string, req structs.LogsRequest, to backend.LogStreams) error {
	t, err := parseID(engineID)
	if err != nil {
		return err
	}
	if !req.Stdout {
		return &backend.Failure{Reason: backend.ErrInvalid,
			Msg: "a Kubernetes cluster keeps standard output and standard error in one log: ask for both, or for standard output"}
	}
	since, err := sinceTime(req.Since, time.Now())
	if err != nil {
		return err
	}
	l := &logReader{cs: cs, target: t, req: req, since: since, to: to.Stdout}
	return l.run(ctx)
}

// sinceTime returns the time that a request means; zero for none.
func sinceTime(since string, now time.Time) (time.Time, error) {
	if since == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, since); err == nil {
		return at, nil
	}
	if d, err := time.ParseDuration(since); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, &backend.Failure{Reason: backend.ErrInvalid,
		Msg: "since " + strconv.Quote(since) + " is neither a time nor a duration"}
}

// logReader reads one log.
type logReader struct {
	cs     *Consoles
	target target
	req    structs.LogsRequest
	since  time.Time // lines before aren't wanted; zero for none
	to     io.Writer

	last   time.Time // of the last line that was written
	equal  int       // lines that were written with that time
	failed error     // of to
}

// run reads until the log ends; with Follow, until the container has ended for good.
func (l *logReader) run(ctx context.Context) error {
	var away time.Time // when the API server stopped to answer; zero while it answers
	for first := true; ; first = false {
		c, err := l.look(ctx)
		if err == nil && first && l.req.Follow && c.over() {
			l.req.Follow = false // the node would follow a log to which nothing is added
		}
		if err == nil {
			began := c.restarts()
			if err = l.read(ctx); err == nil && l.req.Follow {
				away = time.Time{}
				err = l.next(ctx, began)
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case l.failed != nil:
			return l.failed
		case errors.Is(err, errOver), !l.req.Follow && err == nil, !first && errors.Is(err, backend.ErrNotFound):
			return nil
		case err == nil:
			continue
		case first || !errors.Is(err, backend.ErrAway):
			return err
		}
		if away.IsZero() {
			away = time.Now()
		}
		if time.Since(away) > awayLimit {
			return err
		}
		if pause.For(ctx, lookPause) != nil {
			return ctx.Err()
		}
	}
}

// look returns the container.
func (l *logReader) look(ctx context.Context) (container, error) {
	pod, err := l.cs.look(ctx, l.target)
	if err != nil {
		return container{}, err
	}
	return find(pod, l.target.container)
}

// errOver says that a container has ended for good.
var errOver = errors.New("the container has ended")

// next waits until there is more to read after the end of a log that was followed. began is
// the number of restarts before the process whose log it was. errOver if there won't be any.
func (l *logReader) next(ctx context.Context, began int32) error {
	for {
		c, err := l.look(ctx)
		switch {
		case err != nil:
			return err
		case c.restarts() > began && (c.running() || c.exit(false) != nil):
			// Another process, with a log of its own.
			l.req.Tail, l.since, l.last, l.equal = -1, time.Time{}, time.Time{}, 0
			return nil
		case c.over():
			return errOver
		case c.running():
			l.req.Tail = -1
			return pause.For(ctx, lookPause) // the connection has broken, or the cluster doesn't know yet that it has ended
		}
		if err := pause.For(ctx, lookPause); err != nil {
			return err
		}
	}
}

// read reads the log until it ends, or the connection breaks.
func (l *logReader) read(ctx context.Context) error {
	query := url.Values{"container": {l.target.container}, "timestamps": {"true"}}
	if l.req.Follow {
		query.Set("follow", "true")
	}
	if l.req.Previous {
		query.Set("previous", "true")
	}
	if l.req.Tail >= 0 {
		query.Set("tailLines", strconv.Itoa(l.req.Tail))
	}
	since := l.since
	if !l.last.IsZero() {
		since = l.last
	}
	if !since.IsZero() {
		query.Set("sinceTime", since.Truncate(time.Second).UTC().Format(time.RFC3339)) // the API knows whole seconds only
	}
	body, err := l.cs.open(ctx, l.cs.url(l.target, "log", query))
	if err != nil {
		return failure(err)
	}
	defer body.Close()
	if err := l.copy(body, since); err != nil {
		return failure(err)
	}
	return nil
}

// copy writes the lines of a log, from the time since on, that were not written before.
func (l *logReader) copy(body io.Reader, since time.Time) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	last, equal, again := l.last, l.equal, l.equal
	defer func() { l.last, l.equal = last, equal }()
	skipping, midLine := false, false
	for {
		chunk, err := lines.ReadSlice('\n') // a line may come in several chunks
		if len(chunk) > 0 {
			text := chunk
			if !midLine {
				at, rest, stamped := cutStamp(chunk)
				skipping = stamped && at.Before(since)
				switch {
				case skipping || !stamped:
				case !at.Equal(last):
					last, equal, again = at, 1, 0
				case again > 0:
					again--
					skipping = true
				default:
					equal++
				}
				if stamped && !l.req.Timestamps {
					text = rest
				}
			}
			midLine = !bytes.HasSuffix(chunk, []byte("\n"))
			if !skipping {
				if _, err := l.to.Write(text); err != nil {
					l.failed = err
					return err
				}
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && l.req.Follow:
			return nil
		case err != nil:
			return err
		}
	}
}

// cutStamp cuts the time off the beginning of a line.
func cutStamp(line []byte) (at time.Time, rest []byte, ok bool) {
	stamp, rest, found := bytes.Cut(line, []byte(" "))
	if !found {
		return time.Time{}, line, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, line, false
	}
	return at, rest, true
}
