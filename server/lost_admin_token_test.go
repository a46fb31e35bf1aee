package server

import (
	"context"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestLostAdminTokenIsReplaced follows the manual: all servers are restarted without
// authentication, one after the other, and back.
func TestLostAdminTokenIsReplaced(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader, func(c *Config) { c.Auth = authToken })
	call := func(token string, f func(context.Context, *api.Client) error) error {
		client, err := api.New(api.Config{Address: c.members[0].running().URL(), Token: token})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		return f(ctx, client)
	}
	hosts := func(ctx context.Context, c *api.Client) error {
		_, _, err := c.Hosts().List(ctx, api.QueryOptions{})
		return err
	}
	bootstrap := func(ctx context.Context, c *api.Client) error { _, _, err := c.Tokens().Bootstrap(ctx); return err }
	if err := call("", bootstrap); err != nil { // the answer, and so the token, is lost
		t.Fatal(err)
	}
	if err := call("", bootstrap); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("a second first token: %v", err)
	}
	all := func(auth string) {
		t.Helper()
		for _, m := range c.members {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
			m.config.Auth = auth
			m.start(t)
			c.leader()
		}
		c.awaitSameState()
	}
	all("none")
	var admin string
	err := call("", func(ctx context.Context, c *api.Client) error {
		made, _, err := c.Tokens().Create(ctx, &structs.TokenRequest{Role: structs.RoleAdmin})
		if err == nil {
			admin = made.Token
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all(authToken)
	if err := call(admin, hosts); err != nil {
		t.Errorf("the new token: %v", err)
	}
	if err := call("", hosts); structs.CodeOf(err) != structs.CodeUnauthenticated {
		t.Errorf("without a token: %v", err)
	}
}
