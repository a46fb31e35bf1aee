package conductor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/stackforge/magnum/server/conductor/quotas"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// errUnreadable is in the chain of an error about an entry that was not proposed, because
// it can't be read back or is too large.
var errUnreadable = errors.New("the entry is not proposed")

// run decides one batch that begins with first, commits it, and answers it. An error ends
// the leadership's loop: the outcome of the commit is unknown, and nothing may be decided
// on top of it.
//
// next is the request for which the entry had no room: the next batch begins with it.
func (c *Conductor) run(ctx context.Context, term uint64, clock func() time.Time, first *call) (next *call, err error) {
	began := time.Now()
	t := c.newTx(clock())
	batch, next := c.gather(t, first)
	c.lastBatch = len(batch)
	c.observer.Decided(len(batch), time.Since(began))
	if n, first := t.Skipped(); n > 0 {
		c.log.Error("rows are skipped, because each is larger than an entry of the log", "rows", n, "first", first,
			"limit", structs.MaxEntry)
	}
	err = c.commit(ctx, term, t)
	if errors.Is(err, errUnreadable) {
		return next, c.commitEach(ctx, term, clock, batch, err)
	}
	if err != nil {
		answerUnknown(batch)
		return next, err
	}
	c.answer(batch...)
	return next, nil
}

// commitEach commits each request of a batch in an entry of its own, because their common
// entry can't be read back. The request that causes this is refused and leaves no change;
// the others are carried out.
func (c *Conductor) commitEach(ctx context.Context, term uint64, clock func() time.Time, batch []*call, cause error) error {
	for i, call := range batch {
		if len(batch) > 1 {
			t := c.newTx(clock())
			decideCall(t, call)
			cause = c.commit(ctx, term, t)
		}
		switch {
		case errors.Is(cause, errUnreadable):
			c.log.Error("a request is refused, because its entry can't be read back", "request", fmt.Sprintf("%T", call.request), "error",
				cause)
			call.err = &structs.Error{Code: structs.CodeInternal, Msg: "The servers can't write what was asked for. Nothing was changed.",
				Err: cause}
		case cause != nil:
			answerUnknown(batch[i : i+1])
			for _, later := range batch[i+1:] {
				later.answer(nil, errNotLeader())
			}
			return cause
		}
		c.answer(call)
	}
	return nil
}

func (c *Conductor) answer(calls ...*call) {
	for _, call := range calls {
		if call.err != nil {
			c.observer.Refused(structs.CodeOf(call.err))
		}
		close(call.done)
	}
}

// answerUnknown answers calls whose outcome is unknown.
func answerUnknown(calls []*call) {
	unknown := structs.Errorf(structs.CodeNoLeader,
		"leadership was lost while the request was being committed: it may or may not have been carried out; retry it with the same "+
			"Idempotency-Key (%w)", ErrUnknown)
	for _, call := range calls {
		call.answer(nil, unknown)
	}
}

// A batch of manyRequests means that many clients are at work, and the next of them may
// have to run before its request arrives. So the loop yields the processor, at most
// maxYields times: each batch costs a sync of the disk, whatever it contains. A lone client
// never waits for this.
const (
	manyRequests = 4
	maxYields    = 10
)

// gather decides first and the requests that wait behind it, up to the limits of one entry.
// The results of the batch's calls are set, but not yet answered. next is the call that
// would have made the entry too large, nil if there is none.
func (c *Conductor) gather(t *scratch.Tx, first *call) (batch []*call, next *call) {
	call := first
	for yields := 0; ; {
		if !decideCall(t, call) {
			return batch, call
		}
		batch = append(batch, call)
		if len(batch) >= structs.MaxBatch || t.Size() >= structs.MaxBatchSize {
			return batch, nil
		}
		if len(c.queue) == 0 && len(batch) >= manyRequests && yields < maxYields {
			yields++
			runtime.Gosched()
		}
		select {
		case call = <-c.queue:
			c.dequeued(call)
		default:
			return batch, nil
		}
	}
}

// decideCall decides one call. A refused call leaves no change. decideCall returns false,
// and leaves no change, if the entry has no room for the call beside the requests in it.
func decideCall(t *scratch.Tx, call *call) bool {
	if err := call.ctx.Err(); err != nil {
		call.err = structs.Errorf(structs.CodeUnavailable, "the client left before its request was decided: %w", err)
		return true
	}
	fits, err := t.Do(func() (err error) {
		if call.result, err = call.decide(t); err == nil && !call.free {
			err = quotas.Check(t)
		}
		return err
	})
	call.err = err
	return fits
}

// commit proposes the batch's changes and waits until they are applied here. For a batch
// without changes it verifies that this server still leads.
func (c *Conductor) commit(ctx context.Context, term uint64, t *scratch.Tx) error {
	changes := t.Changes()
	if len(changes) == 0 {
		if err := c.proposer.VerifyLeader(ctx); err != nil {
			return fmt.Errorf("verify leader: %w", err)
		}
		return nil
	}
	// An entry that can't be applied must fail here, not on every server.
	data, err := c.store.Prepare(t.Base, &structs.Entry{Schema: t.Base.Cluster().SchemaInUse(), Term: term, Prev: t.Base.Index(),
		Changes: changes})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if len(data) > structs.MaxEntry { // the computed sizes were wrong
		return fmt.Errorf("%w: it has %d bytes, more than %d", errUnreadable, len(data), structs.MaxEntry)
	}
	began := time.Now()
	if _, err := c.proposer.Propose(ctx, data); err != nil {
		return fmt.Errorf("propose: %w", err)
	}
	c.observer.Committed(time.Since(began), len(data))
	return nil
}
