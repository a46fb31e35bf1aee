package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/yamux"
)

// kind says what a stream is for.
type kind byte

const (
	kindTCP    kind = 1
	kindUDP    kind = 2
	kindRetire kind = 3 // the opener takes no new streams on this session
)

// request is what the opener of a stream says first.
type request struct {
	kind   kind
	target Target // zero for kindRetire
}

// encode returns the request's bytes: kind, port, and each ID with its length before it.
func (q request) encode() []byte {
	b := []byte{byte(q.kind)}
	b = binary.BigEndian.AppendUint16(b, uint16(q.target.Port))
	for _, id := range []string{q.target.ServiceID, q.target.PodID} {
		b = append(b, byte(len(id)))
		b = append(b, id...)
	}
	return b
}

// readRequest reads what encode has made.
func readRequest(r io.Reader) (request, error) {
	var fixed [3]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return request{}, err
	}
	q := request{kind: kind(fixed[0])}
	q.target.Port = int(binary.BigEndian.Uint16(fixed[1:]))
	switch q.kind {
	case kindTCP:
		q.target.Protocol = "tcp"
	case kindUDP:
		q.target.Protocol = "udp"
	case kindRetire:
	default:
		return q, fmt.Errorf("unknown kind %d of a stream", q.kind)
	}
	for _, id := range []*string{&q.target.ServiceID, &q.target.PodID} {
		text, err := readShort(r)
		if err != nil {
			return q, err
		}
		*id = text
	}
	return q, nil
}

// readShort reads a string with its length in a byte before it.
func readShort(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// code says how a request was answered.
type code byte

const (
	codeOK          code = 0
	codeRefused     code = 1 // no such endpoint on the host
	codeUnreachable code = 2 // the pod takes no connection
	codeBusy        code = 3 // too many streams
	codeRetired     code = 4 // another session is to be used
)

// The answers of a peer that refuses a stream. The pod has got no data.
var (
	ErrRefused     = errors.New("the host doesn't take streams for this pod")
	ErrUnreachable = errors.New("the pod can't be reached on its host")
	ErrBusy        = errors.New("too many streams")
)

// ErrNoPeer is returned for a host that is no peer.
var ErrNoPeer = errors.New("the host is no peer")

// errRetired and errCut say that another session may serve.
var (
	errRetired = errors.New("the session takes no new streams")
	errCut     = errors.New("the session has ended")
)

// err returns the error of a code; nil for codeOK.
func (c code) err() error {
	switch c {
	case codeOK:
		return nil
	case codeRefused:
		return ErrRefused
	case codeUnreachable:
		return ErrUnreachable
	case codeBusy:
		return ErrBusy
	case codeRetired:
		return errRetired
	}
	return fmt.Errorf("unknown code %d", c)
}

// answer is what the other end says before data flows.
type answer struct {
	code code
	text string // why; at most 255 bytes are sent
}

func (a answer) encode() []byte {
	text := a.text[:min(len(a.text), 255)]
	return append([]byte{byte(a.code), byte(len(text))}, text...)
}

// readAnswer reads what encode has made.
func readAnswer(r io.Reader) (answer, error) {
	var c [1]byte
	if _, err := io.ReadFull(r, c[:]); err != nil {
		return answer{}, err
	}
	text, err := readShort(r)
	return answer{code(c[0]), text}, err
}

// Dial opens a stream to a pod on a peer. It waits for a connection with the peer while one
// may come, and returns when the pod has taken the connection. ErrNoPeer, ErrRefused,
// ErrUnreachable, ErrBusy, ErrClosed, what Reachable says, or ctx's error.
func (r *Relay) Dial(ctx context.Context, hostID string, target Target) (*Conn, error) {
	st, release, err := r.openStream(ctx, hostID, kindTCP, target)
	if err != nil {
		return nil, err
	}
	return newConn(st, release), nil
}

// DialUDP opens a flow of datagrams to a pod on a peer. Errors are those of Dial.
func (r *Relay) DialUDP(ctx context.Context, hostID string, target Target) (*Flow, error) {
	st, release, err := r.openStream(ctx, hostID, kindUDP, target)
	if err != nil {
		return nil, err
	}
	return newFlow(st, r.conf.FlowQueue, release), nil
}

// maxTries bounds the sessions on which one stream is tried.
const maxTries = 5

// openStream opens a stream, on another session if one turns out to have ended, or to lead
// to a process that isn't the peer's any more: the pod has got no data until the answer has
// come.
func (r *Relay) openStream(ctx context.Context, hostID string, kind kind, target Target) (*yamux.Stream, func(), error) {
	if len(target.ServiceID) > 255 || len(target.PodID) > 255 || target.Port < 0 || target.Port > 65535 {
		return nil, nil, fmt.Errorf("no target of a stream: %+v", target)
	}
	d := doubt{}
	for try := 1; ; try++ {
		s, err := r.reserve(ctx, hostID, &d)
		if err != nil {
			return nil, nil, err
		}
		release := func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			s.count(-1, 0)
		}
		st, err := s.open(ctx, request{kind, target})
		if err == nil {
			s.peer.accepted(s, &d)
			return st, release, nil
		}
		if errors.Is(err, errRetired) {
			r.mu.Lock()
			s.retire()
			r.mu.Unlock()
		}
		release()
		again := false
		switch {
		case errors.Is(err, errRetired):
			again = true
		case errors.Is(err, errCut):
			s.cut(errDead) // it isn't found again
			again = true
		case errors.Is(err, ErrRefused), errors.Is(err, ErrUnreachable):
			again = s.peer.refused(ctx, s, &d, err)
		}
		if !again || try == maxTries {
			return nil, nil, err
		}
	}
}

// reserve returns the session for a new stream, which is counted. It waits while a session
// may come.
func (r *Relay) reserve(ctx context.Context, hostID string, d *doubt) (*session, error) {
	for {
		r.mu.Lock()
		p, changed := r.peers[hostID], r.changed
		var s *session
		var err error
		switch {
		case r.closed || r.draining:
			err = ErrClosed
		case p == nil:
			err = ErrNoPeer
		default:
			if s = p.choose(d); s == nil {
				if err = p.err; d.refusal != nil {
					err = d.refusal
				}
			} else if p.out >= r.conf.MaxStreams || r.out >= r.conf.MaxStreamsAll {
				s, err = nil, ErrBusy
			} else {
				s.count(1, 0)
			}
		}
		r.mu.Unlock()
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// open opens a stream and waits for the answer.
func (s *session) open(ctx context.Context, q request) (*yamux.Stream, error) {
	st, err := s.mux.OpenStream()
	if err != nil {
		return nil, errCut
	}
	stop := context.AfterFunc(ctx, func() { _ = st.SetDeadline(past) })
	fail := func(err error) (*yamux.Stream, error) {
		stop()
		_ = st.Close()
		return nil, err
	}
	var got answer
	if _, err = st.Write(q.encode()); err == nil {
		got, err = readAnswer(st)
	}
	switch {
	case ctx.Err() != nil:
		return fail(ctx.Err())
	case err != nil && s.mux.IsClosed():
		return fail(errCut)
	case err != nil:
		return fail(fmt.Errorf("the host has ended the stream: %w", err))
	case got.code != codeOK:
		if slices.Contains([]code{codeRetired, codeBusy}, got.code) {
			return fail(got.code.err())
		}
		return fail(fmt.Errorf("%w: %s", got.code.err(), got.text))
	case !stop():
		return fail(ctx.Err())
	}
	return st, nil
}
