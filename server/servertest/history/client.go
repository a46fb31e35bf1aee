package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// Client makes one call after the other. It must never get a state older than one that it
// has seen.
type Client struct {
	w      *Workload
	number int
	random *rand.Rand
	root   func(failed bool) string
	failed bool   // the last call got no usable answer
	seen   uint64 // the highest X-Magnum-Index so far
	calls  int
}

// Client returns a client whose choices depend on the seed. root returns the URL of the
// server to call next, "" if no server runs; failed tells that the last server gave no
// usable answer.
func (w *Workload) Client(number int, seed uint64, root func(failed bool) string) *Client {
	return &Client{w: w, number: number, random: rand.New(rand.NewPCG(seed, uint64(number))), root: root}
}

// retryFor bounds the retries of a create with an Idempotency-Key.
const retryFor = 20 * time.Second

// Step does a random operation on a random object and records it. Every second create has
// an Idempotency-Key, and is retried until its outcome is known.
func (c *Client) Step(ctx context.Context) {
	o := c.w.take(c.random)
	defer c.w.give(o)
	kinds := c.w.Resource.kinds()
	op := Op{Kind: kinds[c.random.IntN(len(kinds))], ID: o.id}
	c.calls++
	if op.Kind == Create || op.Kind == Patch {
		op.Value = fmt.Sprintf("v%d-%d", c.number, c.calls)
	}
	if op.Kind == Create && c.random.IntN(2) == 0 {
		op.Key = structs.NewID()
	}
	from := time.Since(c.w.began)
	out := c.call(op)
	for until := time.Now().Add(retryFor); op.Key != "" && out.Verdict == Unknown && time.Now().Before(until) && ctx.Err() == nil; {
		again := c.call(op)
		if again.Verdict == Conflict {
			break // another client's object exists: when it is deleted, the first attempt may still succeed
		}
		if again.Verdict != Refused { // a refusal tells nothing about the first attempt
			out = again
		}
	}
	c.w.record(c.number, o, op, out, from, time.Since(c.w.began))
}

// call makes one call and checks its index.
func (c *Client) call(op Op) Outcome {
	root := c.root(c.failed)
	if root == "" {
		time.Sleep(10 * time.Millisecond) // no event tells when the test starts a server again
		return Outcome{Verdict: Refused, Said: "no server runs"}
	}
	out := c.w.Ask(root, c.seen, op)
	c.failed = out.Verdict == Unknown || out.Verdict == Refused
	if out.Verdict == Done || out.Verdict == Missing || out.Verdict == Conflict {
		switch {
		case out.Index == 0 && op.Kind != Stale: // a server that has just started answers stale reads without an index
			out.Verdict, out.Said = Wrong, "no index: "+out.Said
		case (op.Kind == Read || op.Kind == Default) && out.Index < c.seen:
			out.Verdict, out.Said = Wrong, fmt.Sprintf("I2: index %d after %d: %s", out.Index, c.seen, out.Said)
		}
		c.seen = max(c.seen, out.Index)
	}
	return out
}

// Ask makes one call to the server at root and records nothing. seen is the least index of
// the answer, 0 for any.
func (w *Workload) Ask(root string, seen uint64, op Op) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), w.Timeout)
	defer cancel()
	r, err := w.Resource.request(root, op)
	if err != nil {
		return Outcome{Verdict: Wrong, Said: err.Error()}
	}
	if seen > 0 && op.Kind != Stale {
		r.Header.Set(peer.HeaderIndex, strconv.FormatUint(seen, 10))
	}
	// net/http repeats a request with an Idempotency-Key if the connection breaks. If it
	// can't connect then, the first attempt may still have been carried out.
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }})
	resp, err := w.http.Do(r.WithContext(ctx))
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" && !written.Load() {
		return Outcome{Verdict: Refused, Said: err.Error()}
	}
	if err != nil {
		return Outcome{Verdict: Unknown, Said: err.Error()}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return Outcome{Verdict: Unknown, Said: err.Error()}
	}
	out := Outcome{Said: fmt.Sprintf("%s of %s: %.200s", resp.Status, root, raw)}
	out.Index, _ = strconv.ParseUint(resp.Header.Get(peer.HeaderIndex), 10, 64) // 0 without the header
	out.Verdict = w.Resource.verdict(op, resp.StatusCode, resp.Header.Get(peer.HeaderOutcome) == peer.OutcomeUnknown, raw)
	if op.Kind.reads() && out.Verdict == Done && resp.StatusCode == http.StatusOK {
		var ok bool
		if out.Value, ok = w.Resource.value(raw, op.ID); !ok {
			out.Verdict = Wrong
		}
	}
	return out
}
