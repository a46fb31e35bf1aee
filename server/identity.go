package server

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/identity/keystone"
	"github.com/stackforge/magnum/structs"
)

// openIdentity reads the files of the policy and of Keystone. It is called before anything
// is opened: a server with a refused setting leaves nothing behind.
func (s *Server) openIdentity() (err error) {
	if s.policy, err = identity.OpenPolicy(s.config.PolicyFile); err != nil {
		return err
	}
	if n := s.policy.Changed(); n > 0 {
		s.log.Info("the policy file changes rules", "file", s.config.PolicyFile, "rules", n)
	}
	if !s.config.Keystone.Given() {
		return nil
	}
	s.keystone, err = keystone.New(s.config.Keystone, s.config.Logger.Named("keystone"),
		func(result string, took time.Duration) { s.metrics.Validated(result, took) })
	return err
}

// catchUpTimeout bounds how long a server that doesn't know a token waits to catch up
// with the leader.
const catchUpTimeout = 5 * time.Second

// authenticator returns the authenticator that Config.Auth selects.
func (s *Server) authenticator(log *replication) identity.Authenticator {
	find := func(id string) *structs.Token { return s.store.Snapshot().Token(id) }
	tokens := identity.Tokens{
		Find: find,
		// This waits for a leader: otherwise a server that has just started would
		// refuse every caller.
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
	local := &identity.Unknown{Tokens: tokens, Known: func(text string) bool {
		id, _, ok := structs.ParseToken(text)
		return !ok || find(id) != nil
	}}
	switch {
	case s.config.Auth == authNone:
		return identity.None{}
	case s.keystone == nil:
		return local
	case s.config.Auth == authKeystone:
		return identity.Chain{Keystone: s.keystone}
	}
	return identity.Chain{Local: local, Keystone: s.keystone}
}

// authURI returns the URL at which clients get tokens, "" if there is none.
func (s *Server) authURI() string {
	if s.keystone == nil {
		return ""
	}
	return s.keystone.URI()
}

// reloadPolicy reads the policy file again. If it can't be read or is refused, the error
// is logged and the old rules stay in force.
func (s *Server) reloadPolicy() {
	if s.config.PolicyFile == "" {
		return
	}
	if err := s.policy.Reload(); err != nil {
		s.log.Error("the policy file can't be reloaded, the old rules stay in force", "error", err)
		return
	}
	s.log.Info("policy reloaded", "file", s.config.PolicyFile, "rules", s.policy.Changed())
}
