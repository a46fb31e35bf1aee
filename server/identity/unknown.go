package identity

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/stackforge/magnum/structs"
)

const (
	unknownFor = time.Second // how long a refused token is refused without asking again
	maxUnknown = 4096
)

// Unknown is an authenticator that remembers refused tokens for a second: a server that
// doesn't know a token asks the leader before it refuses the token. A token that becomes
// valid within that second was never shown to anybody before it was valid.
type Unknown struct {
	Tokens Authenticator
	// Known reports whether the token can be checked without asking another server.
	Known func(token string) bool

	now     func() time.Time // for tests; nil means time.Now
	mu      sync.Mutex
	refused map[[sha256.Size]byte]refusal
}

type refusal struct {
	err   error
	until time.Time
}

// Knows reports whether the token can be checked without asking another server.
func (a *Unknown) Knows(token string) bool { return a.Known(token) }

// Authenticate returns the caller that the token authenticates. Errors are those of Tokens.
func (a *Unknown) Authenticate(ctx context.Context, c Credentials) (structs.Caller, error) {
	token := c.Token
	if token == "" || a.Known(token) {
		return a.Tokens.Authenticate(ctx, c)
	}
	now := time.Now
	if a.now != nil {
		now = a.now
	}
	key := sha256.Sum256([]byte(token))
	a.mu.Lock()
	r, found := a.refused[key]
	a.mu.Unlock()
	if found && now().Before(r.until) {
		return structs.Caller{}, r.err
	}
	caller, err := a.Tokens.Authenticate(ctx, c)
	if structs.CodeOf(err) == structs.CodeUnauthenticated {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.refused == nil || len(a.refused) >= maxUnknown {
			a.refused = make(map[[sha256.Size]byte]refusal) // forgetting a refusal costs one question to the leader
		}
		a.refused[key] = refusal{err, now().Add(unknownFor)}
	}
	return caller, err
}
