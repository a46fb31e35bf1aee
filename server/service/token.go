package service

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Tokens carries out requests about this cluster's own tokens.
type Tokens struct{ s *Service }

// Tokens returns the operations on tokens.
func (s *Service) Tokens() Tokens { return Tokens{s} }

// NewToken is a token that was just created.
type NewToken struct {
	Token  *structs.Token
	Secret string // stored nowhere; "" in a forwarded call
}

// MarshalJSON writes the row alone, which is the form between servers: each server
// derives the secret itself.
func (t NewToken) MarshalJSON() ([]byte, error) { return json.Marshal(t.Token) }

// Create creates a token. The secret is part of the answer and stored nowhere: the row
// has only its hash. Errors are CodeInvalid, CodeConflict, and those of onLeader.
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
		return NewToken{t, ""}, nil // the server with the client compares the ID
	}
	if t.ID != id {
		return NewToken{}, structs.Errorf(structs.CodeConflict,
			"the token %s was created by an earlier request with this Idempotency-Key, and its secret is shown only once: "+
				"revoke it, and create another with a new key", t.ID).About(structs.KindToken)
	}
	n.s.config.Logger.Info("token made", "request_id", c.RequestID, "token_id", t.ID, "user_id", c.Caller.UserID, "project_id", t.Project,
		"role", t.Role, "join", t.Join)
	return NewToken{t, secret}, nil
}

// tokenOf makes a row from the request for a token. Errors are CodeInvalid.
func tokenOf(caller structs.Caller, body *structs.TokenRequest, now time.Time) (structs.Token, error) {
	t := structs.Token{Project: body.ProjectID, User: body.UserID, Role: body.Role, Join: bool(body.Join)}
	var err error
	if t.Name, err = checkUUIDAndName("", body.Name); err != nil {
		return t, err
	}
	for field, value := range map[string]string{"project_id": t.Project, "user_id": t.User} {
		if err := structs.CheckOwner(field, value); err != nil {
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
	if !t.Join && (body.MaxHosts != nil || len(body.Labels) > 0) {
		return t, structs.Invalid("join", false, "max_hosts and labels are of join tokens only.")
	}
	if t.Join {
		if body.MaxHosts != nil {
			if t.MaxHosts = *body.MaxHosts; t.MaxHosts < 0 || t.MaxHosts > structs.MaxTokenHosts {
				return t, structs.Invalid("max_hosts", t.MaxHosts, "It is a number of hosts in 0..%d; 0 is any number.",
					structs.MaxTokenHosts)
			}
		}
		if t.Labels = body.Labels; len(t.Labels) > 0 {
			if err := structs.CheckRowLabels("labels", t.Labels); err != nil {
				return t, err
			}
		}
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
	return t, structs.Invalid("role", t.Role, "It must be one of %s, %s, %s.", structs.RoleAdmin, structs.RoleMember, structs.RoleReader)
}

// Revoke revokes a token. Errors are CodeNotFound, CodeConflict, and those of onLeader.
func (n Tokens) Revoke(ctx context.Context, c *Call, ident string) (Removed[*structs.Token], error) {
	t, err := remove(ctx, n.s, c, conductor.RevokeToken{Caller: c.Caller, Ident: ident})
	if err == nil && !t.Gone && !c.Forwarded {
		n.s.config.Logger.Info("token revoked", "request_id", c.RequestID, "token_id", t.Row.ID, "user_id", c.Caller.UserID)
	}
	return t, err
}

// Bootstrap gives out the first admin token, to whoever asks first. addr is the
// caller's address, for the log. Once the token was given out, a request only reads the
// state, so that a flood of them is cheap. Errors are CodeConflict and those of
// onLeader.
func (n Tokens) Bootstrap(ctx context.Context, c *Call, addr string) (NewToken, error) {
	if !n.s.config.LocalTokens {
		return NewToken{}, structs.Errorf(structs.CodeConflict,
			"this server has no tokens of its own: start it with -auth token to have some")
	}
	if cluster := n.s.Snapshot().Cluster(); !c.Forwarded && cluster != nil && cluster.Bootstrapped {
		return NewToken{}, conductor.ErrBootstrapped()
	}
	id, secret := n.s.newID(c), n.s.newSecret(c)
	// A retry finds the token of the earlier try by its ID.
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
