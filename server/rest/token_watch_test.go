package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestRevocationEndsLongLivedRequests checks that no stream, terminal or blocking read
// outlives the token that authorized it.
func TestRevocationEndsLongLivedRequests(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens(), servertest.WithEventTick(time.Hour))
	endless := func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, "first\n")
		<-conn.CloseRead(ctx).Done()
	}
	s.StartAgent(t, "host-1", servertest.Serve(endless))
	l := newLocal(t, s)
	owner := l.as(l.token("alice"))
	owner.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201)
	owner.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox","stdin":true,"tty":true}`).is(201)
	owner.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("p", "busybox"), "")).is(201)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// open makes a request, and returns a function that reads the response to its end.
	type reading func() ([]byte, error)
	get := func(path string) func(token string) reading {
		return func(token string) reading {
			r, err := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Auth-Token", token)
			if !strings.Contains(path, "wait=") {
				resp, err := httpClient.Do(r)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s: %v, %v", path, resp, err)
				}
				return func() ([]byte, error) {
					defer resp.Body.Close()
					return io.ReadAll(resp.Body)
				}
			}
			return func() ([]byte, error) {
				resp, err := httpClient.Do(r)
				if err != nil {
					return nil, err
				}
				defer resp.Body.Close()
				if resp.StatusCode == http.StatusUnauthorized {
					return nil, errors.New(resp.Status) // net/http's client has repeated the request
				}
				return io.ReadAll(resp.Body)
			}
		}
	}
	dial := func(url, token string) reading {
		conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: http.Header{"X-Auth-Token": {token}}})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		return func() ([]byte, error) {
			defer conn.CloseNow()
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					return nil, err
				}
			}
		}
	}
	ws := func(path string) func(token string) reading {
		return func(token string) reading { return dial(strings.Replace(s.URL, "http", "ws", 1)+path, token) }
	}
	zun := func(token string) reading {
		url := ""
		r := l.as(token).zun("GET", "/v1/containers/c/attach", "").is(200)
		fmt.Sscanf(string(r.body), "%q", &url)
		return dial(url, "")
	}
	index := s.Store.Index()
	for what, open := range map[string]func(token string) reading{
		"events":            get("/v1/events"),
		"logs":              get("/v1/containers/c/logs?follow=true"),
		"a parked list":     get(fmt.Sprintf("/v1/bays?index=%d&wait=1m", index+1000)),
		"a parked read":     get(fmt.Sprintf("/v1/containers/c?index=%d&wait=1m", index+1000)),
		"attach":            ws("/v1/containers/c/attach/ws"),
		"execute":           ws("/v1/containers/c/execute/ws?command=sh"),
		"forward":           ws("/v1/pods/p/forward/ws?port=80"),
		"a terminal of Zun": zun,
	} {
		for how, end := range map[string]struct {
			expires string
			act     func(token string)
		}{
			"revoked": {act: func(token string) { l.revoke(token) }},
			"expires": {expires: `,"expires_in":2`, act: func(string) {}},
		} {
			if how == "expires" && what != "events" {
				continue // the watch is the same for all, and this takes seconds
			}
			token := l.create(`{"project_id":"p1"` + end.expires + `}`)
			spared := open(l.token("alice")) // requests with another token go on
			read := open(token)
			ended, goesOn := make(chan error, 1), make(chan error, 1)
			go func() {
				body, err := read()
				if err == nil {
					err = fmt.Errorf("it ends as if all were well: %q", body)
				} else {
					err = nil
				}
				ended <- err
			}()
			go func() {
				_, err := spared()
				goesOn <- err
			}()
			select {
			case err := <-ended:
				t.Fatalf("%s, %s: it ended before: %v", what, how, err)
			case <-time.After(10 * time.Millisecond): // it waits already or will soon: either is fine
			}
			end.act(token)
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%s, %s: %v", what, how, err)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s goes on with a token that is %s", what, how)
			}
			select {
			case err := <-goesOn:
				t.Errorf("%s with another token ended, too: %v", what, err)
			default:
			}
		}
	}
}

// TestRevocationEndsEveryRoute checks that the requests of every route end with their
// token, except those of short-lived actions that don't wait. So a new long-lived route
// can't be forgotten.
func TestRevocationEndsEveryRoute(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	l := newLocal(t, s)
	s.StartAgent(t, "host-1")
	type running struct{ started, ended chan struct{} }
	once := &http.Transport{DisableKeepAlives: true} // on a reused connection the client repeats a GET
	tried := 0
	for _, rt := range s.REST.TestRoutes() {
		if strings.HasPrefix(string(rt.Action), "agent:") || strings.HasPrefix(string(rt.Action), "peer:") || rt.Action == identity.Public {
			continue // the route takes a host secret, the peer secret, or no credential
		}
		query, waits := "", slices.Contains(rt.Args, "wait") || slices.Contains(rt.Args, "index")
		for _, name := range rt.Wants {
			query += "&" + name + map[bool]string{true: "=/a", false: "=1"}[name == "path"]
		}
		if rt.ShortLived && !waits {
			if rt.Streams || len(rt.Gives) > 0 ||
				slices.ContainsFunc(rt.Args, func(a string) bool { return a == "stream" || a == "follow" || a == "timeout" }) {
				t.Errorf("%s %s is not over at once", rt.Method, rt.Path)
			}
			continue
		}
		if rt.ShortLived {
			query += "&" + map[bool]string{true: "wait=1m", false: "index=1"}[slices.Contains(rt.Args, "wait")]
		}
		for _, reads := range []bool{false, true} {
			if reads && !rt.Streams {
				continue
			}
			tried++
			now := running{make(chan struct{}), make(chan struct{})}
			rt.Handle(func(_ http.ResponseWriter, r *http.Request) error {
				close(now.started)
				defer close(now.ended)
				if reads {
					_, err := io.Copy(io.Discard, r.Body)
					return err
				}
				<-r.Context().Done()
				return r.Context().Err()
			})
			token := l.create(`{"role":"admin"}`)
			var body io.Reader
			finish := func() {}
			if rt.Takes == "application/json" && !rt.Streams {
				body = strings.NewReader("{}")
			} else if rt.Takes != "" {
				from, to := io.Pipe()                      // which never ends
				body, finish = from, func() { to.Close() } // ends the client's request, which otherwise waits for its body
				go to.Write([]byte("a"))
			}
			r, err := http.NewRequestWithContext(t.Context(), rt.Method, s.URL+fillPath(rt.Path)+"?"+strings.TrimPrefix(query, "&"), body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Auth-Token", token)
			if rt.Takes != "" {
				r.Header.Set("Content-Type", rt.Takes)
			}
			if rt.Zun {
				r.Header.Set(speaksZun.name, speaksZun.value)
			}
			answered := make(chan string, 1)
			go func() {
				resp, err := once.RoundTrip(r)
				if err != nil {
					answered <- ""
					return
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				answered <- fmt.Sprintf("%s %s", resp.Status, text)
			}()
			what := fmt.Sprintf("%s %s (reads its body: %v)", rt.Method, rt.Path, reads)
			select {
			case <-now.started:
			case answer := <-answered:
				t.Errorf("%s was answered: %s", what, answer)
				continue
			}
			l.revoke(token)
			select {
			case <-now.ended:
			case <-time.After(time.Minute):
				t.Fatalf("%s goes on with a token that is revoked", what)
			}
			finish()
			if answer := <-answered; answer != "" {
				t.Errorf("%s was answered after its token was revoked: %s", what, answer)
			}
		}
	}
	if tried < 60 {
		t.Errorf("only %d routes last", tried)
	}
}
