package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// Each benchmark has a line for the pod directly and one for the proxy in front of it. The
// client is as small as it can be, so that the proxy isn't hidden behind it.

// startHTTPPod starts a pod that answers HTTP requests.
func startHTTPPod(b *testing.B) netip.AddrPort {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") }))
	b.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// targets returns the address of a pod, and that of a proxy in front of it.
func targets(b *testing.B, pod netip.AddrPort) map[string]string {
	p := testProxy(b, Options{MaxFiles: 1 << 14})
	s := p.Apply(config(structs.ServiceSpec{}, structs.Endpoint{PodID: "a", HostID: host, Address: pod.Addr().String(),
		Ports: []int{int(pod.Port())}, Ready: true}))
	return map[string]string{"direct": pod.String(), "proxy": fmt.Sprintf("127.0.0.1:%d", s.TCP[projectID])}
}

// request makes one HTTP request and reads its response.
func request(c net.Conn, r *bufio.Reader, more string) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: pod\r\n"+more+"\r\n"); err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
		if line == "\r\n" {
			_, err := r.Discard(length)
			return err
		}
	}
}

func BenchmarkKeepAlive(b *testing.B) {
	pod := startHTTPPod(b)
	for name, addr := range targets(b, pod) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("tcp4", addr)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				r := bufio.NewReader(c)
				for pb.Next() {
					if err := request(c, r, ""); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkOneConnectionPerRequest(b *testing.B) {
	pod := startHTTPPod(b)
	for name, addr := range targets(b, pod) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				r := bufio.NewReader(nil)
				for pb.Next() {
					c, err := net.Dial("tcp4", addr)
					if err != nil {
						b.Error(err)
						return
					}
					r.Reset(c)
					if err := request(c, r, "Connection: close\r\n"); err != nil {
						b.Error(err)
					}
					_ = c.(*net.TCPConn).SetLinger(0) // ports must not run out
					_ = c.Close()
				}
			})
		})
	}
}

func BenchmarkBulk(b *testing.B) {
	pod := startPod(b, "a", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	for name, addr := range targets(b, pod.addr) {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp4", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := c.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c) // until all has arrived
		})
	}
}

func BenchmarkUDP(b *testing.B) {
	pod := startUDPPod(b, "a")
	p := testProxy(b, Options{MaxFiles: 1 << 14})
	s := p.Apply(config(udpSpec(0), pod.endpoint(true)))
	for name, port := range map[string]int{"direct": int(pod.addr.Port()), "proxy": s.UDP[0].Local} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				c := dialUDP(b, "127.0.0.1", port)
				for pb.Next() {
					askUDP(b, c, "word")
				}
			})
		})
	}
}
