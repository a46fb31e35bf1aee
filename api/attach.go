package api

import (
	"context"
	"net/url"
	"strconv"

	"github.com/stackforge/magnum/structs"
)

// AttachOptions says how to attach.
type AttachOptions struct {
	Streams
	Width, Height uint   // of the terminal in columns and lines; 0 means unknown
	Attached      func() // called once the server has joined the caller to the container's host; may be nil

	// Unstarted joins a container that was never started, too. Start it once
	// Joined is called: from then on all that the process writes comes. Joined
	// may be nil; servers of before version 1 don't call it.
	Unstarted bool
	Joined    func()
}

// Attach joins the caller to the own process of a container that runs. It
// returns the exit code when the process ends, and nil if the session ended
// and the process goes on. Who cancels ctx has detached: the process goes on,
// and the error is ctx's. CodeNotFound, CodeConflict: the container does not
// run, or it was created without stdin and Stdin is set, CodeUnavailable: the
// connection broke.
func (t Containers) Attach(ctx context.Context, ident string, o AttachOptions) (*int, error) {
	path, err := objectPath("containers", ident, "attach", "ws")
	if err != nil {
		return nil, err
	}
	q := url.Values{"stdin": {strconv.FormatBool(o.Stdin != nil)}}
	if o.Unstarted {
		q.Set("unstarted", "true")
	}
	setSize(q, structs.Resize{Width: o.Width, Height: o.Height})
	conn, err := t.c.dial(ctx, path, q, nil)
	if err != nil {
		return nil, err
	}
	if o.Attached != nil {
		o.Attached()
	}
	return t.c.converse(ctx, conn, o.Streams, o.Joined)
}
