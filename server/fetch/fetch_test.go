package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/structs"
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// refused checks that an error is a CodeInvalid about manifest_url with some texts.
func refused(t *testing.T, err error, texts ...string) {
	t.Helper()
	if structs.CodeOf(err) != structs.CodeInvalid || !strings.HasPrefix(err.Error(), "manifest_url") {
		t.Errorf("error %v, want a refusal about manifest_url", err)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want one with %q", err, text)
		}
	}
}

func TestManifest(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("User-Agent"); got != "magnum" {
			t.Errorf("User-Agent %q", got)
		}
		io.WriteString(w, "kind: Pod\n")
	})
	text, err := Manifest(t.Context(), s.URL+"/pod.yaml?token=a#b", loopback)
	if err != nil || text != "kind: Pod\n" {
		t.Errorf("fetched %q, %v", text, err)
	}
}

// TestHTTPSChecksTheCertificate checks that an unknown certificate is refused.
func TestHTTPSChecksTheCertificate(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	_, err := Manifest(t.Context(), s.URL, loopback)
	refused(t, err, s.Listener.Addr().String(), "certificate")
}

func TestAnswersThatAreRefused(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/missing", http.NotFound)
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret of the host", 500) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!DOCTYPE html><html>") })
	mux.HandleFunc("/binary", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte{0x7f, 'E', 'L', 'F', 0, 0xff}) })
	mux.HandleFunc("/nul", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("a\x00")) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "a: b")
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil { // without end
			if _, err := io.WriteString(w, strings.Repeat("#", 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) })
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	host := s.Listener.Addr().String()
	for path, want := range map[string]string{
		"/missing": "answered 404 Not Found", "/broken": "answered 500 Internal Server Error", "/page": "a web page",
		"/binary": "isn't UTF-8 text", "/nul": "isn't UTF-8 text", "/short": "unexpected EOF", "/large": "more than 524288 bytes",
		"/header": "can't be read", "/none": "answered 204",
	} {
		_, err := Manifest(t.Context(), s.URL+path+"?token=hidden", loopback)
		refused(t, err, host, want)
		if err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("the message tells too much: %v", err)
		}
	}
	_, err := Manifest(t.Context(), s.URL+"/exact", loopback)
	refused(t, err, "404")
}

func TestLargestText(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("#", structs.MaxManifest))
	})
	if text, err := Manifest(t.Context(), s.URL, loopback); err != nil || len(text) != structs.MaxManifest {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for address, want := range map[string]string{
		"": "neither http nor https", "pod.yaml": "neither http nor https", "file:///etc/passwd": "neither http nor https",
		"ftp://example.org/a": "neither http nor https", "gopher://example.org/": "neither http nor https",
		"http:///a": "names no host", "http://user:hidden@example.org/": "names a user of example.org",
		"http://example.org:port/": "is not a URL", "http://a b/": "is not a URL", "http://%zz/": "is not a URL",
		"http://example.org/\n": "control", "http://" + strings.Repeat("a", 5000): "more than 4096",
	} {
		_, err := Manifest(t.Context(), address)
		refused(t, err, want)
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("the message has the password: %v", err)
		}
	}
}

// TestOnlyPublicAddresses checks that nothing is connected to at other addresses, in
// whatever form they are written.
func TestOnlyPublicAddresses(t *testing.T) {
	var requests atomic.Int32
	s := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1.2.3", "0.0.0.0", "[::]",
		"169.254.169.254", "10.0.0.1", "[fe80::1%25lo]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"} {
		_, err := Manifest(t.Context(), "http://"+host+":"+port+"/latest/meta-data")
		refused(t, err, "isn't at a public address")
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestIsPublic(t *testing.T) {
	for _, s := range []string{"8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:4700::1111",
		"2a00:1450:4001::1", "2400:cb00::1"} {
		if !isPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s isn't public", s)
		}
	}
	for _, s := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
		"224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "0.0.0.0", "0.1.2.3", "::", "::1", "::8.8.8.8", "fe80::1", "fec0::1",
		"fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:808:808::1",
		"3fff::1", "5f00::1"} {
		if isPublic(netip.MustParseAddr(s)) {
			t.Errorf("%s is public", s)
		}
	}
}

// TestAllowedNetworks checks that an allowed network is allowed in its mapped form too,
// and no other.
func TestAllowedNetworks(t *testing.T) {
	f := fetcher{allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}}
	for address, want := range map[string]bool{
		"10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true, "[fd00::1]:443": true, "8.8.8.8:80": true, "10.2.0.1:80": false,
		"[fc00::1]:80": false, "127.0.0.1:80": false,
	} {
		if err := f.control("tcp", address, nil); (err == nil) != want {
			t.Errorf("%s: %v, want it allowed: %v", address, err, want)
		}
	}
}

