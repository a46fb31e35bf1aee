//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

// attackTime is how long each attack takes, unless DURATION says otherwise. It has a quarter of
// the attackers then, because they share the machine with the server and other tests.
const attackTime = 6 * time.Second

const (
	// mostUnderAttack is the memory, in bytes, that an attacked server may take beside what it
	// took before. It may have 64 MiB in flight, and Go keeps garbage of the same size for
	// a while.
	mostUnderAttack = 512 << 20
	// mostAfterAttack is how much of that it may keep.
	mostAfterAttack = 96 << 20
)

// attacked is a server of which two projects, alpha and beta, have tokens. Attackers are alpha,
// or nobody.
type attacked struct {
	*limitedServer
	token    map[string]string
	answers  [600]atomic.Int64 // that attackers got, by status
	closed   atomic.Int64      // connections of attackers that were closed without an answer
	attacker net.Dialer        // connects from another address than beta
}

func newAttacked(t *testing.T) *attacked {
	t.Helper()
	s := &attacked{limitedServer: newLimitedServer(t, "-auth", "token", "-max-bytes-in-flight", "64"), token: make(map[string]string)}
	s.attacker.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	s.eventually("there is a first token", time.Minute, func() error {
		r := s.as("", "operator", "bootstrap", "-q")
		if s.token["admin"] = strings.TrimSpace(r.stdout); r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
	for _, project := range []string{"alpha", "beta"} {
		s.token[project] = strings.TrimSpace(s.as(s.token["admin"], "token-create", "-name", project, "-project", project, "-q").must(t))
		s.as(s.token[project], "bay-create", "-name", "bay", "-wait", "0s").must(t)
	}
	return s
}

// open connects as an attacker and sends the text. It returns nil if the server doesn't want
// that.
func (s *attacked) open(ctx context.Context, text string) net.Conn {
	raw, err := s.attacker.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil
	}
	conn := closing{raw, context.AfterFunc(ctx, func() { raw.Close() })}
	for rest := text; rest != ""; { // in parts, because each is copied
		part := rest[:min(len(rest), 16<<10)]
		if _, err := io.WriteString(conn, part); err != nil {
			s.closed.Add(1)
			conn.Close()
			return nil
		}
		rest = rest[len(part):]
	}
	return conn
}

// closing is a connection that is closed when its context ends.
type closing struct {
	net.Conn
	forget func() bool
}

func (c closing) Close() error {
	c.forget()
	return c.Conn.Close()
}

// head begins a request of alpha.
func (s *attacked) head(method, path string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Auth-Token: " +
		s.token["alpha"] + "\r\n"
}

// drain waits for the answer on a connection, and counts it. It reads the body.
func (s *attacked) drain(conn net.Conn) {
	if conn == nil {
		return
	}
	defer conn.Close()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.closed.Add(1)
		return
	}
	s.answers[resp.StatusCode].Add(1)
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// latencies are how long beta's requests took.
type latencies []time.Duration

func (l latencies) at(percent int) time.Duration {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[(len(l)-1)*percent/100].Round(100 * time.Microsecond)
}

// serve has beta read and write at a moderate rate until ctx ends: half of the requests on
// connections of their own. Each must succeed.
func (s *attacked) serve(ctx context.Context) (took latencies) {
	s.Helper()
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for n := 0; ctx.Err() == nil; n++ {
		client, method, body := keeping, "GET", ""
		if n%2 == 0 {
			client = fresh
		}
		if n%10 == 0 {
			method, body = "POST", `{"name":"m","coe":"docker","image_id":"i"}`
		}
		r, err := http.NewRequest(method, "http://"+s.addr+"/v1/"+map[string]string{"GET": "bays", "POST": "baymodels"}[method],
			strings.NewReader(body))
		if err != nil {
			s.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", s.token["beta"])
		r.Header.Set("Content-Type", "application/json")
		began := time.Now()
		resp, err := client.Do(r)
		if err != nil {
			s.Errorf("beta's request: %v", err)
			return took
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if took = append(took, time.Since(began)); err != nil || resp.StatusCode != 200 && resp.StatusCode != 201 {
			s.Errorf("beta gets %d: %.200s (%v)", resp.StatusCode, text, err)
			return took
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return took
}

// attack runs attackers for a time and checks that beta is served, that the server's memory is
// bounded and that it gets back to what it was. attack returns once its context has ended.
func (s *attacked) attack(attackers int, attack func(ctx context.Context)) {
	s.Helper()
	duration, _, err := history.FromEnv(attackTime, 0)
	if err != nil {
		s.Fatal(err)
	}
	if duration == attackTime {
		attackers /= 4
	}
	quiet, end := context.WithTimeout(context.Background(), 2*time.Second)
	alone := s.serve(quiet)
	end()
	before := s.server.rss()
	ctx, end := context.WithTimeout(context.Background(), duration)
	defer end()
	peak := before
	var wg sync.WaitGroup
	for range attackers {
		wg.Go(func() {
			for ctx.Err() == nil {
				attack(ctx)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			peak = max(peak, s.server.rss())
			time.Sleep(50 * time.Millisecond)
		}
	})
	beside := s.serve(ctx)
	wg.Wait()
	s.eventually("its memory is back", 5*time.Minute, func() error {
		if now := s.server.rss(); now > before+mostAfterAttack {
			return fmt.Errorf("it takes %d MiB, %d before, at most %d", now>>20, before>>20, peak>>20)
		}
		return nil
	})
	counts := ""
	for status := range s.answers {
		if n := s.answers[status].Load(); n > 0 {
			counts += fmt.Sprintf(" %d: %d", status, n)
		}
	}
	s.Logf("%v: RSS %d MiB before, %d at most, %d after; "+
		"beta alone p50 %v p99 %v, beside p50 %v p99 %v (%d requests); answers%s, %d closed",
		duration, before>>20, peak>>20, s.server.rss()>>20, alone.at(50), alone.at(99), beside.at(50), beside.at(99), len(beside), counts,
		s.closed.Load())
	if peak > before+mostUnderAttack {
		s.Errorf("it takes %d MiB under attack, %d before", peak>>20, before>>20)
	}
}

// TestLongAttacks attacks a server in the ways that once took its memory, and in others of
// their kind. Meanwhile another project is served, and afterwards the memory is back. DURATION
// sets how long each attack takes.
func TestLongAttacks(t *testing.T) {
	const mega = 1 << 20
	const registration = "POST /v1/agent/hosts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for _, c := range []struct {
		name      string
		attackers int
		attack    func(s *attacked) func(ctx context.Context)
	}{
		{"registrations that don't end", 400, func(s *attacked) func(context.Context) {
			text := registration + "Content-Length: 1048576\r\n\r\n" + strings.Repeat(" ", mega-10)
			return func(ctx context.Context) { s.drain(s.open(ctx, text)) }
		}},
		{"small registrations that don't end", 400, func(s *attacked) func(context.Context) {
			text := registration + "Content-Length: 16000\r\n\r\n" + strings.Repeat(" ", 15990)
			return func(ctx context.Context) { s.drain(s.open(ctx, text)) }
		}},
		{"bodies that don't end", 400, func(s *attacked) func(context.Context) {
			text := s.head("POST", "/v1/containers") + "Content-Length: 1000000\r\n\r\n" + strings.Repeat(" ", 999_990)
			return func(ctx context.Context) { s.drain(s.open(ctx, text)) }
		}},
		{"headers of a mebibyte", 400, func(s *attacked) func(context.Context) {
			text := s.head("GET", "/v1/bays") + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 1000)
			return func(ctx context.Context) { s.drain(s.open(ctx, text)) }
		}},
		{"slow headers", 400, func(s *attacked) func(context.Context) {
			return func(ctx context.Context) {
				conn := s.open(ctx, "GET /v1/bays HTTP/1.1\r\nHost: localhost\r\n")
				if conn == nil {
					return
				}
				defer conn.Close()
				for ctx.Err() == nil {
					if _, err := io.WriteString(conn, "X-A: a\r\n"); err != nil {
						s.closed.Add(1)
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
		}},
		{"tokens that nobody has", 100, func(s *attacked) func(context.Context) {
			return func(ctx context.Context) {
				s.drain(s.open(ctx, "GET /v1/bays HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Auth-Token: "+
					structs.FormatToken(structs.NewID(), structs.NewSecret())+"\r\n\r\n"))
			}
		}},
		{"pages that nobody reads", 100, func(s *attacked) func(context.Context) {
			s.fill()
			return func(ctx context.Context) {
				if conn := s.open(ctx, s.head("GET", "/v1/containers/detail")+"\r\n"); conn != nil {
					begin := make([]byte, len("HTTP/1.1 200"))
					_, err := io.ReadFull(conn, begin)
					if string(begin) == "HTTP/1.1 200" && err == nil {
						<-ctx.Done() // it reads no more
					}
					conn.Close()
				}
			}
		}},
		{"pages that are read slowly", 100, func(s *attacked) func(context.Context) {
			s.fill()
			return func(ctx context.Context) {
				conn := s.open(ctx, s.head("GET", "/v1/containers/detail")+"\r\n")
				if conn == nil {
					return
				}
				defer conn.Close()
				b := make([]byte, 4<<10)
				for ctx.Err() == nil {
					if _, err := conn.Read(b); err != nil {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		}},
		{"more requests than it may", 200, func(s *attacked) func(context.Context) {
			return func(ctx context.Context) { s.drain(s.open(ctx, s.head("GET", "/v1/bays")+"Connection: close\r\n\r\n")) }
		}},
		{"writes beyond the quota", 100, func(s *attacked) func(context.Context) {
			s.as(s.token["admin"], "quota-set", "alpha", "-containers", "0").must(s.TB)
			body := fmt.Sprintf(`{"image":"busybox","environment":{"A":"%s"}}`, strings.Repeat("x", 120<<10))
			text := s.head("POST", "/v1/containers") + fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			return func(ctx context.Context) { s.drain(s.open(ctx, text)) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newAttacked(t)
			s.attack(c.attackers, c.attack(s))
		})
	}
}

// fill makes containers of alpha with large specs until its quota has no room for more.
func (s *attacked) fill() {
	s.Helper()
	variable := strings.Repeat("x", 120<<10)
	body := fmt.Sprintf(`{"image":"busybox","environment":{"A":"%s","B":"%s"}}`, variable, variable)
	for n := 0; ; n++ {
		err := s.post("alpha", body)
		if err != nil && n > 100 && strings.Contains(err.Error(), "Quota exceeded for spec_bytes") {
			return
		}
		if err != nil && !strings.Contains(err.Error(), "writes a second") {
			s.Fatalf("container %d: %v", n, err)
		}
	}
}

// post creates a container.
func (s *attacked) post(project, body string) error {
	r, err := http.NewRequest("POST", "http://"+s.addr+"/v1/containers", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-Auth-Token", s.token[project])
	r.Header.Set("Content-Type", "application/json")
	resp, err := keeping.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 400 {
		return errors.Join(err, fmt.Errorf("%d: %s", resp.StatusCode, text))
	}
	return nil
}
