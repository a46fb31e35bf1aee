package server

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/server/bootstrap"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// lead runs the parts that only the leader has, until ctx ends with the leadership or
// one of the parts fails. raftlog calls it after a Barrier in this term, so the state
// holds everything that earlier leaders committed.
func (s *Server) lead(ctx context.Context, term uint64) error {
	s.log.Info("leadership gained", "term", term)
	defer s.log.Info("leadership ended", "term", term)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.conductor.Lead(ctx, term) })
	if !s.config.Solo {
		g.Go(func() error { return s.loops.handOverIfDiskFull(ctx) }) // first: the other parts wait for disk space
	}
	g.Go(func() error {
		if err := s.initCluster(ctx); err != nil {
			return fmt.Errorf("initialise the cluster: %w", err)
		}
		for _, step := range conductor.Steps {
			g.Go(func() error { return s.loops.runStep(ctx, step) })
		}
		g.Go(func() error { return s.dispatch.Lead(ctx) })
		g.Go(func() error { return s.loops.expire(ctx) })
		if !s.config.Solo {
			g.Go(func() error { return s.raft.RunMembership(ctx, s.membershipConfig()) })
			g.Go(func() error { return s.loops.raiseSchema(ctx) })
		}
		g.Go(func() error { return s.loops.forgetTokens(ctx) })
		return nil
	})
	return g.Wait()
}

// initCluster writes the cluster's row and, in a new cluster, the default bay. It waits
// for the conductor to start.
func (s *Server) initCluster(ctx context.Context) error {
	init := conductor.InitCluster{
		ClusterID: cmp.Or(s.raft.ClusterID(), structs.NewID()), PeerSecret: structs.NewSecret(),
		Replace: s.config.JoinToken != "" || s.config.BootstrapExpect == 1, HostLostAfter: s.config.HostLostAfter,
	}
	var err error
	if init.Schema, err = s.servers.schemaOfAll(); err != nil {
		return err
	}
	if s.joinToken == "" && s.store.Snapshot().Cluster() == nil {
		token, err := bootstrap.MintJoinToken(s.config.DataDir)
		if err != nil {
			return err
		}
		s.log.Info("agents register with the join token in a file on this server", "path", bootstrap.JoinTokenPath(s.config.DataDir))
		s.joinToken = token
	}
	if s.joinToken != "" {
		init.JoinTokenHash = structs.HashSecret(s.joinToken)
	}
	cluster, err := doUntilDecided(ctx, s.conductor, init)
	if err != nil {
		return err
	}
	if s.raft.ClusterID() == "" { // a single server that has just created its cluster
		if err := s.raft.Join(cluster.ClusterID); err != nil {
			return err
		}
	}
	s.log.Info("cluster", "cluster_id", cluster.ClusterID, "incarnation", cluster.Incarnation)
	if s.config.DefaultBay == "" {
		return nil
	}
	for range s.store.Snapshot().List(structs.TableBays, state.AllProjects, 0) {
		return nil
	}
	operator := structs.Caller{ProjectID: structs.DefaultProject, UserID: structs.DefaultUser, Roles: []structs.Role{structs.RoleAdmin}}
	_, err = doUntilDecided(ctx, s.conductor, conductor.CreateBay{
		Caller: operator, Name: s.config.DefaultBay, NodeCount: 1, Placement: structs.PlacementSpread, Shared: true,
	})
	return err
}

