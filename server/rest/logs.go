package rest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/structs"
)

// containerLogs answers with a container's output: as the JSON of 2015, or as a
// stream of text.
func containerLogs(q *request) error {
	r, session, err := q.openLogs()
	if err != nil {
		return err
	}
	defer session.Close()
	if r.Follow || strings.Contains(q.r.Header.Get("Accept"), "text/plain") {
		return q.stream(session, "text/plain; charset=utf-8", func(payload []byte) ([]byte, error) { return payload, nil })
	}
	body := output{instead: insteadOfLogs}
	if err := body.read(q.r.Context(), session); err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.OutputBody{Output: string(body.both)})
}

// openLogs opens the session of the request for logs. The caller closes it.
func (q *request) openLogs() (*structs.LogsRequest, *dispatch.Session, error) {
	r, err := q.logsRequest()
	if err != nil {
		return nil, nil, err
	}
	c, err := q.logsTarget()
	if err != nil {
		return nil, nil, err
	}
	session, err := q.Dispatch.Open(q.r.Context(), c.HostID, structs.SessionOffer{
		Kind: structs.SessionLogs, ContainerID: c.ID, Epoch: c.Epoch, Logs: r,
	})
	return r, session, err
}

// output gathers what a session puts out.
type output struct {
	both     []byte // as it came
	stdout   []byte
	stderr   []byte
	exitCode *int

	instead   string // what to ask for where there is too much
	drain     bool   // there is never too much: what is beyond the limit is dropped
	truncated bool   // some was dropped
}

// insteadOfLogs is what to ask for where logs are too long for one answer.
const insteadOfLogs = "ask for a part of it with tail or since, or for a stream of text/plain"

// read reads the session to its end.
func (o *output) read(ctx context.Context, session *dispatch.Session) error {
	for {
		channel, payload, err := session.Read(ctx)
		if err != nil {
			return err
		}
		if room := maxOutput - len(o.both); o.drain && channel != structs.ChannelControl && len(payload) > room {
			payload, o.truncated = payload[:room], true
		}
		switch channel {
		case structs.ChannelStdout:
			o.stdout = append(o.stdout, payload...)
		case structs.ChannelStderr:
			o.stderr = append(o.stderr, payload...)
		case structs.ChannelControl:
			m, err := control(payload)
			if err != nil {
				return err
			}
			if o.exitCode = m.ExitCode; m.Done || m.ExitCode != nil {
				return nil
			}
			continue
		default:
			continue
		}
		if o.both = append(o.both, payload...); len(o.both) > maxOutput {
			return structs.Errorf(structs.CodeTooLarge, "the output is longer than %d bytes%s", maxOutput, strings.TrimSuffix(": "+o.instead, ": "))
		}
	}
}

// message is one message of a session.
type message struct {
	channel byte
	payload []byte
	err     error
}

// firstMessage is how long a stream waits for its first message before it
// begins the answer: a failure that comes at once still gets a status.
const firstMessage = 250 * time.Millisecond

// stream writes the session's output as it comes, each message as shown makes
// it.
func (q *request) stream(session *dispatch.Session, media string, shown func(payload []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(q.r.Context())
	messages := make(chan message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m message
			m.channel, m.payload, m.err = session.Read(ctx)
			m.payload = append([]byte(nil), m.payload...) // Read's is its own
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
			if m.err != nil {
				return
			}
		}
	}()
	defer func() { <-done }()
	defer cancel()

	begin := time.NewTimer(firstMessage)
	defer begin.Stop()
	out := http.NewResponseController(q.w)
	start := func() {
		if q.w.status == 0 {
			q.w.Header().Set("Content-Type", media)
			q.w.Header().Set("X-Content-Type-Options", "nosniff")
			q.w.WriteHeader(http.StatusOK)
		}
	}
	for {
		var m message
		select {
		case m = <-messages:
		case <-ctx.Done():
			return structs.Errorf(structs.CodeUnavailable, "the stream was cut short: %w", context.Cause(ctx))
		case <-begin.C:
			start()
			if err := out.Flush(); err != nil {
				return err
			}
			continue
		}
		if m.err != nil {
			return m.err
		}
		if m.channel == structs.ChannelControl {
			last, err := control(m.payload)
			if err != nil {
				return err
			}
			if last.Done || last.ExitCode != nil {
				start()
				return nil
			}
			continue
		}
		text, err := shown(m.payload)
		if err != nil {
			return err
		}
		start()
		if _, err := q.w.Write(text); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
