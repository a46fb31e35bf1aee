package dispatch

import "sync"

// leaderless says whether this server has been without a leader for so long that its agents
// should ask another server.
type leaderless struct {
	mu     sync.Mutex    // guards what follows
	is     bool          // whether the channel is closed
	closed chan struct{} // closed while the server is leaderless
}

func newLeaderless() *leaderless { return &leaderless{closed: make(chan struct{})} }

// set changes the condition. Once it is true, parked polls are answered at once, and so are
// new ones.
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

// C returns a channel that is closed while the server is leaderless.
func (l *leaderless) C() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
