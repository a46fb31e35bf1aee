//go:build openstack

package keystonetest

import (
	"net/http"
	"testing"
	"time"
)

// TestCast: what this package makes is what Keystone then says of tokens.
func TestCast(t *testing.T) {
	k := Open(t)
	c := k.Cast(t)
	expect := func(what, token string, want int) {
		t.Helper()
		if got, _ := k.Validate(t, token); got != want {
			t.Errorf("%s: Keystone validates the token with %d, want %d", what, got, want)
		}
	}
	alice, carol := k.Token(t, c.Alice, c.Alpha), k.Token(t, c.Carol, c.Alpha)
	credential := k.NewCredential(t, c.Alice, c.Alpha, "member")
	expect("alice", alice, http.StatusOK)
	expect("a domain", k.domain(t), http.StatusOK)
	expect("the system", k.SystemToken(t), http.StatusOK)
	expect("no project", k.UnscopedToken(t, c.Bob), http.StatusOK)
	expect("an application credential", k.CredentialToken(t, credential), http.StatusOK)
	expect("the service", k.Token(t, k.ServiceUser(), k.ServiceProject()), http.StatusOK)

	k.RevokeToken(t, alice)
	expect("revoked", alice, http.StatusNotFound)
	k.Withdraw(t, c.Carol, c.Alpha, "reader")
	expect("without roles", carol, http.StatusNotFound)
	bob := k.Token(t, c.Bob, c.Beta)
	k.EnableProject(t, c.Beta, false)
	expect("project disabled", bob, http.StatusNotFound)
}

// domain returns a domain's token.
func (k *Keystone) domain(t *testing.T) string {
	u := k.NewUser(t, "dora")
	k.GrantDomain(t, u, "member")
	return k.DomainToken(t, u)
}

// TestKeystoneOfItsOwn: a Keystone of Start is killed and comes back with its data; its tokens
// expire when they should; a proxy delays it.
func TestKeystoneOfItsOwn(t *testing.T) {
	shared := Open(t)
	k := Start(t, Options{TokenTTL: 10 * time.Minute})
	if k.URL == shared.URL {
		t.Fatalf("both are at %s", k.URL)
	}
	c := k.Cast(t)
	token := k.Token(t, c.Alice, c.Alpha)
	if status, expires := k.Validate(t, token); status != http.StatusOK || time.Until(expires) > 10*time.Minute {
		t.Errorf("the token is validated with %d and expires at %v", status, expires)
	}
	k.Kill(t)
	k.Restart(t, Options{TokenTTL: 10 * time.Minute})
	if status, _ := k.Validate(t, token); status != http.StatusOK {
		t.Errorf("after a restart the token is validated with %d", status)
	}

	p := NewProxy(t, k)
	late := &Keystone{URL: p.URL}
	late.Token(t, c.Bob, c.Beta)
	p.SetDelay(time.Second)
	began := time.Now()
	late.Token(t, c.Bob, c.Beta)
	if took := time.Since(began); took < time.Second || p.Connections() != 2 {
		t.Errorf("through the proxy a login took %v, with %d connections in all", took, p.Connections())
	}
	thaw := k.Freeze(t)
	defer thaw()
	a, err := quick.Get(k.URL)
	if err == nil {
		a.Body.Close()
		t.Error("Keystone answers although it is stopped")
	}
}

// quick gives up soon.
var quick = &http.Client{Timeout: 500 * time.Millisecond}
