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

// Token is a local token: a secret that the cluster issued, with the project, user and
// role that it stands for. The conductor writes it for operators, and it never
// changes. The row belongs to operators: Meta.ProjectID is "", and Meta.UserID is the
// user who created it.
type Token struct {
	Meta
	Name      string    // for people; not unique
	Hash      string    // HashSecret of the secret, which is not stored
	Project   string    // project that the token gives access to; "" for a join token
	User      string    // user that the token stands for; "" for a join token
	Role      Role      // role in the project; "" for a join token
	ExpiresAt time.Time // UTC, whole seconds; zero means never. Each server compares it with its own clock; no entry depends on it
	Join      bool      // a join token: agents register with it, and nothing else can be done with it

	// Of a join token, from SchemaHosts on.
	MaxHosts int               // how many hosts that registered with it there may be at a time; 0 means any number
	Labels   map[string]string // that a host gets which registers with it
}

// Table says which table the row belongs to.
func (*Token) Table() Table { return TableTokens }

// RowName returns the token's name.
func (t *Token) RowName() string { return t.Name }

// Expired reports whether the token has expired.
func (t *Token) Expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// OpenedBy reports whether the hash is that of the token's secret. It compares in
// constant time.
func (t *Token) OpenedBy(hash string) bool {
	return t.Hash != "" && subtle.ConstantTimeCompare([]byte(hash), []byte(t.Hash)) == 1
}

// tokenPrefix begins all local tokens, so that scanners for leaked secrets find them.
const tokenPrefix = "mgt_"

// FormatToken returns the text of a local token, as clients send it.
func FormatToken(id, secret string) string { return tokenPrefix + id + "_" + secret }

// IsLocalToken reports whether a text has the form in which all local tokens begin. No
// other is looked up in the state.
func IsLocalToken(text string) bool { return strings.HasPrefix(text, tokenPrefix) }

// ParseToken splits a token into its ID and secret. ok is false if the text is not a
// local token.
func ParseToken(text string) (id, secret string, ok bool) {
	rest, ours := strings.CutPrefix(text, tokenPrefix)
	id, secret, parted := strings.Cut(rest, "_")
	if !ours || !parted || !IsID(id) || secret == "" || len(secret) > MaxName {
		return "", "", false
	}
	return id, secret, true
}

// CheckOwner checks the ID of a project or user that a token is for. "*" stands for all
// projects, so that nobody may have it as an ID. CodeInvalid.
func CheckOwner(field, id string) error {
	if id == "*" {
		return Invalid(field, id, "It stands for all projects: name one, and use the role admin to see all.")
	}
	return CheckLine(field, id, MaxName)
}

// MaxTokenDays is the longest time in days after which a token may expire.
const MaxTokenDays = 3650

// TokenRequest is the body of POST /v1/tokens. Absent and null mean the same.
//
//api:doc A token to create. Absent and null mean the same.
type TokenRequest struct {
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name *string `json:"name,omitempty"`
	//api:doc Project that the token gives access to; defaults to the caller's.
	ProjectID string `json:"project_id,omitempty"`
	//api:doc User that the token stands for; defaults to the token's name.
	UserID string `json:"user_id,omitempty"`
	//api:doc admin, member or reader; defaults to member.
	Role Role `json:"role,omitempty"`
	//api:doc Seconds until the token expires; 0 or absent means never.
	ExpiresIn *int `json:"expires_in,omitempty"`
	//api:doc Whether it is a join token, with which agents register and nothing else can be done.
	Join bool `json:"join,omitempty"` // excludes project_id, user_id and role
	//api:doc Of a join token: how many hosts that registered with it there may be at a time; 0 or absent means any number.
	MaxHosts *int `json:"max_hosts,omitempty"`
	//api:doc Of a join token: labels that a host gets which registers with it. Bays choose hosts by them.
	Labels map[string]string `json:"labels,omitempty"`
}

// TokenBody is a token as the API shows it, without its secret and the hash.
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
	//api:doc Of a join token: how many hosts that registered with it there may be at a time; 0 means any number.
	MaxHosts int `json:"max_hosts"`
	//api:doc Of a join token: labels that a host gets which registers with it.
	Labels map[string]string `json:"labels"`
	//api:doc When the token expires; null means never.
	ExpiresAt Time `json:"expires_at"`
	//api:doc Whether the token has expired and is refused.
	Expired bool `json:"expired"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc User who created the token.
	CreatedBy *string `json:"created_by"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
}

// TokenSecretBody is a newly created token with its secret, which is not shown again.
//
//api:doc A newly created token. Its secret is not shown again.
type TokenSecretBody struct {
	TokenBody
	//api:doc Value for X-Auth-Token; a join token is for agents.
	Token string `json:"token"`
}