// doUntilDecided repeats a request until the conductor has decided it, however long
// that takes, because nobody else would repeat it.
func doUntilDecided[T any](ctx context.Context, c *conductor.Conductor, r conductor.Request[T]) (T, error) {
	for {
		result, err := conductor.Do(ctx, c, r)
		switch structs.CodeOf(err) {
		case structs.CodeNoLeader, structs.CodeRateLimited, structs.CodeNoSpace:
		default:
			return result, err
		}
		select {
		case <-ctx.Done():
			return result, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// leaderLoops holds what the leader's loops need. The loops ask the conductor for
// follow-up work: after changes, and after time has passed.
type leaderLoops struct {
	id        string // of this server
	log       hclog.Logger
	store     *state.Store
	conductor *conductor.Conductor
	raft      *raftlog.Log
	space     *space
	servers   *directory
}

// stepRetry is the pause after a failed step.
const stepRetry = time.Second

// runStep runs one of the conductor's steps whenever a row has changed that the step
// depends on.
func (l *leaderLoops) runStep(ctx context.Context, step *conductor.Step) error {
	changed := l.store.Subscribe(step.Topics()...)
	defer changed.Close()
	for {
		more, err := doUntilDecided(ctx, l.conductor, conductor.Settle{Step: step})
		if ctx.Err() != nil {
			return nil
		}
		if failed := l.leadershipError(step.String(), err); failed != nil {
			return failed
		}
		if more {
			continue
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(stepRetry)
		}
		select {
		case <-changed.C():
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// leadershipError returns the error that has to end the leadership, or nil for an error
// that is logged and retried later. A request whose entry can't be written must not
// block the requests of users.
func (l *leaderLoops) leadershipError(what string, err error) error {
	switch structs.CodeOf(err) {
	case structs.CodeInternal, structs.CodeTooLarge:
		l.log.Error("leader step failed, will be retried", "step", what, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// schemaTick is how often the leader checks whether all servers understand a later
// schema.
const schemaTick = 2 * time.Second

// raiseSchema switches to a later schema of entries once every server understands it. A
// server of unknown version counts as one that does not.
func (l *leaderLoops) raiseSchema(ctx context.Context) error {
	tick := time.NewTicker(schemaTick)
	defer tick.Stop()
	for {
		all, err := l.servers.schemaOfAll()
		if err != nil {
			return nil // shutting down
		}
		if all > l.store.Snapshot().Cluster().SchemaInUse() {
			if _, err := doUntilDecided(ctx, l.conductor, conductor.RaiseSchema{Schema: all}); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("raise the schema: %w", err)
			}
			l.log.Info("all servers understand a later schema of entries, which is now in use", "schema", all)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// expireTick is how often the leader checks for expired objects.
const expireTick = 10 * time.Second

// expire deletes expired idempotency keys and fails bays whose creation took too long.
// Deadlines run on this leader's own monotonic clock, from when it first saw the
// object: clocks of different machines are never compared.
func (l *leaderLoops) expire(ctx context.Context) error {
	keys, bays := make(deadlines), make(deadlines)
	tick := time.NewTicker(expireTick)
	defer tick.Stop()
	for {
		snap := l.store.Snapshot()
		now := time.Now()
		keys.beginRound()
		for r := range snap.List(structs.TableIdempotency, state.AllProjects, 0) {
			keys.note(r.Base().ID, now, structs.IdempotencyTTL)
		}
		over := keys.expired(now)
		for len(over) > 0 {
			n := min(len(over), structs.MaxChanges)
			_, err := doUntilDecided(ctx, l.conductor, conductor.ExpireKeys{IDs: over[:n]})
			if ctx.Err() != nil {
				return nil
			}
			if err := l.leadershipError("expire idempotency keys", err); err != nil {
				return err
			}
			over = over[n:]
		}
		bays.beginRound()
		for r := range snap.List(structs.TableBays, state.AllProjects, 0) {
			if b := r.(*structs.Bay); b.Status == structs.BayCreating && b.Timeout > 0 {
				bays.note(b.ID, now, time.Duration(b.Timeout)*time.Minute)
			}
		}
		for _, id := range bays.expired(now) {
			_, err := doUntilDecided(ctx, l.conductor, conductor.FailBay{ID: id})
			if ctx.Err() != nil {
				return nil
			}
			if err := l.leadershipError("fail bay", err); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// deadlines maps the ID of an object to its deadline.
type deadlines map[string]*deadline

type deadline struct {
	at   time.Time
	seen bool // since the last beginRound
}

// beginRound begins a round. An object that is not noted in the round is forgotten.
func (d deadlines) beginRound() {
	for _, e := range d {
		e.seen = false
	}
}

// note records that the object exists. Its TTL runs from the first note.
func (d deadlines) note(id string, now time.Time, ttl time.Duration) {
	if e := d[id]; e != nil {
		e.seen = true
		return
	}
	d[id] = &deadline{at: now.Add(ttl), seen: true}
}

// expired ends the round and returns the objects whose deadline has passed.
func (d deadlines) expired(now time.Time) []string {
	var ids []string
	for id, e := range d {
		switch {
		case !e.seen:
			delete(d, id)
		case !now.Before(e.at):
			ids = append(ids, id)
		}
	}
	return ids
}