func TestRedirects(t *testing.T) {
	var hops atomic.Int32
	inside := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		hops.Add(100)
		io.WriteString(w, "inside")
	})
	to := ""
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" {
			t.Errorf("the request names the URL before: %s", r.Header.Get("Referer"))
		}
		n := int(hops.Add(1))
		switch r.URL.Path {
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/five":
			if n > maxRedirects {
				io.WriteString(w, "there")
				return
			}
			http.Redirect(w, r, "/five", http.StatusMovedPermanently)
		default:
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		}
	})
	if text, err := Manifest(t.Context(), s.URL+"/five?token=a", loopback); err != nil || text != "there" {
		t.Errorf("five redirects: %q, %v", text, err)
	}
	hops.Store(0)
	_, err := Manifest(t.Context(), s.URL+"/loop", loopback)
	refused(t, err, "redirects more than 5 times")
	if n := hops.Load(); n != maxRedirects+1 {
		t.Errorf("%d requests", n)
	}
	for target, want := range map[string]string{
		"file:///etc/passwd": "neither http nor https", "http://user:hidden@example.org/": "names a user",
		"http://[::1]:1/": "isn't at a public address", "http://169.254.169.254/": "isn't at a public address",
	} {
		to = target
		_, err := Manifest(t.Context(), s.URL+"/out", loopback)
		refused(t, err, want)
	}
	// Only the first server's address is allowed.
	one := netip.PrefixFrom(netip.MustParseAddr("127.0.0.1"), 32)
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	to = "http://127.0.0.2:" + port
	hops.Store(0)
	_, err = Manifest(t.Context(), s.URL+"/out", one)
	refused(t, err, "isn't at a public address")
	if hops.Load() >= 100 {
		t.Error("the redirect was followed")
	}
}

// TestProxiesAreNotUsed checks that the environment's proxy is not asked.
func TestProxiesAreNotUsed(t *testing.T) {
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("the proxy was asked for %s", r.URL) })
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Manifest(t.Context(), "http://127.0.0.9:1/", netip.MustParsePrefix("127.0.0.9/32"))
	refused(t, err, "127.0.0.9:1", "can't be read")
	if strings.Contains(err.Error(), u.Host) {
		t.Errorf("the proxy was dialled: %v", err)
	}
}

// TestRebinding checks that a name is safe to resolve: whatever the resolver says the
// second time, the address that is connected to is checked.
func TestRebinding(t *testing.T) {
	var requests atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		io.WriteString(w, "inside")
	})
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var questions atomic.Int32
	resolver := resolve(t, func(string) netip.Addr {
		if questions.Add(1) == 1 {
			return netip.MustParseAddr("127.0.0.3") // allowed, and nobody answers there
		}
		return netip.MustParseAddr("127.0.0.1")
	})
	f := fetcher{resolver: resolver, allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.3/32")}}
	_, err = f.manifest(t.Context(), "http://rebind.example.org:"+port+"/")
	refused(t, err, "can't be read")
	_, err = f.manifest(t.Context(), "http://rebind.example.org:"+port+"/")
	refused(t, err, "isn't at a public address")
	if requests.Load() != 0 || questions.Load() < 2 {
		t.Errorf("%d requests, %d questions", requests.Load(), questions.Load())
	}
	f.allow = []netip.Prefix{loopback}
	if text, err := f.manifest(t.Context(), "http://rebind.example.org:"+port+"/"); err != nil || text != "inside" {
		t.Errorf("an allowed name: %q, %v", text, err)
	}
}

func TestUnknownHost(t *testing.T) {
	f := fetcher{resolver: resolve(t, func(string) netip.Addr { return netip.Addr{} })}
	_, err := f.manifest(t.Context(), "http://nowhere.example.org/")
	refused(t, err, "host nowhere.example.org is not found")
}

// resolve returns a resolver whose server answers each question for IPv4 addresses, with
// an error if the address is the zero one.
func resolve(t *testing.T, answer func(name string) netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(reply(buf[:n], answer), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// reply answers a DNS question.
func reply(question []byte, answer func(name string) netip.Addr) []byte {
	end, name := 12, ""
	for question[end] != 0 {
		name += string(question[end+1:end+1+int(question[end])]) + "."
		end += 1 + int(question[end])
	}
	kind := binary.BigEndian.Uint16(question[end+1:])
	out := append([]byte{}, question[:end+5]...)
	out[2], out[3] = 0x81, 0x80               // an answer
	copy(out[6:12], []byte{0, 0, 0, 0, 0, 0}) // with no records
	if kind != 1 {                            // only A
		return out
	}
	addr := answer(name)
	if !addr.IsValid() {
		out[3] = 0x83 // no such name
		return out
	}
	out[7] = 1
	out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(out, addr.AsSlice()...)
}

// TestSlowServer checks that all of it, the body too, ends after ten seconds.
func TestSlowServer(t *testing.T) {
	for _, first := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nkind"} {
		t.Run(fmt.Sprintf("after %d bytes", len(first)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				go func() {
					buf := make([]byte, 4096)
					server.Read(buf)
					io.WriteString(server, first)
				}()
				start := time.Now()
				_, err := (&fetcher{dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }}).
					manifest(t.Context(), "http://slow.example.org/a")
				refused(t, err, "slow.example.org has not answered within 10s")
				if took := time.Since(start); took != maxTime {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// TestCallerLeaves checks that the caller's end isn't taken for the server's fault.
func TestCallerLeaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := Manifest(ctx, s.URL, loopback); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
