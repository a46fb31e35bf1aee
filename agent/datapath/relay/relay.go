// Package relay carries streams between the hosts of a bay, so that a service reaches its
// pods on every host. The data path runs it: it says who the peers are, asks for streams to
// pods of other hosts, and decides which streams of others are let in. Peers prove who they
// are by pinned keys. The package never chooses a pod, and opens no connection that the data
// path hasn't named. See DESIGN.md.
package relay

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// Target is the port of a pod that a stream leads to.
type Target struct {
	ServiceID string // at most 255 bytes
	PodID     string // at most 255 bytes
	Port      int    // of the service, 0..65535
	Protocol  string // tcp or udp
}

// Config sets a relay up. The zero value of each number and time stands for its default.
type Config struct {
	HostID      string          // of this host
	Certificate tls.Certificate // of Key
	// Accept returns the address of the pod that a stream of a peer leads to, host:port, or
	// an error if the target isn't an endpoint on this host. The peer gets the error's text.
	Accept func(Target) (addr string, err error)
	Log    hclog.Logger // nil logs nothing

	MaxStreams     int           // streams with one peer, in each direction; default 4096
	MaxStreamsAll  int           // with all peers, in each direction; default 16384
	MaxHandshakes  int           // connections that have not proved who they are; default 64, a quarter of it for one address
	HandshakeTime  time.Duration // until a connection is a session, or closed; default 5s
	HeaderTime     time.Duration // for a peer to say what a stream is for; default 5s
	PodTime        time.Duration // for a pod to take a connection; default 3s
	PingInterval   time.Duration // default 2s; see SilenceTime
	SilenceTime    time.Duration // a peer that sends nothing for so long is dead; default 6s
	CloseTime      time.Duration // a stream that was closed waits so long for the peer to take the rest; default 1min
	MinBackoff     time.Duration // limit of the first pause between two dials; default 250ms
	MaxBackoff     time.Duration // limit of all pauses between dials; default 10s
	FlowIdle       time.Duration // UDP: a flow of a peer that carries nothing for so long is closed; default 5min
	FlowQueue      int           // UDP: datagrams that wait to be sent, of each flow; more are dropped; default 64
	DialDelay      time.Duration // how long the host with the greater ID waits to be dialled; default 300ms
	UndialledGrace time.Duration // until a peer that can't be dialled, and hasn't dialled, is out of reach; default 5s
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	for at, value := range map[*int]int{&c.MaxStreams: 4096, &c.MaxStreamsAll: 16384, &c.MaxHandshakes: 64, &c.FlowQueue: 64} {
		if *at == 0 {
			*at = value
		}
	}
	for at, value := range map[*time.Duration]time.Duration{&c.HandshakeTime: 5 * time.Second, &c.HeaderTime: 5 * time.Second,
		&c.PodTime: 3 * time.Second, &c.PingInterval: 2 * time.Second, &c.SilenceTime: 6 * time.Second, &c.CloseTime: time.Minute,
		&c.MinBackoff: 250 * time.Millisecond, &c.MaxBackoff: 10 * time.Second, &c.FlowIdle: 5 * time.Minute,
		&c.DialDelay: 300 * time.Millisecond, &c.UndialledGrace: 5 * time.Second} {
		if *at == 0 {
			*at = value
		}
	}
	return c
}

// Relay is this host's end of all its connections with peers. New makes one.
type Relay struct {
	conf       Config
	generation generation
	ctx        context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup // goroutines; added to under mu, never after closed

	mu         sync.Mutex // guards what follows, and the fields of peers and sessions
	closed     bool
	draining   bool
	served     int // listeners
	peers      map[string]*peer
	open       map[net.Conn]bool // connections in handshake
	handshakes map[string]int    // by remote address
	listeners  map[net.Listener]bool
	in, out    int // streams
	changed    chan struct{}
}

// generation tells two processes of one host apart.
type generation [16]byte

