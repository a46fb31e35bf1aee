package service

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// AwaitRow waits until done is true for the row, or atMost has passed. It returns the
// row as it is then, nil if it was deleted. done is called with nil for a deleted row, and
// when one of the other topics fires.
func (s *Service) AwaitRow(
	ctx context.Context, c *Call, row structs.Row, atMost time.Duration, done func(structs.Row) bool, other ...state.Topic,
) structs.Row {
	table, id := row.Table(), row.Base().ID
	sub := s.config.Store.Subscribe(append(other, state.TopicRow(table, id))...) // before the first look, so that no change is missed
	defer sub.Close()
	c.Transport.MarkWaiting()
	over := time.NewTimer(atMost)
	defer over.Stop()
	for {
		now := s.Snapshot().Get(table, id)
		if done(now) {
			return now
		}
		select {
		case <-sub.C():
			continue
		case <-over.C:
		case <-ctx.Done():
		}
		return s.Snapshot().Get(table, id)
	}
}

// CheckToken refuses a caller if its token was revoked or has expired since the request
// was authenticated. id is the token's, and "" is accepted. CodeUnauthenticated.
func (s *Service) CheckToken(id string) error {
	if id == "" {
		return nil
	}
	if token := s.Snapshot().Token(id); token == nil || token.Expired(time.Now()) {
		return structs.Errorf(structs.CodeUnauthenticated, "The token was revoked or has expired while the request was received")
	}
	return nil
}

// TokenEnds waits until the token is revoked or has expired, and returns true. It
// returns false if the context ends first.
func (s *Service) TokenEnds(ctx context.Context, id string) bool {
	changed := s.config.Store.Subscribe(state.TopicRow(structs.TableTokens, id))
	defer changed.Close()
	for {
		token := s.Snapshot().Token(id)
		if token == nil || token.Expired(time.Now()) {
			return true
		}
		var over <-chan time.Time
		if !token.ExpiresAt.IsZero() {
			over = time.After(time.Until(token.ExpiresAt))
		}
		select {
		case <-changed.C():
		case <-over:
		case <-ctx.Done():
			return false
		}
	}
}
