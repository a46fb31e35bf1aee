package conductor

import (
	"context"
	"fmt"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// run decides one batch that begins with first, commits it, and answers it. An
// error ends the leadership's loop: what was being committed is unknown, and
// nothing may be decided on top of it.
func (c *Conductor) run(ctx context.Context, term uint64, clock func() time.Time, first *call) error {
	t := newTx(c.store.Snapshot(), clock())
	batch := c.gather(t, first)
	if err := c.commit(ctx, term, t); err != nil {
		unknown := structs.Errorf(structs.CodeNoLeader,
			"leadership was lost while the request was being committed: it may or may not have been carried out; retry it with the same Idempotency-Key (%w)", ErrUnknown)
		for _, call := range batch {
			call.answer(nil, unknown)
		}
		return err
	}
	for _, call := range batch {
		close(call.done)
	}
	return nil
}

// gather decides first and what waits behind it, up to the limits of one
// entry. The calls' results are set, but not yet answered.
func (c *Conductor) gather(t *tx, first *call) []*call {
	var batch []*call
	next := first
	for {
		c.take(next)
		t.decide(next)
		batch = append(batch, next)
		if len(batch) >= structs.MaxBatch || t.size >= structs.MaxEntry {
			return batch
		}
		select {
		case next = <-c.queue:
		default:
			return batch
		}
	}
}

// decide decides one call; a refused one leaves no change.
func (t *tx) decide(call *call) {
	if err := call.ctx.Err(); err != nil {
		call.err = structs.Errorf(structs.CodeUnavailable, "the client left before its request was decided: %w", err)
		return
	}
	t.begin()
	call.result, call.err = call.decide(t)
	if call.err == nil && t.writes() > structs.MaxChanges {
		call.err = structs.Errorf(structs.CodeInternal, "the request makes %d changes, more than %d", t.writes(), structs.MaxChanges)
	}
	if call.err != nil {
		t.rollback()
	}
}

// commit proposes what the batch comes to and waits until it is applied here.
// A batch without changes answers from what was read, so it makes sure that
// this server still leads.
func (c *Conductor) commit(ctx context.Context, term uint64, t *tx) error {
	changes := t.changes()
	if len(changes) == 0 {
		if err := c.proposer.VerifyLeader(ctx); err != nil {
			return fmt.Errorf("verify leader: %w", err)
		}
		return nil
	}
	data, err := state.EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: term, Prev: t.base.Index(), Changes: changes})
	if err != nil {
		return fmt.Errorf("encode entry: %w", err)
	}
	// A poison entry must die here, not on every replica.
	entry, err := c.store.Prepare(data)
	if err == nil {
		err = t.base.Check(entry.Changes)
	}
	if err != nil {
		return fmt.Errorf("check entry: %w", err)
	}
	if _, err := c.proposer.Propose(ctx, data); err != nil {
		return fmt.Errorf("propose: %w", err)
	}
	return nil
}
