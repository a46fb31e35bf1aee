package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// Secure is TLS with certificates on both ends. Its functions are called for each
// connection, so certificates may change at any time.
type Secure struct {
	Server func() *tls.Config
	Client func(serverName string) *tls.Config
}

// Stream is the stream layer of Raft's transport: TCP, optionally with TLS, and a
// preamble that names the cluster for which the caller speaks and the server that it
// calls. A caller of another cluster is refused, and so is one that means the server
// which had this address before.
type Stream struct {
	net.Listener
	serverID   string // of this server
	advertise  net.Addr
	secure     *Secure
	clusterID  *ClusterID
	log        hclog.Logger
	handshakes sync.WaitGroup
	open       sync.Map // net.Conn; Close closes them
	accepted   chan net.Conn
	done       chan struct{}
	close      sync.Once
}

// The preamble of a connection consists of preambleWord, the caller's cluster ID of 36
// characters (noCluster while it belongs to none), one byte with the length of the
// called server's ID, and that ID.
const (
	preambleWord     = "magnum-raft-2 "
	preambleSize     = len(preambleWord) + 36 + 1 // without the server's ID
	maxServerID      = 255
	noCluster        = "------------------------------------"
	handshakeTimeout = 5 * time.Second // for TLS and the preamble of an incoming connection
	maxHandshaking   = 64              // incoming connections whose preamble is not yet read
	StallTimeout     = 5 * time.Second // longest silence within a request
)

// Config configures a Stream.
type Config struct {
	ServerID  string  // of this server
	BindAddr  string  // host:port
	Advertise string  // host:port at which other servers reach BindAddr; default: BindAddr as it was opened
	Secure    *Secure // nil means plain TCP
	Logger    hclog.Logger
}

// Listen opens the port. Errors: CodeConflict if the port is in use, CodeInvalid for an
// address that other servers can't reach.
func Listen(c Config, id *ClusterID) (*Stream, error) {
	l, err := net.Listen("tcp", c.BindAddr)
	if err != nil {
		return nil, structs.Errorf(structs.CodeConflict, "-raft-port: %s can't be listened on (is another magnum running?): %w",
			c.BindAddr, err)
	}
	s := &Stream{
		Listener: l, serverID: c.ServerID, advertise: l.Addr(), secure: c.Secure, clusterID: id, log: c.Logger,
		accepted: make(chan net.Conn), done: make(chan struct{}),
	}
	if c.Advertise != "" {
		addr, err := net.ResolveTCPAddr("tcp", c.Advertise)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("raft: address to advertise: %w", err)
		}
		if addr.Port == 0 {
			addr.Port = l.Addr().(*net.TCPAddr).Port
		}
		s.advertise = addr
	}
	if s.advertise.(*net.TCPAddr).IP.IsUnspecified() {
		l.Close()
		return nil, structs.Errorf(structs.CodeInvalid,
			"-bind %s is not an address at which other servers can reach this one: give one with -advertise", c.BindAddr)
	}
	s.handshakes.Go(s.run)
	return s, nil
}

// Addr returns the address at which other servers reach this one.
func (s *Stream) Addr() net.Addr { return s.advertise }

// run accepts connections. Each handshake has its own goroutine, so a silent caller
// delays no other.
func (s *Stream) run() {
	slots := make(chan struct{}, maxHandshaking)
	for {
		conn, err := s.Listener.Accept()
		if err != nil {
			select {
			case <-s.done:
				return
			case <-time.After(10 * time.Millisecond): // for example, no free file descriptor
				continue
			}
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		s.handshakes.Go(func() {
			defer func() { <-slots }()
			conn := s.track(conn)
			shaken, err := s.handshake(conn)
			if err != nil {
				s.log.Debug("connection refused", "addr", conn.RemoteAddr(), "error", err)
				conn.Close()
				return
			}
			select {
			case s.accepted <- &incoming{Conn: shaken}:
			case <-s.done:
				shaken.Close()
			}
		})
	}
}

// errOtherServer is the reason for refusing a call that names another server.
var errOtherServer = errors.New("the server that it calls is not this one: that one has lost its data directory, or its address has " +
	"changed")

// handshake does the TLS handshake and checks which cluster and server the caller
// names.
func (s *Stream) handshake(conn net.Conn) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	remote := conn.RemoteAddr().String()
	if s.secure != nil {
		secure := tls.Server(conn, s.secure.Server())
		if err := secure.Handshake(); err != nil {
			s.clusterID.logRefusal(s.log, remote, "cluster_id", "", err)
			return nil, err
		}
		conn = secure
	}
	cluster, meant, err := readPreamble(conn)
	if err != nil {
		return nil, err
	}
	if meant != s.serverID { // before Accept: such a caller must not make this server join its cluster
		if structs.IsID(meant) {
			s.clusterID.logRefusal(s.log, remote, "server_id", meant, errOtherServer)
		}
		return nil, errOtherServer
	}
	if err := s.clusterID.Accept(cluster); err != nil {
		s.clusterID.logRefusal(s.log, remote, "cluster_id", cluster, err)
		return nil, err
	}
	return conn, conn.SetDeadline(time.Time{})
}

