package conductor

import (
	"cmp"

	"github.com/stackforge/magnum/server/conductor/hosts"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// BootstrapToken creates the cluster's first admin token from the hash of its secret.
type BootstrapToken struct {
	ID   string // UUID
	Hash string
}

func (r BootstrapToken) decide(t *scratch.Tx) (*structs.Token, error) {
	cluster := scratch.Row[structs.Cluster](t, structs.ClusterRowID)
	if cluster == nil {
		return nil, structs.Errorf(structs.CodeUnavailable, "the cluster is not initialised yet: try again in a second")
	}
	if made := scratch.Row[structs.Token](t, r.ID); made != nil && made.OpenedBy(r.Hash) {
		return made, nil // an earlier try of the same request
	}
	if cluster.Bootstrapped {
		return nil, ErrBootstrapped()
	}
	changed := *cluster
	changed.Bootstrapped = true
	t.Put(&changed)
	token := &structs.Token{
		Meta: t.Meta(structs.Caller{}, r.ID), Name: "bootstrap", Hash: r.Hash,
		Project: structs.DefaultProject, User: "admin", Role: structs.RoleAdmin,
	}
	t.Put(token)
	return token, nil
}

// ErrBootstrapped returns the refusal of a second bootstrap. CodeConflict.
func ErrBootstrapped() error {
	return structs.Errorf(structs.CodeConflict,
		"the first admin token has been issued already: have its holder, or another admin, create a token with \"magnum token-create\"").
		About(structs.KindToken)
}

// CreateToken creates a token. It gets only the hash of the secret.
type CreateToken struct {
	Caller structs.Caller // who creates it
	Once   Once
	UUID   string        // generated with the secret
	Token  structs.Token // without Meta
}

func (r CreateToken) decide(t *scratch.Tx) (*structs.Token, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Token, error) {
		if t.Get(structs.TableTokens, r.UUID) != nil {
			return nil, structs.Errorf(structs.CodeConflict, "A token with UUID %s already exists.", r.UUID).About(structs.KindToken)
		}
		token := r.Token
		if err := hosts.CheckToken(t, &token); err != nil {
			return nil, err
		}
		token.Meta = t.Meta(r.Caller, r.UUID)
		token.ProjectID = "" // tokens belong to operators, like hosts
		token.Name = cmp.Or(token.Name, structs.GenerateName(token.ID))
		if !token.Join {
			token.User = cmp.Or(token.User, token.Name)
		}
		t.Put(&token)
		return &token, nil
	})
}

// RevokeToken deletes a token. Servers refuse it as soon as they have applied the deletion.
type RevokeToken struct {
	Caller structs.Caller
	Ident  string // UUID or name
}

func (r RevokeToken) decide(t *scratch.Tx) (*structs.Token, error) {
	return deletePlain[*structs.Token](t, r.Caller, structs.KindToken, r.Ident)
}

// ForgetTokens deletes tokens that expired long ago.
type ForgetTokens struct{ IDs []string }

func (r ForgetTokens) decide(t *scratch.Tx) (struct{}, error) {
	for _, id := range r.IDs {
		if token := scratch.Row[structs.Token](t, id); token != nil && !token.ExpiresAt.IsZero() {
			t.Remove(token)
		}
	}
	return struct{}{}, nil
}
