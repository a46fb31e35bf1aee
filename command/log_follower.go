package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// printLogs prints the logs that open opens, to their end. Logs that are followed go on when the
// token of a login ends: they are opened again, with another token, behind the last line.
func printLogs(
	ctx context.Context, client *api.Client, w io.Writer, o structs.LogsRequest, open func(structs.LogsRequest) (io.ReadCloser, error),
) error {
	f := &logFollower{w: w, stamps: o.Timestamps}
	resumes := o.Follow && client.SignsIn()
	if resumes {
		o.Timestamps = true // they say where to go on
	}
	for idle := false; ; {
		logs, err := open(o)
		if err != nil {
			return err
		}
		if !resumes {
			_, err = io.Copy(w, logs)
		} else if _, err = io.Copy(f, logs); err == nil {
			err = f.end()
		}
		logs.Close()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			return nil
		case errors.Is(err, api.ErrTokenEnded) && resumes && (f.printed || !idle):
			idle = !f.printed
			o = f.resume(o)
		case errors.Is(err, api.ErrTokenEnded):
			return fmt.Errorf("the logs broke off: %w. Sign in again, and read the rest with -since", err)
		default:
			return fmt.Errorf("the logs broke off: %w. Either the connection broke, or the log was rotated faster than it was read. "+
				"Read the rest with -since", err)
		}
	}
}

// maxStamp is more than the length of a time at the beginning of a line, with the space after it.
const maxStamp = 48

// logFollower prints logs whose lines begin with their times, and knows where to go on after the
// stream has broken off. Text is printed as it comes, also before its line is complete.
type logFollower struct {
	w      io.Writer
	stamps bool // print the times

	midLine bool   // what comes next belongs to a line whose time is known
	stamp   []byte // what came of the next line's time
	skip    int    // bytes of the line that were printed before

	last    time.Time // time of the last line
	equal   int       // how many lines of that time were printed, the last one maybe in part
	partial int       // bytes of the last line that were printed
	again   int       // lines of that time that are still to come again
	cut     int       // bytes of the last of these that were printed before; -1 means all
	hidden  bool      // the line was printed before
	printed bool      // something new was printed since resume
}

// resume returns the request for what comes behind the last line.
func (f *logFollower) resume(o structs.LogsRequest) structs.LogsRequest {
	if f.again == 0 { // else the last line did not come again
		if f.cut = -1; f.midLine && !f.hidden {
			f.cut = f.partial
		}
	}
	f.again = f.equal
	f.midLine, f.stamp, f.hidden, f.skip, f.printed = false, nil, false, 0, false
	if !f.last.IsZero() {
		o.Since, o.Tail = f.last.UTC().Format(time.RFC3339Nano), -1
	}
	return o
}

// Write prints a piece of the stream.
func (f *logFollower) Write(p []byte) (int, error) {
	var out []byte
	for rest := p; len(rest) > 0; {
		if !f.midLine {
			rest = f.begin(rest, &out)
			continue
		}
		text := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			text = rest[:i+1]
		}
		rest = rest[len(text):]
		f.text(text, &out)
	}
	if len(out) > 0 {
		f.printed = true
		if _, err := f.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// begin reads the time at the beginning of a line, and returns what follows.
func (f *logFollower) begin(p []byte, out *[]byte) []byte {
	i := bytes.IndexAny(p, " \n")
	if i < 0 && len(f.stamp)+len(p) < maxStamp {
		f.stamp = append(f.stamp, p...)
		return nil
	}
	n := min(len(p), maxStamp) // no time is that long
	if i >= 0 {
		n = i + 1
	}
	word := append(f.stamp, p[:n]...)
	f.stamp, f.midLine = nil, true
	at, err := time.Parse(time.RFC3339Nano, string(bytes.TrimSuffix(word, []byte(" "))))
	if err != nil {
		f.hidden = false
		f.text(word, out) // a line without a time
		return p[n:]
	}
	if goesOn := f.place(at); f.stamps && !f.hidden && !goesOn {
		*out = append(*out, word...)
	}
	return p[n:]
}

// place decides whether a line of this time was printed before. goesOn: its time was.
func (f *logFollower) place(at time.Time) (goesOn bool) {
	f.hidden, f.skip = false, 0
	switch {
	case f.again > 0 && at.Before(f.last):
		f.hidden = true
	case !at.Equal(f.last):
		f.last, f.equal, f.partial, f.again = at, 1, 0, 0
	case f.again > 1, f.again == 1 && f.cut < 0:
		f.again--
		f.hidden = true
	case f.again == 1:
		f.again--
		f.skip, f.partial = f.cut, f.cut
		return true
	default:
		f.equal++
		f.partial = 0
	}
	return false
}

// text prints a piece of a line, which may end it.
func (f *logFollower) text(p []byte, out *[]byte) {
	if bytes.HasSuffix(p, []byte("\n")) {
		f.midLine = false
	}
	if f.hidden {
		return
	}
	shown := p[min(f.skip, len(p)):]
	f.skip -= len(p) - len(shown)
	*out = append(*out, shown...)
	f.partial += len(shown)
}

// end prints what came of a line that has no time after all.
func (f *logFollower) end() error {
	_, err := f.w.Write(f.stamp)
	f.stamp = nil
	return err
}
