package relay

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"
)

// answering serves one-line requests as a small web server serves its own: one write for
// each request.
func answering(t testing.TB) string {
	page := make([]byte, 256)
	return tcpServer(t, func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			if _, err := in.ReadSlice('\n'); err != nil {
				return
			}
			if _, err := c.Write(page); err != nil {
				return
			}
		}
	})
}

// proxied returns an address whose connections go through a relay.
func proxied(t testing.TB) string {
	a, b := newPair(t, nil)
	b.pod.Store(answering(t))
	return tcpServer(t, func(c *net.TCPConn) {
		to, err := a.Dial(t.Context(), "b", toPod)
		if err != nil {
			t.Error(err)
			return
		}
		pipe(to, c)
	})
}

// direct returns the address of the pod.
func direct(t testing.TB) string { return answering(t) }

var request128 = append(make([]byte, 127), '\n')

// exchange makes one request.
func exchange(b *testing.B, c net.Conn, got []byte) bool {
	_, err := c.Write(request128)
	if err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err != nil {
		b.Error(err)
	}
	return err == nil
}

// BenchmarkRequests compares requests through the relay with requests to the pod, by 32
// clients.
func BenchmarkRequests(b *testing.B) {
	for _, way := range []struct {
		name  string
		start func(testing.TB) string
	}{{"direct", direct}, {"relay", proxied}} {
		b.Run("keepalive/"+way.name, func(b *testing.B) {
			addr := way.start(b)
			clients(b, func(next func() bool) {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				got := make([]byte, 256)
				for next() && exchange(b, c, got) {
				}
			})
		})
		b.Run("connections/"+way.name, func(b *testing.B) {
			addr := way.start(b)
			clients(b, func(next func() bool) {
				got := make([]byte, 256)
				for next() {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						b.Error(err)
						continue
					}
					exchange(b, c, got)
					_ = c.Close()
				}
			})
		})
	}
}

// clients runs 32 clients until they have made b.N requests together.
func clients(b *testing.B, run func(next func() bool)) {
	tickets := make(chan struct{}, 32)
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() { run(func() bool { _, more := <-tickets; return more }) })
	}
	for range b.N {
		tickets <- struct{}{}
	}
	close(tickets)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
