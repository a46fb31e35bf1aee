package history

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// checkFor is how long the check of one object may take.
	checkFor = 30 * time.Second
	// lastRead is how long servers may take to answer the read that ends an object.
	lastRead = 2 * time.Minute
)

// Judge judges the objects that have had their operations, until ctx ends, with
// a client that does nothing else.
func (w *Workload) Judge(ctx context.Context, c *Client) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		w.judgeEnded(c)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Finish judges the objects that are left once no client is at work.
func (w *Workload) Finish(c *Client) { w.Cut(c, func() {}) }

// Cut judges the objects that there are, and has change happen while none is being
// judged. No client may be at work; afterwards they begin with other objects. It is
// for what undoes acknowledged changes, as a restore does.
func (w *Workload) Cut(c *Client, change func()) {
	w.mu.Lock()
	for i, o := range w.slots {
		if o != nil && o.asked < opsEach {
			w.ended = append(w.ended, o)
		}
		w.slots[i] = nil
	}
	w.mu.Unlock()
	w.judging.Lock()
	defer w.judging.Unlock()
	for w.judgeNext(c) {
	}
	change()
}

func (w *Workload) judgeEnded(c *Client) {
	for {
		w.judging.Lock()
		judged := w.judgeNext(c)
		w.judging.Unlock()
		if !judged {
			return
		}
	}
}

// judgeNext judges one object, if any waits for it; the caller holds judging.
func (w *Workload) judgeNext(c *Client) bool {
	w.mu.Lock()
	if len(w.ended) == 0 {
		w.mu.Unlock()
		return false
	}
	o := w.ended[0]
	w.ended = w.ended[1:]
	w.mu.Unlock()
	w.judge(c, o)
	return true
}

// judge reads an object once more, so that what was acknowledged last is found
// missing, too, checks what was told of it, and removes it.
func (w *Workload) judge(c *Client, o *object) {
	read := Op{Kind: Read, ID: o.id}
	from := time.Since(w.began)
	out := c.call(read)
	for until := time.Now().Add(lastRead); (out.Verdict == Refused || out.Verdict == Unknown) && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
		from = time.Since(w.began)
		out = c.call(read)
	}
	w.note(c.number, o, read, out, from, time.Since(w.began))
	fault := ""
	if out.Verdict == Refused || out.Verdict == Unknown {
		fault = fmt.Sprintf("no server answers a consistent read of object %s for %v: %s", o.id, lastRead, out.Said)
	} else {
		if fault = check(o.id, o.ops); fault != "" {
			fault += "\nwhat was refused meanwhile:" + text(o.refused)
		}
	}
	c.call(Op{Kind: Delete, ID: o.id}) // else hours of objects are in the state; nobody minds what is left
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judged++
	if fault != "" {
		w.violate("%s", fault)
	}
}

// check returns what contradicts the register, "" if nothing does.
func check(id string, ops []porcupine.Operation) string {
	switch porcupine.CheckOperationsTimeout(Register, ops, checkFor) {
	case porcupine.Illegal:
		return fmt.Sprintf("I1, I2: what was told of object %s fits no order of events:", id) + text(ops)
	case porcupine.Unknown:
		return fmt.Sprintf("object %s: %d operations are too many to check", id, len(ops))
	}
	return ""
}

// text is a history for a person.
func text(ops []porcupine.Operation) string {
	var b strings.Builder
	for _, h := range ops {
		until := "never"
		if h.Return != math.MaxInt64 {
			until = time.Duration(h.Return).String()
		}
		in, out := h.Input.(Op), h.Output.(Outcome)
		fmt.Fprintf(&b, "\n  client %d %12v..%-12v %s %s %s -> %s %s, index %d: %.160s", h.ClientId, time.Duration(h.Call), until, in.Kind, in.Value, in.Key, out.Verdict, out.Value, out.Index, out.Said)
	}
	return b.String()
}