// readPreamble returns the IDs in a preamble: the caller's cluster, "" if it belongs to
// none, and the server that is called.
func readPreamble(r io.Reader) (cluster, meant string, err error) {
	var b [preambleSize]byte
	if _, err := io.ReadFull(r, b[:len(preambleWord)]); err != nil {
		return "", "", err
	}
	if string(b[:len(preambleWord)]) != preambleWord {
		return "", "", errors.New("it is not a magnum server, or has another version")
	}
	if _, err := io.ReadFull(r, b[len(preambleWord):]); err != nil {
		return "", "", err
	}
	if cluster = string(b[len(preambleWord) : preambleSize-1]); cluster == noCluster {
		cluster = ""
	} else if !structs.IsID(cluster) {
		return "", "", errors.New("its cluster ID is not a UUID")
	}
	id := make([]byte, b[preambleSize-1])
	if _, err := io.ReadFull(r, id); err != nil {
		return "", "", err
	}
	return cluster, string(id), nil
}

// preamble is the inverse of readPreamble.
func preamble(cluster, meant string) (string, error) {
	if len(meant) > maxServerID {
		return "", fmt.Errorf("raft: server id %.64q has more than %d bytes", meant, maxServerID)
	}
	if cluster == "" {
		cluster = noCluster
	}
	return preambleWord + cluster + string([]byte{byte(len(meant))}) + meant, nil
}

// Accept returns the next connection whose handshake has succeeded.
func (s *Stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close closes the port and all connections, which ends waits for other servers.
func (s *Stream) Close() error {
	var err error
	s.close.Do(func() {
		close(s.done)
		err = s.Listener.Close()
		s.open.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
		s.handshakes.Wait()
	})
	return err
}

// trackedConn is a connection that Stream.Close closes.
type trackedConn struct {
	net.Conn
	stream *Stream
}

func (s *Stream) track(conn net.Conn) net.Conn {
	w := &trackedConn{conn, s}
	s.open.Store(w, true)
	select {
	case <-s.done: // Close may have missed it
		w.Close()
	default:
	}
	return w
}

// Close closes the connection.
func (w *trackedConn) Close() error {
	w.stream.open.Delete(w)
	return w.Conn.Close()
}

// incoming is a connection on which another server sends requests, one at a time. It
// may be silent between two requests, but not within one: Raft's main goroutine reads
// the snapshot that a leader sends, and while it waits for the rest, this server
// neither votes nor follows another leader.
type incoming struct {
	net.Conn
	asked atomic.Bool // some of a request was read since the last answer
	bound bool        // a read deadline is set; used only by Read
}

// Read reads a part of a request.
func (c *incoming) Read(b []byte) (int, error) {
	if asked := c.asked.Load(); asked || c.bound {
		var until time.Time
		if asked {
			until = time.Now().Add(StallTimeout)
		}
		if err := c.Conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
		c.bound = asked
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.asked.Store(true)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.Close() // otherwise the library would read on, looking for the next request
	}
	return n, err
}

// Write writes a part of an answer.
func (c *incoming) Write(b []byte) (int, error) {
	c.asked.Store(false)
	return c.Conn.Write(b)
}

// Dial connects to the server that target names; see TargetOf.
func (s *Stream) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	meant, address, err := splitTarget(target)
	if err != nil {
		return nil, err
	}
	words, err := preamble(s.clusterID.named(), meant)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	conn = s.track(conn)
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		conn.Close()
		return nil, err
	}
	if s.secure != nil {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		secure := tls.Client(conn, s.secure.Client(host))
		if err := secure.Handshake(); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	if _, err := io.WriteString(conn, words); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, conn.SetDeadline(time.Time{})
}