// New returns a relay without peers. It starts nothing: Serve and Set do.
func New(conf Config) *Relay {
	r := &Relay{conf: conf.withDefaults(), peers: make(map[string]*peer), open: make(map[net.Conn]bool),
		handshakes: make(map[string]int), listeners: make(map[net.Listener]bool), changed: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	binary.BigEndian.PutUint64(r.generation[:], uint64(time.Now().UnixNano()))
	_, _ = rand.Read(r.generation[8:])
	return r
}

// ErrClosed is returned after Close, and after Drain for what is new.
var ErrClosed = errors.New("the relay is closed")

// goroutine runs f, unless the relay is closed. r.mu is held.
func (r *Relay) goroutine(f func()) bool {
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// Set replaces the peers. Hosts that are no peers any more are cut before Set returns, and
// so are those whose key has changed; others keep their connections. Entries without a key,
// and this host itself, are ignored.
func (r *Relay) Set(peers []structs.RelayPeer) {
	r.mu.Lock()
	wanted := make(map[string]structs.RelayPeer)
	for _, p := range peers {
		if p.HostID != r.conf.HostID && p.HostID != "" && p.Key != "" {
			wanted[p.HostID] = p
		}
	}
	var gone []*session
	for id, p := range r.peers {
		if w, is := wanted[id]; is && w.Key == p.key {
			continue
		}
		p.cancel()
		gone = append(gone, p.sessions...)
		p.sessions = nil
		delete(r.peers, id)
	}
	if !r.closed {
		for id, w := range wanted {
			if p := r.peers[id]; p != nil {
				if p.addr != w.Addr {
					p.addr, p.err = w.Addr, nil
					p.proof.move(w.Addr != "")
				}
				continue
			}
			p := &peer{relay: r, host: id, key: w.Key, addr: w.Addr}
			p.ctx, p.cancel = context.WithCancel(r.ctx)
			r.peers[id] = p
			r.goroutine(p.keep)
		}
	}
	r.notify()
	r.mu.Unlock()
	for _, s := range gone {
		s.cut(errLeft)
	}
}

// errLeft ends the sessions of a host that is no peer any more.
var errLeft = errors.New("the host is no peer any more, or has another key")

// Reachable returns by host ID why a peer can't be reached. nil means that it is connected,
// or that it isn't known yet.
func (r *Relay) Reachable() map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]error, len(r.peers))
	for id, p := range r.peers {
		all[id] = p.err
		if p.current() != nil {
			all[id] = nil
		}
	}
	return all
}

// Wait returns once every peer is connected or known to be out of reach, or with ctx's error.
func (r *Relay) Wait(ctx context.Context) error {
	for {
		r.mu.Lock()
		undecided := false
		for _, p := range r.peers {
			undecided = undecided || p.current() == nil && p.err == nil
		}
		changed := r.changed
		r.mu.Unlock()
		if !undecided {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Drain ends what can end: it closes listeners, dials nobody, and opens and takes no new
// streams. Peers are told, and use their other connections with this host. Drain returns
// nil when the last stream has ended, or ctx's error.
func (r *Relay) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining = true
	var all []*session
	for _, p := range r.peers {
		all = append(all, p.sessions...)
	}
	for ln := range r.listeners {
		_ = ln.Close()
	}
	for _, s := range all {
		s.retire()
	}
	r.notify()
	r.mu.Unlock()
	for {
		r.mu.Lock()
		left := 0
		for _, p := range r.peers {
			left += len(p.sessions)
		}
		changed := r.changed
		r.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close cuts all connections, closes the listeners, and waits until nothing of the relay
// runs.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.cancel()
	var all []*session
	for _, p := range r.peers {
		all = append(all, p.sessions...)
	}
	for ln := range r.listeners {
		_ = ln.Close()
	}
	for conn := range r.open {
		_ = conn.Close()
	}
	r.notify()
	r.mu.Unlock()
	for _, s := range all {
		s.cut(ErrClosed)
	}
	r.wg.Wait()
}

// notify wakes all who wait for a change of peers or sessions. r.mu is held.
func (r *Relay) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}
