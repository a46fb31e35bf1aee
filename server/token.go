package server

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// tenants reports whether callers are authenticated, so that the projects have to be kept
// apart.
func (c Config) tenants() bool { return c.Auth != authNone }

// An expired token stays in lists for a day, so that users see why they were refused;
// then the leader deletes it. No server accepts an expired token, so a leader's wrong
// clock does little harm.
const (
	forgetAfter = 24 * time.Hour
	forgetTick  = 10 * time.Minute
)

// forgetTokens deletes tokens that expired at least forgetAfter ago.
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

// longExpired returns the IDs of the tokens that had expired at the given time.
func (l *leaderLoops) longExpired(at time.Time) []string {
	var ids []string
	for r := range l.store.Snapshot().List(structs.TableTokens, "", 0) {
		if r.(*structs.Token).Expired(at) {
			ids = append(ids, r.Base().ID)
		}
	}
	return ids
}
