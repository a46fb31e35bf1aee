//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// limitedServer is a server without hosts, for tests of its limits.
type limitedServer struct {
	*cluster
}

func newLimitedServer(t *testing.T, args ...string) *limitedServer {
	t.Helper()
	s := &limitedServer{&cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t)}}
	_, port, _ := net.SplitHostPort(s.addr)
	s.server = s.process("server", append([]string{"server", "-data-dir", filepath.Join(s.dir, "data"), "-http-port", port, "-raft-port",
		freePort(t), "-gossip-port", "-1"}, args...)...)
	s.server.start()
	t.Cleanup(s.server.kill)
	return s
}

// as runs the command line with a token.
func (s *limitedServer) as(token string, args ...string) result {
	s.Helper()
	return magnum(s.TB, []string{"MAGNUM_ADDR=" + s.addr, "OS_TOKEN=" + token}, "", args...)
}

// keeping keeps its connections, as clients that send many requests do.
var keeping = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}

// get makes a request and returns its answer, whose body is read.
func (s *limitedServer) get(token, path string) (*http.Response, string) {
	s.Helper()
	r, err := http.NewRequest("GET", "http://"+s.addr+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	resp, err := keeping.Do(r)
	if err != nil {
		s.Error(err)
		return &http.Response{Header: make(http.Header)}, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Error(err)
	}
	return resp, string(body)
}

// pace calls do so many times a second until ctx ends, in several goroutines.
func pace(ctx context.Context, workers, perSecond int, do func()) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			tick := time.NewTicker(time.Duration(workers) * time.Second / time.Duration(perSecond))
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					do()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestRates: a project that sends ten times what it may gets what it may, and another project
// is served as if it were alone. An address that tries tokens is slowed down, and those with a
// valid token at the same address aren't.
func TestRates(t *testing.T) {
	const reads, period = 200, 4 * time.Second
	s := newLimitedServer(t, "-auth", "token", "-rate-reads", fmt.Sprint(reads), "-rate-writes", "5", "-rate-addresses", "5")
	var admin string
	s.eventually("there is a first token", time.Minute, func() error {
		r := s.as("", "operator", "bootstrap", "-q")
		if admin = strings.TrimSpace(r.stdout); r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
	token := make(map[string]string)
	for _, project := range []string{"alpha", "beta"} {
		token[project] = strings.TrimSpace(s.as(admin, "token-create", "-name", project, "-project", project, "-q").must(t))
	}
	// p99 measures beta's reads, a quarter of what it may.
	p99 := func() time.Duration {
		var mu sync.Mutex
		var took []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), period)
		defer cancel()
		pace(ctx, 10, reads/4, func() {
			began := time.Now()
			resp, body := s.get(token["beta"], "/v1/bays")
			mu.Lock()
			defer mu.Unlock()
			if took = append(took, time.Since(began)); resp.StatusCode != 200 {
				t.Errorf("beta gets %d: %s", resp.StatusCode, body)
			}
		})
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	alone := p99()
	var mu sync.Mutex
	served, refused := 0, 0
	attack, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		pace(attack, 100, 10*reads, func() {
			resp, body := s.get(token["alpha"], "/v1/bays")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case resp.StatusCode == 200:
				served++
			case resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "1" && strings.Contains(body, "-rate-reads"):
				refused++
			default:
				t.Errorf("alpha gets %d: %s", resp.StatusCode, body)
			}
		})
	}()
	beside := p99()
	end()
	<-done
	most := 2*reads + int(reads*time.Since(began).Seconds()) + 1
	if served > most || served == 0 {
		t.Errorf("alpha is served %d times, at most %d", served, most)
	}
	t.Logf("p99 of beta: alone %v, beside alpha %v; alpha is served %d times and refused %d times in %v", alone, beside, served, refused,
		time.Since(began).Round(time.Millisecond))

	// Tokens that nobody has.
	for n := 0; ; n++ {
		resp, body := s.get(structs.FormatToken(structs.NewID(), structs.NewSecret()), "/v1/bays")
		if resp.StatusCode == 429 && strings.Contains(body, "without a valid token") {
			break
		}
		if n > 1000 {
			t.Fatalf("attempt %d gets %d: %s", n, resp.StatusCode, body)
		}
	}
	if resp, body := s.get(token["beta"], "/v1/bays"); resp.StatusCode != 200 {
		t.Errorf("beta gets %d: %s", resp.StatusCode, body)
	}
	_, metrics := s.get(admin, "/v1/metrics")
	for _, want := range []string{`magnum_limited_total{limit="address"}`, "magnum_bytes_in_flight"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if refused > 0 && strings.Contains(metrics, `magnum_limited_total{limit="project_reads"} 0`) {
		t.Error("the metrics have no refusals of reads")
	}

	// Without authentication there is no rate.
	open := newLimitedServer(t, "-rate-reads", "1", "-rate-addresses", "1")
	open.eventually("the server is up", time.Minute, func() error {
		if r := open.as("", "bay-list"); r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
	for range 20 {
		if resp, body := open.get("", "/v1/bays"); resp.StatusCode != 200 {
			t.Fatalf("without authentication: %d: %s", resp.StatusCode, body)
		}
	}
}

// TestTrustedProxy: behind a proxy that the server trusts, links are those that the client can
// follow, and the log names the client.
func TestTrustedProxy(t *testing.T) {
	r := magnum(t, nil, "", "server", "-data-dir", t.TempDir(), "-trusted-proxy", "10.0.0.0/8,proxy")
	if r.code != 2 || !strings.Contains(r.stderr, `-trusted-proxy "proxy"`) {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
	for trusted, proxies := range map[bool]string{true: "10.0.0.0/8,127.0.0.1", false: "10.0.0.0/8"} {
		s := newLimitedServer(t, "-trusted-proxy", proxies, "-log-level", "debug")
		s.eventually("the server is up", time.Minute, func() error {
			if r := s.as("", "bay-list"); r.code != 0 {
				return fmt.Errorf("%s", r.stderr)
			}
			return nil
		})
		proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: s.addr})
			p.Out.Header["X-Forwarded-For"] = []string{"198.51.100.1, 203.0.113.5"} // the client is further away
			p.Out.Header.Set("X-Forwarded-Proto", "https")
			p.Out.Header.Set("X-Forwarded-Host", p.In.Host)
		}})
		resp, err := proxy.Client().Get(proxy.URL + "/v1/bays?limit=1")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		resp, err = proxy.Client().Post(proxy.URL+"/v1/bays", "application/json", strings.NewReader(`{"name":"b"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if link := resp.Header.Get("Location"); resp.StatusCode != 201 || strings.HasPrefix(link, proxy.URL+"/v1/bays/") != trusted {
			t.Errorf("trusted %v: status %d, Location %q", trusted, resp.StatusCode, link)
		}
		if log, err := os.ReadFile(s.server.log); err != nil || strings.Contains(string(log), "addr=203.0.113.5") != trusted ||
			strings.Contains(string(log), "addr=198.51.100.1") {
			t.Errorf("trusted %v: the log names another client (%v)", trusted, err)
		}
		proxy.Close()
	}
}
