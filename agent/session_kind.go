package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// serveKind serves a session about a container, and returns its last message.
func (s *sessions) serveKind(ctx context.Context, c *channel, in *input, engineID string, offer structs.SessionOffer) (structs.Control,
	error) {
	done := structs.Control{Done: true}
	stdout := c.writer(structs.ChannelStdout)
	switch {
	case offer.Kind == structs.SessionForward && offer.Part == structs.PodInfra && offer.Port > 0 && offer.Port <= math.MaxUint16:
		return done, s.forward(ctx, c, in, engineID, offer)
	case s.consoles == nil:
		return structs.Control{}, errNoConsoles
	case offer.Kind == structs.SessionLogs && offer.Logs != nil:
		return done, s.logs(ctx, engineID, offer, backend.LogStreams{
			Stdout: stdout, Stderr: c.writer(structs.ChannelStderr),
			Again: func(ctx context.Context) bool { return s.again(ctx, offer.Ref()) },
		})
	case offer.Kind == structs.SessionExec && offer.Exec != nil:
		code, err := s.consoles.Exec(ctx, engineID, *offer.Exec, streams(c, in, offer.Exec))
		return structs.Control{ExitCode: &code}, err
	case offer.Kind == structs.SessionAttach && offer.Exec != nil:
		size := structs.Resize{Width: offer.Exec.Width, Height: offer.Exec.Height}
		ends := streams(c, in, offer.Exec)
		ends.Unstarted = offer.Unstarted
		// Servers that don't know the message drop it. The user's leaving ends ctx.
		ends.Attached = func() { _ = c.control(structs.Control{Attached: true}) }
		code, err := s.consoles.Attach(ctx, engineID, size, ends)
		if code == nil {
			return done, err // the user has detached, and the process goes on
		}
		return structs.Control{ExitCode: code}, err
	case offer.Kind == structs.SessionStats:
		return done, s.consoles.Stats(ctx, engineID, offer.Stream, func(b structs.StatsBody) error {
			return writeJSON(stdout, b)
		})
	case offer.Kind == structs.SessionTop:
		top, err := s.consoles.Top(ctx, engineID, offer.Args)
		if err != nil {
			return done, err
		}
		return done, writeJSON(stdout, top)
	case offer.Kind == structs.SessionArchiveGet && offer.Path != "":
		return done, s.consoles.ArchiveGet(ctx, engineID, offer.Path, &capped{w: stdout, left: structs.MaxArchive, over: errArchive})
	case offer.Kind == structs.SessionArchivePut && offer.Path != "":
		return done, s.consoles.ArchivePut(ctx, engineID, offer.Path, &capped{r: in.whole(), left: structs.MaxArchive, over: errArchive})
	}
	return structs.Control{}, errKind(offer.Kind)
}

// logs writes the log of a container. A follow of a container of a pod goes on with the
// next attempt, which has a log of its own.
func (s *sessions) logs(ctx context.Context, engineID string, offer structs.SessionOffer, to backend.LogStreams) error {
	req := *offer.Logs
	for {
		err := s.consoles.Logs(ctx, engineID, req, to)
		goesOn := req.Follow && !req.Previous && offer.Workload == structs.WorkloadPod
		if !goesOn || err != nil && !errors.Is(err, backend.ErrNotFound) { // it may be removed during the follow
			return err
		}
		if engineID = s.next(ctx, offer.Ref(), engineID); engineID == "" {
			return ctx.Err()
		}
		req.Tail, req.Since = -1, ""
	}
}

func errKind(kind structs.SessionKind) error {
	return structs.Errorf(structs.CodeInvalid, "this agent knows no sessions of kind %q, or the offer lacks its request; upgrade it", kind)
}

// streams returns the ends of a session's process.
func streams(c *channel, in *input, req *structs.ExecRequest) backend.ExecStreams {
	s := backend.ExecStreams{Stdout: c.writer(structs.ChannelStdout), Stderr: c.writer(structs.ChannelStderr), Resize: in.resize}
	if req.Stdin {
		s.Stdin = in
	}
	return s
}

// writeJSON writes v as one document.
func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// capped copies an archive and fails beyond left bytes. An archive is never in memory as a
// whole, and its size isn't known before.
type capped struct {
	r    io.Reader
	w    io.Writer
	left int64 // bytes
	over error // the error beyond left
}

var errArchive = structs.Errorf(structs.CodeTooLarge,
	"the archive has more than %d bytes, the most that is copied at a time; copy it in parts", structs.MaxArchive)

func (c *capped) take(n int) error {
	if c.left -= int64(n); c.left < 0 {
		return c.over
	}
	return nil
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if over := c.take(n); over != nil {
		return 0, over
	}
	return n, err
}

func (c *capped) Write(p []byte) (int, error) {
	if err := c.take(len(p)); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
