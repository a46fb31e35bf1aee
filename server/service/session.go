package service

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/structs"
)

// Sessions speaks to the hosts of containers: logs, commands, processes. A session
// that it returns is the caller's to close.
type Sessions struct{ s *Service }

// Sessions returns what callers ask of sessions.
func (s *Service) Sessions() Sessions { return Sessions{s} }

// Offer is a session that a host is to be offered.
type Offer struct {
	HostID  string
	Session structs.SessionOffer
}

// Open opens a session. Errors are those of the dispatcher.
func (n Sessions) Open(ctx context.Context, o Offer) (*dispatch.Session, error) {
	return n.s.config.Dispatch.Open(ctx, o.HostID, o.Session)
}

// offerOf returns an offer about a container.
func offerOf(c *structs.Container, o structs.SessionOffer) Offer {
	o.ContainerID, o.Epoch = c.ID, c.Epoch
	return Offer{c.HostID, o}
}

// Logs opens the logs of a container. CodeConflict if it has none, and the errors of
// Target and Open.
func (n Sessions) Logs(ctx context.Context, call *Call, ident string, r *structs.LogsRequest) (*dispatch.Session, error) {
	c, err := n.logsTarget(ctx, call, ident)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offerOf(c, structs.SessionOffer{Kind: structs.SessionLogs, Logs: r}))
}

// LogsText returns the logs of a container. CodeTooLarge if they are longer than
// MaxOutput, and the errors of Logs.
func (n Sessions) LogsText(ctx context.Context, call *Call, ident string, r *structs.LogsRequest) (string, error) {
	session, err := n.Logs(ctx, call, ident, r)
	if err != nil {
		return "", err
	}
	defer session.Close()
	out := Output{instead: insteadOfLogs}
	err = out.read(ctx, session)
	return string(out.Both), err
}

// ExecOffer returns what the host of a running container is to be offered for a
// command. The errors of Target.
func (n Sessions) ExecOffer(ctx context.Context, call *Call, ident string, r *structs.ExecRequest) (Offer, error) {
	c, err := n.execTarget(ctx, call, ident)
	if err != nil {
		return Offer{}, err
	}
	return offerOf(c, structs.SessionOffer{Kind: structs.SessionExec, Exec: r}), nil
}

// Exec opens the session of a command. The errors of Target and Open.
func (n Sessions) Exec(ctx context.Context, call *Call, ident string, r *structs.ExecRequest) (*dispatch.Session, error) {
	offer, err := n.ExecOffer(ctx, call, ident, r)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offer)
}

// Execute executes a command to its end. A command that puts out more than an
// answer holds is not ended for that. The errors of Exec and of the command's host.
func (n Sessions) Execute(ctx context.Context, call *Call, ident string, r *structs.ExecRequest) (*Output, error) {
	session, err := n.Exec(ctx, call, ident, r)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	out := &Output{drain: true}
	return out, out.read(ctx, session)
}

// Attach asks to join a container's own process.
type Attach struct {
	Stdin         *bool // give it input; nil means if it was created with stdin
	Width, Height uint  // of the user's terminal; 0 means unknown
	Unstarted     bool  // join also one that was never started
}

// AttachOffer returns what a container's host is to be offered for an attach.
// CodeConflict if there is nothing to join, and the errors of Target.
func (n Sessions) AttachOffer(ctx context.Context, call *Call, ident string, a Attach) (Offer, error) {
	target := n.attachTarget
	if a.Unstarted {
		target = n.unstartedTarget
	}
	c, err := target(ctx, call, ident)
	if err != nil {
		return Offer{}, err
	}
	r := &structs.ExecRequest{TTY: c.Spec.TTY, Stdin: c.Spec.Stdin, Width: a.Width, Height: a.Height}
	if a.Stdin != nil {
		r.Stdin = *a.Stdin
	}
	if r.Stdin && !c.Spec.Stdin {
		return Offer{}, structs.Errorf(structs.CodeConflict,
			"Container %s was created without stdin: attach without it, or create it anew with stdin", ident).About(structs.KindContainer)
	}
	return offerOf(c, structs.SessionOffer{Kind: structs.SessionAttach, Exec: r, Unstarted: a.Unstarted}), nil
}

// StatsStream opens a stream of documents, one a second, of what a container uses.
// The errors of Target and Open.
func (n Sessions) StatsStream(ctx context.Context, call *Call, ident string) (*dispatch.Session, error) {
	c, err := n.liveTarget(ctx, call, ident)
	if err != nil {
		return nil, err
	}
	return n.Open(ctx, offerOf(c, structs.SessionOffer{Kind: structs.SessionStats, Stream: true}))
}

// Stats returns a container and what it uses. The errors of Target and Open, and
// CodeUnavailable for an answer that can't be read.
func (n Sessions) Stats(ctx context.Context, call *Call, ident string) (*structs.Container, structs.StatsBody, error) {
	var stats structs.StatsBody
	c, err := n.liveTarget(ctx, call, ident)
	if err != nil {
		return nil, stats, err
	}
	err = n.document(ctx, offerOf(c, structs.SessionOffer{Kind: structs.SessionStats}), &stats)
	return c, stats, err
}

// Top returns a container's processes. The errors of Stats.
func (n Sessions) Top(ctx context.Context, call *Call, ident string, args structs.PS) (structs.TopBody, error) {
	var top structs.TopBody
	c, err := n.liveTarget(ctx, call, ident)
	if err != nil {
		return top, err
	}
	if err := n.document(ctx, offerOf(c, structs.SessionOffer{Kind: structs.SessionTop, Args: args.String()}), &top); err != nil {
		return top, err
	}
	top.Titles, top.Processes = notNil(top.Titles), notNil(top.Processes)
	return top, nil
}

// document reads the one document that a session is for.
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

// ErrDocument is the error of a document that can't be read. CodeUnavailable.
func ErrDocument(err error) error {
	return structs.Errorf(structs.CodeUnavailable, "the host's agent sent a document that can't be read: %w", err)
}

// notNil returns s as JSON has it: a list, be it empty.
func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Control reads a control message of a session. The error is what the agent says
// went wrong, with its code; CodeUnavailable for what is no message.
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

// MaxOutput is how many bytes of output an answer in JSON holds. What is longer
// is for a stream.
const MaxOutput = 16 << 20

// Output gathers what a session puts out.
type Output struct {
	Both     []byte // as it came
	Stdout   []byte
	Stderr   []byte
	ExitCode *int // nil if it has none

	instead   string // what to ask for where there is too much
	drain     bool   // there is never too much: what is beyond the limit is dropped
	Truncated bool   // some was dropped
}

// insteadOfLogs is what to ask for where logs are too long for one answer.
const insteadOfLogs = "ask for a part of it with tail or since, or for a stream of text/plain"

// read reads the session to its end.
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
		case structs.ChannelStdout:
			o.Stdout = append(o.Stdout, payload...)
		case structs.ChannelStderr:
			o.Stderr = append(o.Stderr, payload...)
		case structs.ChannelControl:
			m, err := Control(payload)
			if err != nil {
				return err
			}
			if o.ExitCode = m.ExitCode; m.Done || m.ExitCode != nil {
				return nil
			}
			continue
		default:
			continue
		}
		if o.Both = append(o.Both, payload...); len(o.Both) > MaxOutput {
			return structs.Errorf(structs.CodeTooLarge, "the output is longer than %d bytes%s", MaxOutput,
				strings.TrimSuffix(": "+o.instead, ": "))
		}
	}
}
