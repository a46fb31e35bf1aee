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
	// checkTimeout bounds the check of one object.
	checkTimeout = 30 * time.Second
	// lastReadTimeout bounds the final read of an object.
	lastReadTimeout = 2 * time.Minute
)

// CheckEnded checks objects that have had all their operations, until ctx ends. c is a
// client that does nothing else.
func (w *Workload) CheckEnded(ctx context.Context, c *Client) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		w.checkAll(c)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Finish checks all remaining objects. All clients must have stopped.
func (w *Workload) Finish(c *Client) { w.Cut(c, func() {}) }

// Cut checks all objects, and then calls change while none is being checked. No client may
// be working; afterwards the clients use new objects. It is for a change that undoes
// acknowledged writes, such as a restore.
func (w *Workload) Cut(c *Client, change func()) {
	w.mu.Lock()
	for i, o := range w.slots {
		if o != nil && o.asked < opsPerObject {
			w.ended = append(w.ended, o)
		}
		w.slots[i] = nil
	}
	w.mu.Unlock()
	w.checking.Lock()
	defer w.checking.Unlock()
	for w.checkNext(c) {
	}
	change()
}

// checkAll checks the objects that wait for it.
func (w *Workload) checkAll(c *Client) {
	for {
		w.checking.Lock()
		checked := w.checkNext(c)
		w.checking.Unlock()
		if !checked {
			return
		}
	}
}

// checkNext checks one object, and reports whether there was one. The caller holds
// checking.
func (w *Workload) checkNext(c *Client) bool {
	w.mu.Lock()
	if len(w.ended) == 0 {
		w.mu.Unlock()
		return false
	}
	o := w.ended[0]
	w.ended = w.ended[1:]
	w.mu.Unlock()
	w.checkObject(c, o)
	return true
}

// checkObject reads an object once more, so that the loss of its last acknowledged write is
// found, too. Then it checks the history of the object and deletes the object.
func (w *Workload) checkObject(c *Client, o *object) {
	read := Op{Kind: Read, ID: o.id}
	from := time.Since(w.began)
	out := c.call(read)
	for until := time.Now().Add(lastReadTimeout); (out.Verdict == Refused || out.Verdict == Unknown) && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
		from = time.Since(w.began)
		out = c.call(read)
	}
	w.record(c.number, o, read, out, from, time.Since(w.began))
	fault := ""
	if out.Verdict == Refused || out.Verdict == Unknown {
		fault = fmt.Sprintf("no server answered a consistent read of object %s for %v: %s", o.id, lastReadTimeout, out.Said)
	} else {
		if fault = check(o.id, o.ops); fault != "" {
			fault += "\nrefused operations of the same time:" + text(o.refused)
		}
	}
	c.call(Op{Kind: Delete, ID: o.id}) // keeps the state small in long runs; a failure does no harm
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checked++
	if fault != "" {
		w.violate("%s", fault)
	}
}

// check returns a description of the violation if the operations don't fit Model, "" if
// they do.
func check(id string, ops []porcupine.Operation) string {
	switch porcupine.CheckOperationsTimeout(Model, ops, checkTimeout) {
	case porcupine.Illegal:
		return fmt.Sprintf("I1, I2: the history of object %s fits no order of events:", id) + text(ops)
	case porcupine.Unknown:
		return fmt.Sprintf("object %s: %d operations are too many to check", id, len(ops))
	}
	return ""
}

// text prints a history, an operation per line.
func text(ops []porcupine.Operation) string {
	var b strings.Builder
	for _, h := range ops {
		until := "never"
		if h.Return != math.MaxInt64 {
			until = time.Duration(h.Return).String()
		}
		in, out := h.Input.(Op), h.Output.(Outcome)
		fmt.Fprintf(&b, "\n  client %d %12v..%-12v %s %s %s -> %s %s, index %d: %.160s", h.ClientId,
			time.Duration(h.Call), until, in.Kind, in.Value, in.Key, out.Verdict, out.Value, out.Index, out.Said)
	}
	return b.String()
}
