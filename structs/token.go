package structs

import (
	"crypto/subtle"
	"strings"
	"time"
)

// TableTokens is the table of tokens.
const TableTokens Table = "tokens"

// KindToken names tokens in URLs, error codes and messages.
const KindToken = "token"

// Token is a local token: a secret that the cluster gave out, and on whose
// behalf its holder acts. Written by the conductor for operators; nothing in
// it ever changes. The row itself belongs to the operator: Meta.ProjectID is
// "", and Meta.UserID is who had it made.
type Token struct {
	Meta
	Name      string    // for people; not unique
	Hash      string    // HashSecret of the secret, which is kept nowhere
	Project   string    // project that the holder acts in; "" for a join token
	User      string    // user that the holder acts as; "" for a join token
	Role      Role      // what the holder may do there; "" for a join token
	ExpiresAt time.Time // UTC, whole seconds; zero means never. A server that is asked holds its own clock against it: nothing is decided by it
	Join      bool      // agents register with it, and nothing else can be done with it
}

// Table says which table the row belongs to.
func (*Token) Table() Table { return TableTokens }

// RowName returns the token's name.
func (t *Token) RowName() string { return t.Name }

// Expired reports whether the token's time is over.
func (t *Token) Expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// OpenedBy reports whether the secret with the hash is the token's. It takes
// equally long whatever the hash is.
func (t *Token) OpenedBy(hash string) bool {
	return t.Hash != "" && subtle.ConstantTimeCompare([]byte(hash), []byte(t.Hash)) == 1
}

// tokenPrefix begins all local tokens, so that scanners of leaked secrets find
// them.
const tokenPrefix = "mgt_"

// FormatToken is a local token as its holder has it.
func FormatToken(id, secret string) string { return tokenPrefix + id + "_" + secret }

// ParseToken takes a token apart. ok is false if it is no local token.
func ParseToken(text string) (id, secret string, ok bool) {
	rest, ours := strings.CutPrefix(text, tokenPrefix)
	id, secret, parted := strings.Cut(rest, "_")
	if !ours || !parted || !IsID(id) || secret == "" || len(secret) > MaxName {
		return "", "", false
	}
	return id, secret, true
}

// MaxTokenDays is the longest time after which a token may expire.
const MaxTokenDays = 3650

// TokenRequest is the body of POST /v1/tokens. Absent and null mean the same.
//
//api:doc A token to create. Absent and null mean the same.
type TokenRequest struct {
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name *string `json:"name,omitempty"` // default: a generated, readable one
	//api:doc Project that the token gives access to; defaults to the caller's.
	ProjectID string `json:"project_id,omitempty"` // default: the caller's
	//api:doc User that the token stands for; defaults to the token's name.
	UserID string `json:"user_id,omitempty"` // default: the token's name
	//api:doc admin, member or reader; defaults to member.
	Role Role `json:"role,omitempty"` // default: member
	//api:doc Seconds until the token expires; 0 or absent means never.
	ExpiresIn *int `json:"expires_in,omitempty"` // seconds; default 0: never
	//api:doc Whether it is a join token, with which agents register and nothing else can be done.
	Join bool `json:"join,omitempty"` // for agents; then without project_id, user_id and role
}

// TokenBody is a token as the API shows it: never its secret, nor the hash.
//
//api:doc A local token of this cluster, without its secret.
type TokenBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique.
	Name string `json:"name"`
	//api:doc Project that the token gives access to; null for a join token.
	ProjectID *string `json:"project_id"`
	//api:doc User that the token stands for; null for a join token.
	UserID *string `json:"user_id"`
	//api:doc admin, member or reader; null for a join token.
	Role *Role `json:"role"`
	//api:doc Whether it is a join token, with which agents register and nothing else can be done.
	Join bool `json:"join"`
	//api:doc When the token expires; null means never.
	ExpiresAt Time `json:"expires_at"` // null: never
	//api:doc Whether the token has expired and is refused.
	Expired bool `json:"expired"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc User who created the token.
	CreatedBy *string `json:"created_by"` // user who had it made
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
}

// TokenSecretBody is a token that has just been made, with its secret: the one
// time that it is shown.
//
//api:doc A newly created token. Its secret is not shown again.
type TokenSecretBody struct {
	TokenBody
	//api:doc Value for X-Auth-Token; a join token is for agents.
	Token string `json:"token"`
}
