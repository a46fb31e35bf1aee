package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestRevocationEndsWhatGoesOn checks that no stream, terminal or parked read
// outlives the token that let it in.
func TestRevocationEndsWhatGoesOn(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens(), servertest.WithEventTick(time.Hour))
	endless := func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, "first\n")
		<-conn.CloseRead(ctx).Done()
	}
	s.StartAgent(t, "host-1", servertest.Serve(endless))
	l := newLocal(t, s)
	owner := l.as(l.token("alice"))
	owner.do("POST", "/v1/bays?wait=5s", `{"name":"b1"}`).is(201)
	owner.do("POST", "/v1/containers?run=true&wait=5s", `{"name":"c","image":"busybox","stdin":true,"tty":true}`).is(201)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// open makes a request, and returns what reads it to its end.
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
					return nil, errors.New(resp.Status) // the client has tried again by itself
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
				continue // the guard is the same, and seconds are long
			}
			token := l.create(`{"project_id":"p1"` + end.expires + `}`)
			spared := open(l.token("alice")) // another token's go on
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
			case <-time.After(10 * time.Millisecond): // it is parked, or on its way there: either will do
			}
			end.act(token)
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%s, %s: %v", what, how, err)
				}
			case <-time.After(10 * time.Second):
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
