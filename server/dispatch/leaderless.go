package dispatch

import "sync"

// leaderless is whether this server has been without a leader for so long that the
// agents shall ask another.
type leaderless struct {
	mu     sync.Mutex    // guards what follows
	is     bool          // closed is closed
	closed chan struct{} // closed while there is no leader
}

func newLeaderless() *leaderless { return &leaderless{closed: make(chan struct{})} }

// set says whether it is so: parked polls are answered at once, and so are those that
// come.
func (l *leaderless) set(is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case is && !l.is:
		close(l.closed)
	case !is && l.is:
		l.closed = make(chan struct{})
	}
	l.is = is
}

// begun returns a channel that is closed while it is so.
func (l *leaderless) begun() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
