package rest

import (
	"cmp"
	"iter"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// tokens belong to no project: the policy lets only operators see them. What
// is shown of one never has its secret, which nobody keeps, nor the hash.
var tokens = &resource{
	noun: "tokens", kind: structs.KindToken, table: structs.TableTokens,
	// Whoever asks, they are in project "".
	rows: func(v view, _ string, after uint64) iter.Seq[structs.Row] {
		return v.snap.List(structs.TableTokens, "", after)
	},
	watches: func(string) []watch { return []watch{{structs.TableTokens, ""}} },
	sorts: map[string]func(a, b structs.Row) int{
		"name": by(func(t *structs.Token) string { return t.Name }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name": filterName(func(r structs.Row) string { return r.(*structs.Token).Name }),
	},
	brief: func(v view, r structs.Row) any { return v.token(r.(*structs.Token)) },
	full:  func(v view, r structs.Row) any { return v.token(r.(*structs.Token)) },
}

// token returns the token as operators see it.
func (v view) token(t *structs.Token) structs.TokenBody {
	body := structs.TokenBody{
		UUID: t.ID, Name: t.Name, ProjectID: wire.OrNull(t.Project), UserID: wire.OrNull(t.User), Join: t.Join,
		ExpiresAt: structs.Time{Time: t.ExpiresAt}, Expired: t.Expired(time.Now()), CreatedAt: structs.Time{Time: t.CreatedAt},
		CreatedBy: wire.OrNull(t.UserID), Links: v.links("tokens", t.ID),
	}
	if t.Role != "" {
		body.Role = &t.Role
	}
	return body
}

var tokenShape = wire.NewShape(structs.KindToken, structs.TokenRequest{}, structs.TokenBody{})

// createToken mints a token. Its secret leaves with this answer and is kept
// nowhere: what is proposed has its hash only.
func createToken(q *request) error {
	var body structs.TokenRequest
	once, err := q.decode(tokenShape, &body)
	if err != nil {
		return err
	}
	token, err := tokenOf(q.caller(), &body, time.Now())
	if err != nil {
		return err
	}
	id, secret := q.newID(), q.newSecret()
	token.Hash = structs.HashSecret(secret)
	t, err := create(q, id, true, conductor.CreateToken{Caller: q.caller(), Once: once, UUID: id, Token: token})
	if err != nil {
		return err
	}
	if t.ID != id {
		return structs.Errorf(structs.CodeConflict, "the token %s was made by an earlier request with this Idempotency-Key, and its secret is shown only once: revoke it, and make another with a new key", t.ID).About(structs.KindToken)
	}
	q.Logger.Info("token made", "request_id", q.w.requestID, "token_id", t.ID, "user_id", q.caller().UserID, "project_id", t.Project, "role", t.Role, "join", t.Join)
	tokens.locate(q, t)
	return q.showSecret(t, secret)
}

// showSecret answers with a token that was just made, and its secret.
func (q *request) showSecret(t *structs.Token, secret string) error {
	q.w.Header().Set("Cache-Control", "no-store")
	return q.json(http.StatusCreated, structs.TokenSecretBody{
		TokenBody: q.view(q.Store.Snapshot()).token(t), Token: structs.FormatToken(t.ID, secret),
	})
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
			return t, wire.Invalid("expires_in", *body.ExpiresIn, "It is a number of seconds in 0..%d; 0 is never.", most)
		}
		t.ExpiresAt = now.UTC().Truncate(time.Second).Add(time.Duration(*body.ExpiresIn) * time.Second)
	}
	if t.Join {
		if t.Project != "" || t.User != "" || t.Role != "" {
			return t, wire.Invalid("join", true, "A join token is for agents and has no project_id, user_id or role.")
		}
		return t, nil
	}
	t.Project, t.Role = cmp.Or(t.Project, caller.ProjectID), cmp.Or(t.Role, structs.RoleMember)
	switch t.Role {
	case structs.RoleAdmin, structs.RoleMember, structs.RoleReader:
		return t, nil
	}
	return t, wire.Invalid("role", t.Role, "It is none of %s, %s, %s.", structs.RoleAdmin, structs.RoleMember, structs.RoleReader)
}

func revokeToken(q *request) error {
	t, gone, err := remove(q, conductor.RevokeToken{Caller: q.caller(), Ident: q.ident()})
	if err != nil {
		return err
	}
	if !gone {
		q.Logger.Info("token revoked", "request_id", q.w.requestID, "token_id", t.ID, "user_id", q.caller().UserID)
	}
	return q.noContent()
}

// bootstrap gives out the first admin token, to whoever asks first. It asks the
// conductor only while nobody has: a flood of requests costs a look at the
// state each.
func bootstrap(q *request) error {
	if !q.LocalTokens {
		return structs.Errorf(structs.CodeConflict, "this server asks for no tokens of its own: it takes -auth token to have some")
	}
	if cluster := q.Store.Snapshot().Cluster(); !q.forwarded && cluster != nil && cluster.Bootstrapped {
		return conductor.ErrBootstrapped()
	}
	id, secret := q.newID(), q.newSecret()
	// A repeat finds the token of the earlier try by its ID.
	t, err := onLeader(q, true, func(bool) (*structs.Token, error) {
		return conductor.Do(q.r.Context(), q.Conductor, conductor.BootstrapToken{ID: id, Hash: structs.HashSecret(secret)})
	})
	if err != nil {
		return err
	}
	q.Logger.Warn("first admin token given out", "request_id", q.w.requestID, "token_id", t.ID, "addr", q.r.RemoteAddr)
	return q.showSecret(t, secret)
}
