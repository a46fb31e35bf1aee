package service

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/structs"
)

// Sessions opens sessions with the hosts of containers, for logs, commands and
// processes. The caller closes a session that it gets.
type Sessions struct {
	s         *Service
	kind      string // structs.KindContainer, or structs.KindPod for containers of pods
	container string // of a pod; "" means the default one
}

// Sessions returns the operations on containers that need a session.
func (s *Service) Sessions() Sessions { return Sessions{s: s, kind: structs.KindContainer} }

// OfPod returns the same operations on a container of a pod. Their ident is the pod's.
// container "" means the pod's default container.
func (n Sessions) OfPod(container string) Sessions {
	return Sessions{s: n.s, kind: structs.KindPod, container: container}
}

// Offer is a session to offer to a host.
type Offer struct {
	HostID  string
	Session structs.SessionOffer
}

// Open opens a session. Errors are those of the dispatcher.
func (n Sessions) Open(ctx context.Context, o Offer) (*dispatch.Session, error) {
	return n.s.config.Dispatch.Open(ctx, o.HostID, o.Session)
}

// offerOf returns an offer about a container.
func offerOf(t *Target, o structs.SessionOffer) Offer {
	o.About(t.Ref)
	return Offer{t.HostID, o}
}

// Logs opens the logs of a container. Errors are CodeConflict if the container was
// never started, and those of Target and Open.
func (n Sessions) Logs(ctx context.Context, call *Call, ident string, r *structs.LogsRequest) (*dispatch.Session, error) {
	t, err := n.logsTarget(ctx, call, ident, r)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offerOf(t, structs.SessionOffer{Kind: structs.SessionLogs, Logs: r}))
}

// LogsText returns the logs of a container. Errors are CodeTooLarge if the logs are
// longer than MaxOutput, CodeRateLimited or CodeUnavailable if they have too many bytes in
// flight, and those of Logs.
func (n Sessions) LogsText(ctx context.Context, call *Call, ident string, r *structs.LogsRequest) ([]byte, error) {
	session, err := n.Logs(ctx, call, ident, r)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	out := Output{instead: insteadOfLogs, joined: true}
	err = out.read(ctx, session)
	return out.Both, err
}

// ExecOffer returns the offer of a command for a running container. Errors are those
// of Target.
func (n Sessions) ExecOffer(ctx context.Context, call *Call, ident string, r *structs.ExecRequest) (Offer, error) {
	t, err := n.execTarget(ctx, call, ident)
	if err != nil {
		return Offer{}, err
	}
	return offerOf(t, structs.SessionOffer{Kind: structs.SessionExec, Exec: r}), nil
}

// OpenExec opens the session of a command. Errors are those of Target and Open.
func (n Sessions) OpenExec(ctx context.Context, call *Call, ident string, r *structs.ExecRequest) (*dispatch.Session, error) {
	offer, err := n.ExecOffer(ctx, call, ident, r)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offer)
}

// Execute runs a command to its end. Output beyond MaxOutput is dropped, and the
// command goes on. Errors are those of OpenExec and of the command's host.
func (n Sessions) Execute(ctx context.Context, call *Call, ident string, r *structs.ExecRequest) (*Output, error) {
	session, err := n.OpenExec(ctx, call, ident, r)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	out := &Output{drain: true}
	return out, out.read(ctx, session)
}

// Attach is the request to connect to a container's main process.
type Attach struct {
	Stdin         *bool // send input; nil means true if the container was created with stdin
	Width, Height uint  // of the user's terminal; 0 means unknown
	Unstarted     bool  // also attach to a container that was never started
}

// AttachOffer returns the offer of an attach for a container. Errors are CodeConflict
// if the container has no process to attach to or takes no input, and those of Target.
func (n Sessions) AttachOffer(ctx context.Context, call *Call, ident string, a Attach) (Offer, error) {
	target := n.attachTarget
	if a.Unstarted {
		target = n.unstartedTarget
	}
	t, err := target(ctx, call, ident)
	if err != nil {
		return Offer{}, err
	}
	r := &structs.ExecRequest{TTY: t.TTY, Stdin: t.Stdin, Width: a.Width, Height: a.Height}
	if a.Stdin != nil {
		r.Stdin = *a.Stdin
	}
	if r.Stdin && !t.Stdin {
		return Offer{}, t.errorf(structs.CodeConflict,
			"was created without stdin: attach without it, or create the container again with stdin")
	}
	return offerOf(t, structs.SessionOffer{Kind: structs.SessionAttach, Exec: r, Unstarted: a.Unstarted}), nil
}

// StatsStream opens a stream of a container's resource usage, one document a second.
// Errors are those of Target and Open.
func (n Sessions) StatsStream(ctx context.Context, call *Call, ident string) (*dispatch.Session, error) {
	t, err := n.liveTarget(ctx, call, ident)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offerOf(t, structs.SessionOffer{Kind: structs.SessionStats, Stream: true}))
}

