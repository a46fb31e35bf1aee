package server

import (
	"context"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

func TestTokensSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	run := func() (srv *Server, stop func()) {
		t.Helper()
		srv, err := New(Config{DataDir: dir, HTTPPort: -1, Solo: true, Auth: "token"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- srv.Run(ctx) }()
		return srv, func() {
			t.Helper()
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
	}
	as := func(srv *Server, token string) *api.Client {
		t.Helper()
		c, err := api.New(api.Config{Address: srv.URL(), Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	srv, stop := run()
	first, _, err := as(srv, "").Tokens().Bootstrap(ctx)
	for structs.CodeOf(err) == structs.CodeUnavailable { // the cluster's row is not there yet
		first, _, err = as(srv, "").Tokens().Bootstrap(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := as(srv, first.Token).Tokens().Create(ctx, &structs.TokenRequest{ProjectID: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	stop()

	// A server that has just started has no state yet, but must not refuse a token for
	// that.
	srv, stop = run()
	defer func() { stop() }()
	if _, _, err := as(srv, made.Token).Bays().List(ctx, api.QueryOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := as(srv, first.Token).Tokens().Revoke(ctx, made.UUID); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", made.Token, structs.FormatToken(structs.NewID(), structs.NewSecret())} {
		if _, _, err := as(srv, token).Bays().List(ctx, api.QueryOptions{}); structs.CodeOf(err) != structs.CodeUnauthenticated {
			t.Errorf("with %.8s: %v", token, err)
		}
	}
	if _, _, err := as(srv, "").Tokens().Bootstrap(ctx); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("a second bootstrap: %v", err)
	}
	stop()

	srv, stop = run()
	if _, _, err := as(srv, made.Token).Bays().List(ctx, api.QueryOptions{}); structs.CodeOf(err) != structs.CodeUnauthenticated {
		t.Errorf("revoked, after a restart: %v", err)
	}
}

func TestLongExpiredTokensAreForgotten(t *testing.T) {
	srv := serve(t, Config{Auth: "token"})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	now := time.Now().UTC()
	create := func(expires time.Time) string {
		t.Helper()
		token, err := doUntilDecided(ctx, srv.conductor, conductor.CreateToken{UUID: structs.NewID(), Token: structs.Token{Hash: "h",
			ExpiresAt: expires}})
		if err != nil {
			t.Fatal(err)
		}
		return token.ID
	}
	ever, fresh, long := create(time.Time{}), create(now.Add(-time.Hour)), create(now.Add(-2*forgetAfter))
	if got := srv.loops.longExpired(now.Add(-forgetAfter)); len(got) != 1 || got[0] != long {
		t.Errorf("long expired: %v, want %s", got, long)
	}
	forgetting, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.loops.forgetTokens(forgetting) }()
	for srv.store.Snapshot().Token(long) != nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if snap := srv.store.Snapshot(); snap.Token(long) != nil || snap.Token(fresh) == nil || snap.Token(ever) == nil {
		t.Error("the wrong tokens are forgotten")
	}
}
