package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// roundRobin is a client behind a load balancer of three servers: each request goes to
// the next server, without the index that the client has seen.
type roundRobin struct {
	t    *testing.T
	http *http.Client
	urls []string
	next int

	repeated bool // the last request was sent more than once
}

// do sends a request and returns status and body. Like any client, it retries temporary
// refusals, and reads that are marked as stale: the server could not ask the leader in time.
func (b *roundRobin) do(method, path, body string) (int, string) {
	b.t.Helper()
	b.repeated = false
	for until := time.Now().Add(time.Minute); ; b.repeated = true {
		url := b.urls[b.next%len(b.urls)]
		b.next++
		r, err := http.NewRequestWithContext(b.t.Context(), method, url+path, bytes.NewReader([]byte(body)))
		if err != nil {
			b.t.Fatal(err)
		}
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		resp, err := b.http.Do(r)
		if err != nil {
			b.t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.t.Fatal(err)
		}
		stale := method == http.MethodGet && resp.Header.Get("X-Magnum-Stale") != ""
		if resp.StatusCode != http.StatusServiceUnavailable && !stale || time.Now().After(until) {
			return resp.StatusCode, string(raw)
		}
	}
}

// TestReadYourWrites: clients create, start, read and delete containers through three
// servers in turn, without sending the index that they have seen. No client sees a
// state older than its own writes.
func TestReadYourWrites(t *testing.T) {
	c := newThreeServers(t, oneLeader)
	var urls []string
	for _, m := range c.members {
		urls = append(urls, m.running().URL())
	}
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}}
	defer web.CloseIdleConnections()
	logs := func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, structs.ChannelStdout, offer.ContainerID)
		_ = servertest.Send(ctx, conn, structs.ChannelControl, `{"done":true}`)
		<-conn.CloseRead(ctx).Done()
	}
	servertest.StartAgent(t.Context(), t, urls[0], "h", servertest.Serve(logs))
	first := &roundRobin{t: t, http: web, urls: urls}
	if status, body := first.do("POST", "/v1/bays?wait=1m", `{"name":"b"}`); status != http.StatusCreated {
		t.Fatalf("make a bay: %d %s", status, body)
	}
	const clients, rounds, kinds = 6, 84, 6
	var working sync.WaitGroup
	var surprised atomic.Int64
	for n := range clients {
		working.Go(func() {
			b := &roundRobin{t: t, http: web, urls: urls, next: n}
			for range rounds {
				if what := life(b); what != "" {
					surprised.Add(1)
					t.Error(what)
				}
			}
		})
	}
	working.Wait()
	if n := surprised.Load(); n > 0 {
		t.Errorf("%d of %d clients' rounds were surprised, of %d requests", n, clients*rounds, clients*rounds*kinds)
	}
}

// life takes one container through its life and reads it after each step. It returns
// what was wrong.
func life(b *roundRobin) string {
	status, body := b.do("POST", "/v1/containers", `{"image":"busybox"}`)
	var made struct{ UUID, Status string }
	if err := json.Unmarshal([]byte(body), &made); status != http.StatusCreated || err != nil {
		return fmt.Sprintf("create: %d %s", status, body)
	}
	path := "/v1/containers/" + made.UUID
	if status, body := b.do("GET", path, ""); status != http.StatusOK {
		return fmt.Sprintf("show after create: %d %s", status, body)
	}
	if status, body := b.do("PUT", path+"/start?wait=20s", ""); status != http.StatusOK {
		return fmt.Sprintf("start after create: %d %s", status, body)
	}
	if status, body := b.do("GET", path+"/logs", ""); status != http.StatusOK || !strings.Contains(body, made.UUID) {
		return fmt.Sprintf("logs after start: %d %s", status, body)
	}
	var list struct {
		Containers []struct{ UUID, Status string }
	}
	status, body = b.do("GET", "/v1/containers", "")
	if err := json.Unmarshal([]byte(body), &list); status != http.StatusOK || err != nil {
		return fmt.Sprintf("list: %d %s", status, body)
	}
	at := slices.IndexFunc(list.Containers, func(c struct{ UUID, Status string }) bool { return c.UUID == made.UUID })
	if at < 0 || list.Containers[at].Status != "Running" {
		return "a list after start doesn't show the container as Running"
	}
	if status, body := b.do("DELETE", path+"?force=true&wait=20s", ""); status != http.StatusNoContent &&
		!(status == http.StatusNotFound && b.repeated) { // the first try has removed it
		return fmt.Sprintf("delete: %d %s", status, body)
	}
	if status, body := b.do("GET", path, ""); status != http.StatusNotFound {
		return fmt.Sprintf("show after delete: %d %s", status, body)
	}
	return ""
}
