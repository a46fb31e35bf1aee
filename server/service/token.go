package service

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Tokens carries out what callers ask of this cluster's own tokens.
type Tokens struct{ s *Service }

// Tokens returns what callers ask of tokens.
func (s *Service) Tokens() Tokens { return Tokens{s} }

// NewToken is a token that was just made.
type NewToken struct {
	Token  *structs.Token
	Secret string // kept nowhere
}

// MarshalJSON writes the row, which is what servers pass each other: each derives
// the secret itself.
func (t NewToken) MarshalJSON() ([]byte, error) { return json.Marshal(t.Token) }

// Create mints a token. Its secret leaves with the answer and is kept nowhere: what
// is proposed has its hash only. CodeInvalid, CodeConflict, and what no leader
// means.
func (n Tokens) Create(ctx context.Context, c *Call, body *structs.TokenRequest, once conductor.Once) (NewToken, error) {
	token, err := tokenOf(c.Caller, body, time.Now())
	if err != nil {
		return NewToken{}, err
	}
	id, secret := n.s.newID(c), n.s.newSecret(c)
	token.Hash = structs.HashSecret(secret)
	t, err := create(ctx, n.s, c, id, true, conductor.CreateToken{Caller: c.Caller, Once: once, UUID: id, Token: token})
	if err != nil {
		return NewToken{}, err
	}
	if c.Forwarded {
		return NewToken{t, ""}, nil // the server that has the client judges it
	}
	if t.ID != id {
		return NewToken{}, structs.Errorf(structs.CodeConflict,
			"the token %s was made by an earlier request with this Idempotency-Key, and its secret is shown only once: revoke it, and make another with a new key", t.ID).About(structs.KindToken)
	}
	n.s.config.Logger.Info("token made", "request_id", c.RequestID, "token_id", t.ID, "user_id", c.Caller.UserID, "project_id", t.Project,
		"role", t.Role, "join", t.Join)
	return NewToken{t, secret}, nil
}

// tokenOf checks what a request says of a token. Errors are CodeInvalid.
func tokenOf(caller structs.Caller, body *structs.TokenRequest, now time.Time) (structs.Token, error) {
	t := structs.Token{Project: body.ProjectID, User: body.UserID, Role: body.Role, Join: bool(body.Join)}
	var err error
	if t.Name, err = checkIdentity("", body.Name); err != nil {
		return t, err
	}
	for field, value := range map[string]string{"project_id": t.Project, "user_id": t.User} {
		if err := structs.CheckLine(field, value, structs.MaxName); err != nil {
			return t, err
		}
	}
	if body.ExpiresIn != nil && *body.ExpiresIn != 0 {
		const most = structs.MaxTokenDays * 24 * 60 * 60
		if *body.ExpiresIn < 0 || *body.ExpiresIn > most {
			return t, structs.Invalid("expires_in", *body.ExpiresIn, "It is a number of seconds in 0..%d; 0 is never.", most)
		}
		t.ExpiresAt = now.UTC().Truncate(time.Second).Add(time.Duration(*body.ExpiresIn) * time.Second)
	}
	if t.Join {
		if t.Project != "" || t.User != "" || t.Role != "" {
			return t, structs.Invalid("join", true, "A join token is for agents and has no project_id, user_id or role.")
		}
		return t, nil
	}
	t.Project, t.Role = cmp.Or(t.Project, caller.ProjectID), cmp.Or(t.Role, structs.RoleMember)
	switch t.Role {
	case structs.RoleAdmin, structs.RoleMember, structs.RoleReader:
		return t, nil
	}
	return t, structs.Invalid("role", t.Role, "It is none of %s, %s, %s.", structs.RoleAdmin, structs.RoleMember, structs.RoleReader)
}

// Revoke revokes a token. CodeNotFound, CodeConflict, and what no leader means.
func (n Tokens) Revoke(ctx context.Context, c *Call, ident string) (Removed[*structs.Token], error) {
	t, err := remove(ctx, n.s, c, conductor.RevokeToken{Caller: c.Caller, Ident: ident})
	if err == nil && !t.Gone && !c.Forwarded {
		n.s.config.Logger.Info("token revoked", "request_id", c.RequestID, "token_id", t.Row.ID, "user_id", c.Caller.UserID)
	}
	return t, err
}

// Bootstrap gives out the first admin token, to whoever asks first. addr is where
// they ask from, for the log. It asks the conductor only while nobody has: a flood
// of requests costs a look at the state each. CodeConflict, and what no leader
// means.
func (n Tokens) Bootstrap(ctx context.Context, c *Call, addr string) (NewToken, error) {
	if !n.s.config.LocalTokens {
		return NewToken{}, structs.Errorf(structs.CodeConflict,
			"this server asks for no tokens of its own: it takes -auth token to have some")
	}
	if cluster := n.s.Snapshot().Cluster(); !c.Forwarded && cluster != nil && cluster.Bootstrapped {
		return NewToken{}, conductor.ErrBootstrapped()
	}
	id, secret := n.s.newID(c), n.s.newSecret(c)
	// A repeat finds the token of the earlier try by its ID.
	t, err := onLeader(ctx, n.s, c, true, func(bool) (*structs.Token, error) {
		return conductor.Do(ctx, n.s.config.Conductor, conductor.BootstrapToken{ID: id, Hash: structs.HashSecret(secret)})
	})
	if err != nil {
		return NewToken{}, err
	}
	if !c.Forwarded {
		n.s.config.Logger.Warn("first admin token given out", "request_id", c.RequestID, "token_id", t.ID, "addr", addr)
	}
	return NewToken{t, secret}, nil
}
