package conductor

import (
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

func TestBootstrapHappensOnce(t *testing.T) {
	h := newHarness(t)
	first := BootstrapToken{ID: structs.NewID(), Hash: structs.HashSecret("one")}
	made := must(h, first)
	if made.Role != structs.RoleAdmin || made.Project != structs.DefaultProject || made.Hash != first.Hash || !made.ExpiresAt.IsZero() {
		t.Errorf("made %+v", made)
	}
	if again := must(h, first); again.ID != made.ID {
		t.Errorf("a retry made %s", again.ID)
	}
	second := BootstrapToken{ID: structs.NewID(), Hash: structs.HashSecret("two")}
	if err := refuse(h, structs.CodeConflict, second); !strings.Contains(err.Error(), "token-create") {
		t.Error(err)
	}
	refuse(h, structs.CodeConflict, BootstrapToken{ID: first.ID, Hash: second.Hash})
	// Revoking the token doesn't allow a second bootstrap.
	must(h, RevokeToken{Caller: root, Ident: first.ID})
	refuse(h, structs.CodeConflict, second)
	refuse(h, structs.CodeConflict, first)
	must(h, InitCluster{ClusterID: structs.NewID(), JoinTokenHash: structs.HashSecret("another")})
	refuse(h, structs.CodeConflict, second)
}

func TestBootstrapWaitsForTheCluster(t *testing.T) {
	tx := scratch.New(state.New().Snapshot(), time.Now())
	if _, err := (BootstrapToken{ID: structs.NewID(), Hash: "x"}).decide(tx); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("without a cluster: %v", err)
	}
}

func TestTokensAreCreatedAndRevoked(t *testing.T) {
	h := newHarness(t)
	make := func(uuid string, token structs.Token, key string) CreateToken {
		return CreateToken{Caller: root, UUID: uuid, Token: token, Once: Once{Key: key, BodyHash: "b"}}
	}
	id := structs.NewID()
	made := must(h, make(id, structs.Token{Name: "ci", Hash: "h1", Project: "p1", Role: structs.RoleMember}, "k"))
	if made.ID != id || made.ProjectID != "" || made.UserID != root.UserID || made.Project != "p1" || made.User != "ci" ||
		made.Role != structs.RoleMember || made.Seq == 0 {
		t.Errorf("made %+v", made)
	}
	if again := must(h, make(structs.NewID(), structs.Token{Name: "ci", Hash: "h2", Project: "p1", Role: structs.RoleMember},
		"k")); again.ID != id || again.Hash != "h1" {
		t.Errorf("a retry made %+v", again)
	}
	refuse(h, structs.CodeConflict, make(id, structs.Token{Name: "ci", Hash: "h3"}, ""))
	nameless := must(h, make(structs.NewID(), structs.Token{Hash: "h4", Join: true}, ""))
	if nameless.Name == "" || nameless.User != "" {
		t.Errorf("a nameless join token is %+v", nameless)
	}
	other := must(h, make(structs.NewID(), structs.Token{Name: "ci", Hash: "h5"}, ""))
	refuse(h, structs.CodeConflict, RevokeToken{Caller: root, Ident: "ci"}) // two tokens have the name
	refuse(h, structs.CodeNotFound, RevokeToken{Caller: root, Ident: "none"})
	refuse(h, structs.CodeNotFound, RevokeToken{Caller: bob, Ident: id})
	must(h, RevokeToken{Caller: root, Ident: other.ID})
	must(h, RevokeToken{Caller: root, Ident: "ci"})
	if h.store.Snapshot().Token(id) != nil || h.store.Snapshot().Token(other.ID) != nil {
		t.Error("a revoked token is still there")
	}
	refuse(h, structs.CodeNotFound, RevokeToken{Caller: root, Ident: id})
}

func TestForgetTokensSparesTokensWithoutExpiry(t *testing.T) {
	h := newHarness(t)
	create := func(expires time.Time) string {
		return must(h, CreateToken{Caller: root, UUID: structs.NewID(), Token: structs.Token{Hash: "h", ExpiresAt: expires}}).ID
	}
	ever, over := create(time.Time{}), create(h.clock)
	must(h, ForgetTokens{IDs: []string{ever, over, structs.NewID()}})
	if snap := h.store.Snapshot(); snap.Token(ever) == nil || snap.Token(over) != nil {
		t.Error("the wrong token is gone")
	}
}

func TestHostsJoinWithTokens(t *testing.T) {
	h := newHarness(t)
	create := func(token structs.Token) string {
		return must(h, CreateToken{Caller: root, UUID: structs.NewID(), Token: token}).ID
	}
	join := create(structs.Token{Hash: structs.HashSecret("j"), Join: true})
	user := create(structs.Token{Hash: structs.HashSecret("u"), Project: "p1", Role: structs.RoleAdmin})
	register := func(host, id, secret string) RegisterHost {
		return RegisterHost{
			HostRegister: structs.HostRegister{HostID: host, Name: "h", Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker}},
			TokenID:      id, TokenHash: structs.HashSecret(secret), SecretHash: structs.HashSecret("host"),
		}
	}
	for what, r := range map[string]RegisterHost{
		"a user's token":             register(structs.NewID(), user, "u"),
		"a join token's bad secret":  register(structs.NewID(), join, "u"),
		"an unknown token":           register(structs.NewID(), structs.NewID(), "j"),
		"the secret without its ID":  register(structs.NewID(), "", "j"),
		"the cluster's under an ID":  register(structs.NewID(), join, "join"),
		"the cluster's wrong":        register(structs.NewID(), "", "joins"),
		"no token":                   register(structs.NewID(), "", ""),
		"no secret of a known token": register(structs.NewID(), join, ""),
	} {
		t.Log(what)
		refuse(h, structs.CodeUnauthenticated, r)
	}
	host := structs.NewID()
	must(h, register(host, join, "j"))
	own := register(structs.NewID(), "", "join") // the cluster's own token
	own.Name = "h2"
	must(h, own)
	must(h, RevokeToken{Caller: root, Ident: join})
	refuse(h, structs.CodeUnauthenticated, register(structs.NewID(), join, "j"))
	if got := must(h, register(host, join, "j")); got.Registration != 2 { // a known host needs no token
		t.Errorf("registration %d", got.Registration)
	}
}
