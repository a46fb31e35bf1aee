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

// Client does one thing after the other, and must never be shown a state older
// than one that it has seen.
type Client struct {
	w      *Workload
	number int
	random *rand.Rand
	root   func(failed bool) string
	failed bool   // the last call had no answer of a server that works
	seen   uint64 // the highest X-Magnum-Index
	calls  int
}

// Client returns a client that chooses by the seed. root returns the URL of the
// server to ask next, "" if there is none just now; failed tells that the last
// one gave no answer that one could use.
func (w *Workload) Client(number int, seed uint64, root func(failed bool) string) *Client {
	return &Client{w: w, number: number, random: rand.New(rand.NewPCG(seed, uint64(number))), root: root}
}

// keyFor is how long a create with an Idempotency-Key is tried again.
const keyFor = 20 * time.Second

// Step does something with some object. Every second create has an
// Idempotency-Key, and is sent again until its outcome is known.
func (c *Client) Step(ctx context.Context) {
	o := c.w.take(c.random)
	defer c.w.give(o)
	kinds := c.w.Noun.kinds()
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
	for until := time.Now().Add(keyFor); op.Key != "" && out.Verdict == Unknown && time.Now().Before(until) && ctx.Err() == nil; {
		again := c.call(op)
		if again.Verdict == Conflict {
			break // with somebody else's object: once that is gone, the first try may still come through
		}
		if again.Verdict != Refused { // that says nothing of the first try
			out = again
		}
	}
	c.w.note(c.number, o, op, out, from, time.Since(c.w.began))
}

// call makes one call.
func (c *Client) call(op Op) Outcome {
	root := c.root(c.failed)
	if root == "" {
		time.Sleep(10 * time.Millisecond) // nothing to wait for: the test starts a server in a moment
		return Outcome{Verdict: Refused, Said: "no server runs"}
	}
	out := c.w.Ask(root, c.seen, op)
	c.failed = out.Verdict == Unknown || out.Verdict == Refused
	if out.Verdict == Done || out.Verdict == Missing || out.Verdict == Conflict {
		switch {
		case out.Index == 0 && op.Kind != Stale: // which a server answers that has just started
			out.Verdict, out.Said = Wrong, "no index: "+out.Said
		case (op.Kind == Read || op.Kind == Default) && out.Index < c.seen:
			out.Verdict, out.Said = Wrong, fmt.Sprintf("I2: index %d after %d: %s", out.Index, c.seen, out.Said)
		}
		c.seen = max(c.seen, out.Index)
	}
	return out
}

// Ask makes one call of the server at root and records nothing. seen is the
// index that the answer may not be older than, 0 for none.
func (w *Workload) Ask(root string, seen uint64, op Op) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), w.Timeout)
	defer cancel()
	r, err := w.Noun.request(root, op)
	if err != nil {
		return Outcome{Verdict: Wrong, Said: err.Error()}
	}
	if seen > 0 && op.Kind != Stale {
		r.Header.Set(peer.HeaderIndex, strconv.FormatUint(seen, 10))
	}
	// The library sends what has an Idempotency-Key again by itself if the
	// connection breaks, and may then find nobody who takes it.
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
	out.Index, _ = strconv.ParseUint(resp.Header.Get(peer.HeaderIndex), 10, 64) // 0 is none
	out.Verdict = w.Noun.verdict(op, resp.StatusCode, resp.Header.Get(peer.HeaderOutcome) == peer.OutcomeUnknown, raw)
	if op.Kind.reads() && out.Verdict == Done && resp.StatusCode == http.StatusOK {
		var ok bool
		if out.Value, ok = w.Noun.says(raw, op.ID); !ok {
			out.Verdict = Wrong
		}
	}
	return out
}
