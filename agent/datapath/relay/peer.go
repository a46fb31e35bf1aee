package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// peer is another host of the bay.
type peer struct {
	relay  *Relay
	host   string
	key    string // pin
	ctx    context.Context
	cancel context.CancelFunc

	// Guarded by relay.mu.
	addr     string     // "" if the host can't be dialled
	sessions []*session // in the order in which they began
	err      error      // why the peer can't be reached; nil if that isn't known
	in, out  int        // streams
	proof    proof
}

// maxSessions bounds the sessions with one peer: those of two processes on each side, and
// those that end.
const maxSessions = 16

// current returns the session that new streams use: the newest one with a process that
// isn't stale. nil if there is none. relay.mu is held.
func (p *peer) current() *session {
	return p.newest(func(s *session) bool { return !p.proof.isStale(s.generation) })
}

// newest returns the newest session that takes streams and that is wanted; nil if there is
// none. relay.mu is held.
func (p *peer) newest(wanted func(*session) bool) *session {
	for _, s := range slices.Backward(p.sessions) {
		if !s.retired && wanted(s) {
			return s
		}
	}
	return nil
}

// keep dials the peer whenever there is no session with it, until it is no peer any more.
func (p *peer) keep() {
	r := p.relay
	tries := 0
	r.mu.Lock()
	late := p.host < r.conf.HostID && r.served > 0 && p.addr != ""
	r.mu.Unlock()
	if late {
		// Both dial as soon as they know each other. The one that waits is usually dialled.
		p.await(r.conf.DialDelay, func() bool { return p.current() != nil })
	}
	for p.ctx.Err() == nil {
		r.mu.Lock()
		connected, addr, served, stop := p.current() != nil, p.addr, r.served > 0, r.draining
		moved := p.proof.moved
		r.mu.Unlock()
		switch {
		case stop:
			return
		case connected && moved:
			if p.dialMoved(addr, tries) {
				tries = 0
			} else {
				tries++
			}
		case connected:
			began := time.Now()
			p.await(0, func() bool { return p.current() == nil || p.proof.moved || r.draining })
			if time.Since(began) > r.conf.MaxBackoff {
				tries = 0
			}
		case addr == "":
			p.awaitDial(served)
		default:
			err := p.dial(addr)
			if err == nil || p.ctx.Err() != nil {
				continue
			}
			r.conf.Log.Debug("relay can't dial a host", "host_id", p.host, "addr", addr, "error", err)
			p.fail(fmt.Errorf("dialling %s: %w", addr, err))
			limit := min(r.conf.MinBackoff<<min(tries, 20), r.conf.MaxBackoff)
			tries++
			p.await(rand.N(limit)+time.Millisecond, func() bool { return p.current() != nil || p.addr != addr || r.draining })
		}
	}
}

// awaitDial waits for a peer that can't be dialled.
func (p *peer) awaitDial(served bool) {
	r := p.relay
	came := func() bool { return p.current() != nil || p.addr != "" || r.draining || (r.served > 0) != served }
	grace := r.conf.UndialledGrace
	if !served {
		grace = min(grace, r.conf.DialDelay) // Serve may be about to be called
	}
	p.await(grace, came)
	r.mu.Lock()
	still := !came()
	r.mu.Unlock()
	if !still || p.ctx.Err() != nil {
		return
	}
	if served {
		p.fail(errors.New("the host can't be dialled, and has not dialled this host: its agent must reach this host's relay port"))
	} else {
		p.fail(errors.New("neither of the two hosts can be dialled: start the agent of one of them without -relay=false"))
	}
	p.await(0, came)
}

// await waits until a condition holds, which is checked under relay.mu, or the peer is gone,
// at most d; 0 is without limit.
func (p *peer) await(d time.Duration, holds func() bool) {
	ctx := p.ctx
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	for ctx.Err() == nil {
		p.relay.mu.Lock()
		done, changed := holds(), p.relay.changed
		p.relay.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// fail notes why the peer can't be reached.
func (p *peer) fail(err error) {
	p.relay.mu.Lock()
	defer p.relay.mu.Unlock()
	p.err = err
	p.relay.notify()
}

// dial makes a session with the process that answers at the peer's address.
func (p *peer) dial(addr string) error {
	return p.dialUnless(addr, func(generation) bool { return false })
}

// dialUnless is dial, but closes the connection if the session isn't needed.
func (p *peer) dialUnless(addr string, needless func(generation) bool) error {
	r := p.relay
	ctx, cancel := context.WithTimeout(p.ctx, r.conf.HandshakeTime)
	defer cancel()
	conn, hello, err := r.connect(ctx, p, addr)
	if err != nil {
		return err
	}
	if needless(hello.generation) {
		conn.cut()
	} else if err := r.add(p, conn, hello.generation, true); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.registered(addr, hello.generation)
	return nil
}

// add makes a session of a connection whose end has proved to be the peer.
func (r *Relay) add(p *peer, conn *batchConn, from generation, dialled bool) error {
	s, err := newSession(p, conn, from, dialled)
	if err != nil {
		conn.cut()
		return err
	}
	r.mu.Lock()
	if r.peers[p.host] != p || r.draining || r.closed || len(p.sessions) >= maxSessions {
		draining := r.draining
		r.mu.Unlock()
		s.cut(errLeft)
		switch {
		case draining:
			return ErrClosed
		case p.ctx.Err() != nil:
			return errLeft
		}
		return errors.New("the peer has too many connections")
	}
	p.sessions = append(p.sessions, s)
	if !p.proof.isStale(from) {
		p.err = nil
	}
	loser, keeper := p.pair(s)
	s.start()
	if loser != nil {
		r.goroutine(func() { settle(loser, keeper) })
	}
	r.notify()
	r.mu.Unlock()
	return nil
}

// pair finds another session than s of the same two processes, and says which of the two
// goes: by the hosts' IDs if each side dialled one, so that both sides say the same. If one
// side dialled both, it had given up the older one. relay.mu is held.
func (p *peer) pair(s *session) (loser, keeper *session) {
	for _, o := range p.sessions {
		if o == s || o.generation != s.generation || o.retired {
			continue
		}
		if o.dialled == s.dialled {
			return o, s
		}
		if s.dialled == (p.relay.conf.HostID < p.host) {
			return o, s
		}
		return s, o
	}
	return nil, nil
}

// settle retires a session, once its keeper is seen to be alive: the peer may have dialled
// because the keeper is dead and this host doesn't know it yet, or only to see which process
// answers.
func settle(loser, keeper *session) {
	r := keeper.peer.relay
	if !keeper.alive(r.conf.SilenceTime) {
		keeper.cut(errDead)
		return
	}
	r.mu.Lock()
	loser.retire()
	r.mu.Unlock()
}

// errDead ends a session whose peer is silent.
var errDead = errors.New("the peer is silent")
