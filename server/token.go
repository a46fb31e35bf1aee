package server

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// catchUpTimeout is how long a server that does not know a token waits for what
// it may have missed.
const catchUpTimeout = 5 * time.Second

// authenticator returns who knows callers here.
func (s *Server) authenticator(log *replication) identity.Authenticator {
	if s.config.Auth != authToken {
		return identity.None{}
	}
	return identity.Tokens{
		Find: func(id string) *structs.Token { return s.store.Snapshot().Token(id) },
		// While there is no leader it waits for one: a server that has just
		// started would else turn everybody away.
		CatchUp: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
			defer cancel()
			index, err := log.ReadIndex(ctx)
			if err != nil {
				return err
			}
			return s.store.WaitIndex(ctx, index)
		},
	}
}

// An expired token stays in lists for a day, so that people see why somebody
// was refused; then the leader deletes it. No server lets anybody in with it
// meanwhile, so that a leader's wrong clock does little harm.
const (
	forgetAfter = 24 * time.Hour
	forgetTick  = 10 * time.Minute
)

// forgetTokens deletes tokens that have long expired.
func (l *leaderLoops) forgetTokens(ctx context.Context) error {
	tick := time.NewTicker(forgetTick)
	defer tick.Stop()
	for {
		over := l.longExpired(time.Now().Add(-forgetAfter))
		for len(over) > 0 {
			n := min(len(over), structs.MaxChanges)
			_, err := doUntilDecided(ctx, l.conductor, conductor.ForgetTokens{IDs: over[:n]})
			if ctx.Err() != nil {
				return nil
			}
			if err := l.leadershipError("forget tokens", err); err != nil {
				return err
			}
			over = over[n:]
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// longExpired returns the tokens that had expired at the time.
func (l *leaderLoops) longExpired(at time.Time) []string {
	var ids []string
	for r := range l.store.Snapshot().List(structs.TableTokens, "", 0) {
		if r.(*structs.Token).Expired(at) {
			ids = append(ids, r.Base().ID)
		}
	}
	return ids
}
