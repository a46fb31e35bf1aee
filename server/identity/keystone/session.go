package keystone

import (
	"context"
	"slices"
	"time"

	"github.com/stackforge/magnum/structs"
)

// outageGrace is how long a request that goes on may do so while Keystone can't be asked
// whether its token was revoked.
const outageGrace = 5 * time.Minute

// outagePause is the pause before Keystone is asked again in that time.
const outagePause = 2 * time.Second

// session is a token whose end long requests wait for. All requests with the token share
// its validations.
type session struct {
	of      *Authenticator
	token   string
	expired bool           // the token may have expired
	ends    time.Time      // expiry of the token; zero if it may have expired
	roles   []structs.Role // that the requests were allowed by
}

// Ends waits until the token is revoked, has expired, or has lost a role that it had, and
// returns true. It returns false if the context ends first. A revocation is seen when the
// cached answer is too old to be used, as for new requests.
func (s *session) Ends(ctx context.Context) bool {
	confirmed := time.Now()
	for !s.over(time.Now()) {
		e, err := s.of.validate(ctx, s.token, s.expired)
		wait := outagePause
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			if !s.has(e.caller.Roles) {
				return true
			}
			confirmed = e.asked
			wait = time.Until(e.until)
		case structs.CodeOf(err) != structs.CodeUnavailable, time.Since(confirmed) > outageGrace:
			return true
		}
		if !s.ends.IsZero() {
			wait = min(wait, time.Until(s.ends))
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
	return true
}

// has reports whether all roles of the session are among the given ones.
func (s *session) has(roles []structs.Role) bool {
	return !slices.ContainsFunc(s.roles, func(r structs.Role) bool { return !slices.Contains(roles, r) })
}

func (s *session) over(now time.Time) bool { return !s.ends.IsZero() && !now.Before(s.ends) }

// Check returns CodeUnauthenticated if the token has expired or is known to be revoked.
func (s *session) Check() error {
	now := s.of.now()
	if _, refused := s.of.cache.find(keyOf(s.token, s.expired), now); refused || s.over(now) {
		return structs.Errorf(structs.CodeUnauthenticated, "The token was revoked or has expired while the request was received")
	}
	return nil
}
