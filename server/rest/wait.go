package rest

import (
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// waits is the query argument of everything that can wait for its result.
var waits = wire.Arg{Name: "wait", Kind: wire.ArgDuration, Doc: "Answer when it is done or has failed; 202 with the object if it isn't by then."}

// settle waits until the row is as done wants it, for at most the given time,
// and returns the row as it is then; nil if it is gone.
func (q *request) settle(row structs.Row, atMost time.Duration, done func(structs.Row) bool) structs.Row {
	table, id := row.Table(), row.Base().ID
	sub := q.Store.Subscribe(state.TopicRow(table, id)) // before the first look, so that no change is missed
	defer sub.Close()
	q.w.parked = true
	over := time.NewTimer(atMost)
	defer over.Stop()
	for {
		now := q.Store.Snapshot().Get(table, id)
		if done(now) {
			return now
		}
		select {
		case <-sub.C():
			continue
		case <-over.C:
		case <-q.r.Context().Done():
		}
		return q.Store.Snapshot().Get(table, id)
	}
}

// patience returns how long the request wants to wait for its result, and
// whether it said so itself.
func (q *request) patience() (atMost time.Duration, said bool) {
	return q.query.Duration("wait", q.Patience), q.query.Has("wait")
}

// settleContainer waits until the container's host has carried out, or given
// up, the generation that c was given, and returns the container as it is then,
// nil if it is gone. The error says why the attempt failed; done is false if
// the time was over before.
func (q *request) settleContainer(c *structs.Container, atMost time.Duration) (now *structs.Container, done bool, err error) {
	carriedOut := func(row structs.Row) bool {
		now, ok := row.(*structs.Container)
		return !ok || now.Observed.Generation >= c.Generation && now.Observed.Status != ""
	}
	row := q.settle(c, atMost, carriedOut)
	now, _ = row.(*structs.Container)
	if now == nil {
		return nil, true, nil
	}
	done = carriedOut(row)
	// A later generation is somebody else's attempt.
	if done && now.Observed.Failed && now.Observed.Generation == c.Generation {
		return now, true, failed(now)
	}
	return now, done, nil
}

// failed is the error of an attempt that a container's host gave up.
func failed(c *structs.Container) error {
	reason := c.StatusReason()
	if reason == "" {
		reason = "its host gave no reason"
	}
	return structs.Errorf(structs.CodeInternal, "Container %s: %s", c.Name, reason).About(structs.KindContainer)
}

// decode reads the body of a POST into target, and its Idempotency-Key.
func (q *request) decode(s *wire.Shape, target any) (conductor.Once, error) {
	raw, err := q.body()
	if err != nil {
		return conductor.Once{}, err
	}
	if err := s.Decode(raw, target); err != nil {
		return conductor.Once{}, err
	}
	return q.once(raw)
}

// decodePatch reads the body of a PATCH.
func (q *request) decodePatch(rules *wire.PatchRules) (*wire.Patch, error) {
	raw, err := q.body()
	if err != nil {
		return nil, err
	}
	return rules.Parse(raw)
}