// Stats returns a container and its resource usage. Errors are those of Target and
// Open, and CodeUnavailable for an answer that can't be read.
func (n Sessions) Stats(ctx context.Context, call *Call, ident string) (*Target, structs.StatsBody, error) {
	var stats structs.StatsBody
	t, err := n.liveTarget(ctx, call, ident)
	if err != nil {
		return nil, stats, err
	}
	err = n.document(ctx, offerOf(t, structs.SessionOffer{Kind: structs.SessionStats}), &stats)
	return t, stats, err
}

// Top returns a container's processes. Errors are those of Stats.
func (n Sessions) Top(ctx context.Context, call *Call, ident string, args structs.PS) (structs.TopBody, error) {
	var top structs.TopBody
	t, err := n.liveTarget(ctx, call, ident)
	if err != nil {
		return top, err
	}
	if err := n.document(ctx, offerOf(t, structs.SessionOffer{Kind: structs.SessionTop, Args: args.String()}), &top); err != nil {
		return top, err
	}
	top.Titles, top.Processes = notNil(top.Titles), notNil(top.Processes)
	return top, nil
}

// document opens a session and reads its one document into target.
func (n Sessions) document(ctx context.Context, o Offer, target any) error {
	session, err := n.Open(ctx, o)
	if err != nil {
		return err
	}
	defer session.Close()
	var out Output
	if err := out.read(ctx, session); err != nil {
		return err
	}
	if err := json.Unmarshal(out.Stdout, target); err != nil {
		return ErrDocument(err)
	}
	return nil
}

// ErrDocument returns the error of a document that can't be read. CodeUnavailable.
func ErrDocument(err error) error {
	return structs.Errorf(structs.CodeUnavailable, "the host's agent sent a document that can't be read: %w", err)
}

// notNil returns an empty list for nil, so that JSON shows [] instead of null.
func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Control decodes a control message of a session. The error is the one that the agent
// reports, with its code, or CodeUnavailable for a message that can't be read.
func Control(payload []byte) (structs.Control, error) {
	var m structs.Control
	if err := json.Unmarshal(payload, &m); err != nil {
		return m, structs.Errorf(structs.CodeUnavailable, "the host's agent sent a control message that can't be read: %w", err)
	}
	if m.Error != "" {
		code := m.Code
		if !code.Known() {
			code = structs.CodeInternal
		}
		kind := structs.KindContainer
		if m.Kind == structs.KindPath {
			kind = m.Kind
		}
		return m, structs.Errorf(code, "%s", m.Error).About(kind)
	}
	return m, nil
}

// MaxOutput is how many bytes of output a JSON answer holds. Longer output needs a
// stream.
const MaxOutput = 16 << 20

// Output collects the output of a session.
type Output struct {
	Both     []byte // stdout and stderr in the order in which they came
	Stdout   []byte
	Stderr   []byte
	ExitCode *int // nil if the session reported none

	instead   string // advice in the error for too much output
	drain     bool   // drop output beyond MaxOutput instead of failing
	joined    bool   // collect Both only
	Truncated bool   // output was dropped
}

// insteadOfLogs is the advice for logs that are too long for one answer.
const insteadOfLogs = "ask for a part of it with tail or since, or for a stream of text/plain"

// read reads the session to its end. Errors are CodeTooLarge, those of Control, and
// those of the session.
func (o *Output) read(ctx context.Context, session *dispatch.Session) error {
	for {
		channel, payload, err := session.Read(ctx)
		if err != nil {
			return err
		}
		if room := MaxOutput - len(o.Both); o.drain && channel != structs.ChannelControl && len(payload) > room {
			payload, o.Truncated = payload[:room], true
		}
		switch channel {
		case structs.ChannelStdout, structs.ChannelStderr:
			if err := o.add(ctx, channel, payload); err != nil {
				return err
			}
		case structs.ChannelControl:
			m, err := Control(payload)
			if err != nil {
				return err
			}
			if o.ExitCode = m.ExitCode; m.Done || m.ExitCode != nil {
				return nil
			}
		}
	}
}

// add appends a piece of output. Errors: CodeTooLarge, and those of limits.Use.Grow.
func (o *Output) add(ctx context.Context, channel byte, payload []byte) error {
	if len(o.Both)+len(payload) > MaxOutput {
		return structs.Errorf(structs.CodeTooLarge, "the output is longer than %d bytes%s", MaxOutput,
			strings.TrimSuffix(": "+o.instead, ": "))
	}
	part, copies := &o.Stdout, 2
	if channel == structs.ChannelStderr {
		part = &o.Stderr
	}
	if o.joined {
		part, copies = new([]byte), 1
	}
	if err := limits.FromContext(ctx).Grow(copies * len(payload)); err != nil {
		return err
	}
	if o.Both = append(o.Both, payload...); !o.joined {
		*part = append(*part, payload...)
	}
	return nil
}
