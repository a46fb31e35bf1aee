package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/stackforge/magnum/structs"
)

// impatient makes the time limits short.
func impatient(c *Config) {
	c.HandshakeTime = 100 * time.Millisecond
	c.HeaderTime = 100 * time.Millisecond
	c.PingInterval = 50 * time.Millisecond
	c.SilenceTime = 300 * time.Millisecond
}

// TestPeerThatHangs lets a peer's listener stop at each phase of a handshake.
func TestPeerThatHangs(t *testing.T) {
	cert, pin, err := Key(filepath.Join(t.TempDir(), "b.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for phase, serve := range map[string]func(a *testHost, c net.Conn){
		"before TLS": func(*testHost, net.Conn) {},
		"before its hello": func(a *testHost, c net.Conn) {
			b := New(Config{HostID: "b", Certificate: cert})
			_ = tls.Server(c, b.tlsConfig(func(string) bool { return true })).Handshake()
		},
		"after its hello": func(a *testHost, c net.Conn) {
			b := New(Config{HostID: "b", Certificate: cert})
			end := tls.Server(c, b.tlsConfig(func(string) bool { return true }))
			if end.Handshake() == nil {
				_, _ = readHello(end)
				_, _ = end.Write(hello{b.generation, "b"}.encode())
			}
		},
	} {
		t.Run(phase, func(t *testing.T) {
			a := newHost(t, "a", impatient)
			var addr string
			done := make(chan struct{})
			addr = tcpServer(t, func(c *net.TCPConn) {
				serve(a, c)
				<-done
			})
			t.Cleanup(func() { close(done) })
			began := time.Now()
			a.Set([]structs.RelayPeer{{HostID: "b", Relay: structs.Relay{Key: pin, Addr: addr}}})
			if _, err := a.Dial(limited(t), "b", toPod); err == nil {
				t.Fatal("a stream was opened")
			}
			if took := time.Since(began); took > 40*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// dialAs makes a connection of a peer b by hand, as far as the hellos.
func dialAs(t *testing.T, a *testHost, cert tls.Certificate) net.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	b := New(Config{HostID: "b", Certificate: cert})
	conn := tls.Client(raw, b.tlsConfig(func(string) bool { return true }))
	if _, err := conn.Write(hello{b.generation, "b"}.encode()); err != nil {
		t.Fatal(err)
	}
	if _, err := readHello(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A peer that opens streams and doesn't say what for, or says nonsense, or stops.
func TestPeerThatHangsInAStream(t *testing.T) {
	cert, pin, err := Key(filepath.Join(t.TempDir(), "b.pem"))
	if err != nil {
		t.Fatal(err)
	}
	a := newHost(t, "a", func(c *Config) { c.HeaderTime = 100 * time.Millisecond })
	a.pod.Store(echo(t))
	a.Set([]structs.RelayPeer{{HostID: "b", Relay: structs.Relay{Key: pin}}})
	conf := yamux.DefaultConfig()
	conf.LogOutput = io.Discard
	mux, err := yamux.Client(dialAs(t, a, cert), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer mux.Close()
	good := request{kindTCP, toPod}.encode()
	for name, sent := range map[string][]byte{"nothing": nil, "half a header": good[:5], "unknown kind": {9, 0, 0, 0, 0}} {
		st, err := mux.OpenStream()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, _ = st.Write(sent)
		_ = st.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := st.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s is answered by %d bytes, %v; want the stream's end", name, n, err)
		}
		_ = st.Close()
	}
	eventually(t, "a good stream is opened after bad ones", func() bool { // its header may be late if this machine stalls
		st, err := mux.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		_, _ = st.Write(good)
		got, err := readAnswer(st)
		return err == nil && got.code == codeOK
	})
}

// A peer that is gone without a word is found, and its streams end.
func TestSilentPeerIsFound(t *testing.T) {
	cert, pin, err := Key(filepath.Join(t.TempDir(), "b.pem"))
	if err != nil {
		t.Fatal(err)
	}
	a := newHost(t, "a", func(c *Config) { c.PingInterval, c.SilenceTime = 50*time.Millisecond, 2*time.Second })
	a.Set([]structs.RelayPeer{{HostID: "b", Relay: structs.Relay{Key: pin}}})
	conn := dialAs(t, a, cert)
	mux, err := yamux.Server(silentConn{conn}, yamux.DefaultConfig())
	_ = mux
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session is there", func() bool { n, _ := a.numbers("b"); return n == 1 })
	eventually(t, "the silent peer is cut", func() bool { n, _ := a.numbers("b"); return n == 0 })
}

// silentConn reads, and writes nothing.
type silentConn struct{ net.Conn }

func (silentConn) Write(p []byte) (int, error) { return len(p), nil }

func TestFloodOfHandshakes(t *testing.T) {
	a := newHost(t, "a", func(c *Config) { c.MaxHandshakes = 8; c.HandshakeTime = time.Minute })
	b := newHost(t, "b", nil)
	a.pod.Store(echo(t))
	var open []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", a.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	// All but a quarter of the limit are closed at once, without having proved anything.
	closed := func() (n int) {
		for _, c := range open {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				n++
			}
		}
		return n
	}
	eventually(t, "98 of 100 connections are closed", func() bool { return closed() >= 98 })
	if n := closed(); n != 98 {
		t.Errorf("%d of 100 connections were closed, want 98", n)
	}
	a.mu.Lock()
	n := len(a.open)
	a.mu.Unlock()
	if n > 2 {
		t.Errorf("%d handshakes are pending", n)
	}
	// a still dials, and is dialled once the flood ends.
	b.pod.Store(echo(t))
	b.Set([]structs.RelayPeer{a.undialled()})
	a.Set([]structs.RelayPeer{b.as()})
	short(t, a, "b")
	a.Set([]structs.RelayPeer{b.undialled()})
	for _, c := range open {
		_ = c.Close()
	}
	b.Set(nil)
	b.Set([]structs.RelayPeer{a.as()})
	eventually(t, "b is let in", func() bool { return b.Wait(limited(t)) == nil && b.Reachable()["a"] == nil })
	short(t, b, "a")
}

func TestKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.pem")
	cert, pin, err := Key(file)
	if err != nil || len(pin) != 64 || strings.ToLower(pin) != pin {
		t.Fatalf("pin %q, %v", pin, err)
	}
	if at, err := os.Stat(file); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", at.Mode(), err)
	}
	again, same, err := Key(file)
	if err != nil || same != pin || pinOf(again.Leaf) != pin || pinOf(cert.Leaf) != pin {
		t.Errorf("read again, the pin is %q, want %q; %v", same, pin, err)
	}
	// What a crash left is no obstacle.
	_ = os.WriteFile(file+".new", []byte("half"), 0o600)
	_ = os.Remove(file)
	if _, other, err := Key(file); err != nil || other == pin {
		t.Errorf("a new key has pin %q, %v", other, err)
	}
	good, _ := os.ReadFile(file)
	for name, content := range map[string]string{
		"empty": "", "text": "hello", "cut off": string(good[:len(good)/2]),
		"other block": strings.ReplaceAll(string(good), "PRIVATE KEY", "CERTIFICATE"),
		"no key":      "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := Key(file)
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(file); string(now) != content {
			t.Errorf("%s: the file was replaced", name)
		}
	}
	if _, _, err := Key(filepath.Join(file, "below")); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a path below a file: %v", err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(request{kindTCP, toPod}.encode())
	f.Add(request{kind: kindRetire}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := readRequest(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		if got := q.encode(); !strings.HasPrefix(string(b), string(got)) {
			t.Errorf("%x is read as %+v, which is written as %x", b, q, got)
		}
	})
}
