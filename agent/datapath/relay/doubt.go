package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// This file decides which process is the peer, if several have its key: a host's data
// directory may have been copied while its data path ran, or an agent's data path may have
// outlived it on a host that has another now. Such a process serves what it knew then, and
// refuses what is newer.

// proof is what a host knows of the processes of a peer. It is guarded by relay.mu.
type proof struct {
	home  generation   // of the process that answered last at the registered address; zero if that is unknown
	stale []generation // of processes that new streams avoid, the latest last
	moved bool         // the registered address has changed, and wasn't dialled since

	probing chan struct{} // closed when the dial that is under way has ended; nil if there is none
	pause   time.Duration // after the last dial that told nothing new
	after   time.Time     // no dial before that
}

// maxStale bounds the processes of a peer that are known as stale.
const maxStale = 8

// maxMoved bounds the dials of an address that has changed, while there is a session.
const maxMoved = 10

func (f *proof) isStale(g generation) bool { return slices.Contains(f.stale, g) }

// setStale notes whether new streams avoid a process.
func (f *proof) setStale(g generation, stale bool) {
	f.stale = slices.DeleteFunc(f.stale, func(o generation) bool { return o == g })
	if stale {
		f.stale = append(f.stale, g)
		f.stale = f.stale[max(0, len(f.stale)-maxStale):]
	}
}

// move forgets what is known, because the peer has another address. dialled says that there
// is one.
func (f *proof) move(dialled bool) {
	f.home, f.stale, f.moved, f.pause, f.after = generation{}, nil, dialled, 0, time.Time{}
}

// registered notes which process has answered at an address. New streams avoid the others.
// relay.mu is held.
func (p *peer) registered(addr string, g generation) {
	if p.addr != addr {
		return
	}
	if p.proof.home != g {
		p.proof.pause, p.proof.after = 0, time.Time{}
	}
	p.proof.home, p.proof.moved = g, false
	for _, s := range p.sessions {
		if s.generation != g {
			p.proof.setStale(s.generation, true)
		}
	}
	p.proof.setStale(g, false)
	p.err = nil
	p.relay.notify()
}

// look dials the registered address to learn which process answers there. A session with it
// that there is already stays.
func (p *peer) look(addr string) error {
	return p.dialUnless(addr, func(g generation) bool {
		p.relay.mu.Lock()
		defer p.relay.mu.Unlock()
		return p.newest(func(s *session) bool { return s.generation == g }) != nil
	})
}

// dialMoved dials the new address of a peer that there is a session with. It returns whether
// that is over.
func (p *peer) dialMoved(addr string, tries int) bool {
	r := p.relay
	err := p.look(addr)
	if err == nil || p.ctx.Err() != nil {
		return true
	}
	r.conf.Log.Debug("relay can't dial the new address of a host", "host_id", p.host, "addr", addr, "error", err)
	if tries+1 >= maxMoved {
		r.mu.Lock()
		defer r.mu.Unlock()
		if p.addr == addr {
			p.proof.moved = false
		}
		return true
	}
	limit := min(r.conf.MinBackoff<<min(tries, 20), r.conf.MaxBackoff)
	p.await(rand.N(limit)+time.Millisecond, func() bool { return p.current() == nil || p.addr != addr || r.draining })
	return false
}

// doubt is what one stream has met so far.
type doubt struct {
	avoid   []generation // processes that have refused it
	refusal error        // the last one
	probed  bool         // the registered address was dialled for it
}

// choose returns the session for a stream: the newest one, not with a process that has
// refused it, or is stale. Stale processes are better than none if the peer can't be
// dialled. relay.mu is held.
func (p *peer) choose(d *doubt) *session {
	untried := func(s *session) bool { return !slices.Contains(d.avoid, s.generation) }
	s := p.newest(func(s *session) bool { return untried(s) && !p.proof.isStale(s.generation) })
	if s == nil && (p.err != nil || d.refusal != nil) {
		s = p.newest(untried)
	}
	return s
}

// refused is called when a process of the peer has refused a stream, which may be because
// it isn't the peer's any more. It returns whether the stream is worth another try.
func (p *peer) refused(ctx context.Context, s *session, d *doubt, err error) bool {
	r, g := p.relay, s.generation
	r.mu.Lock()
	defer r.mu.Unlock()
	d.refusal = err
	home := p.proof.home
	if home == g && errors.Is(err, ErrUnreachable) {
		return false // the pod's own fault
	}
	if home != g {
		d.avoid = append(d.avoid, g)
		if home != (generation{}) && p.newest(func(s *session) bool { return s.generation == home }) != nil {
			p.proof.setStale(g, true)
			return p.choose(d) != nil
		}
	}
	if d.probed {
		return p.choose(d) != nil && home != g
	}
	d.probed = true
	probing := p.probe()
	if home != g && p.choose(d) != nil {
		return true // the other process may know, whatever the dial shows
	}
	if probing == nil {
		return false
	}
	r.mu.Unlock()
	select {
	case <-probing:
	case <-ctx.Done():
	}
	r.mu.Lock()
	if ctx.Err() != nil {
		return false
	}
	if p.proof.home == g && errors.Is(err, ErrRefused) {
		// It is the peer. It may just not have heard of the endpoint.
		d.avoid = slices.DeleteFunc(d.avoid, func(o generation) bool { return o == g })
		return true
	}
	return p.proof.home != g && p.choose(d) != nil
}

// accepted is called when a process of the peer has taken a stream. If nothing else tells
// which process is the peer, those that have refused the stream are not. relay.mu is not held.
func (p *peer) accepted(s *session, d *doubt) {
	r := p.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.proof.home != (generation{}) {
		return
	}
	for _, g := range d.avoid {
		p.proof.setStale(g, true)
	}
	p.proof.setStale(s.generation, false)
}

// probe dials the registered address of the peer, to learn which process answers there. It
// returns a channel that is closed after that; nil if nothing is dialled, because there is
// no address, or the last dial was a moment ago. relay.mu is held.
func (p *peer) probe() <-chan struct{} {
	f, r, addr := &p.proof, p.relay, p.addr
	if f.probing != nil {
		return f.probing
	}
	if addr == "" || r.draining || time.Now().Before(f.after) {
		return nil
	}
	done := make(chan struct{})
	if !r.goroutine(func() {
		err := p.look(addr)
		if err != nil {
			r.conf.Log.Debug("relay can't find out which process is a host's", "host_id", p.host, "addr", addr, "error", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		f.pause = min(max(2*f.pause, r.conf.MinBackoff), r.conf.MaxBackoff)
		f.after = time.Now().Add(f.pause)
		f.probing = nil
		close(done)
	}) {
		return nil
	}
	f.probing = done
	return done
}
