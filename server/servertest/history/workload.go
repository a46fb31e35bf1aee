package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/stackforge/magnum/structs"
)

// The time to check an object grows fast with its number of concurrent operations, so
// each object gets a limited number of operations.
const (
	objects      = 4  // objects in use at a time
	opsPerObject = 40 // operations on an object before another replaces it
)

// maxViolations bounds the violations that are kept with their text.
const maxViolations = 20

// Workload has the clients and their histories. An object that has had all its operations
// is checked and forgotten, so a run may last for hours.
type Workload struct {
	Resource Resource
	Timeout  time.Duration // of one call, after which its outcome is unknown; default 10s
	http     *http.Client
	began    time.Time
	gap      writeGap

	acknowledged, refused, unknown atomic.Int64

	checking sync.Mutex // held while an object is checked; locked before mu

	mu         sync.Mutex // guards what follows
	slots      [objects]*object
	ended      []*object // objects to check
	violations []string
	violated   int // number of violations, including those without text
	checked    int // number of objects
}

// object has the history of one object.
type object struct {
	id      string
	asked   int // operations begun
	pending int // operations in flight
	ops     []porcupine.Operation
	refused []porcupine.Operation // writes that were certainly not carried out, for the report of a violation
	at      map[uint64]string     // value read, by the index of the answer
}

// New returns a workload for a number of clients.
func New(resource Resource, clients int) *Workload {
	w := &Workload{Resource: resource, Timeout: 10 * time.Second, began: time.Now(),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}}}
	w.gap.reset(w.began)
	return w
}

// Close closes the connections of the clients, which must have stopped.
func (w *Workload) Close() { w.http.CloseIdleConnections() }

// take returns an object for one operation; the caller returns it with give.
func (w *Workload) take(random *rand.Rand) *object {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := random.IntN(objects)
	o := w.slots[n]
	if o == nil || o.asked == opsPerObject {
		o = &object{id: structs.NewID(), at: make(map[uint64]string)}
		w.slots[n] = o
	}
	o.asked++
	o.pending++
	return o
}

func (w *Workload) give(o *object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.pending--; o.pending == 0 && o.asked == opsPerObject {
		w.ended = append(w.ended, o)
	}
}

// record adds an operation and its outcome to the history of an object. Times are relative
// to the start of the workload.
func (w *Workload) record(client int, o *object, op Op, out Outcome, from, to time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if out.Verdict == Wrong {
		w.violate("%+v: %s", op, out.Said)
		return
	}
	if op.Kind.reads() && (out.Verdict == Done || out.Verdict == Missing) {
		if was, seen := o.at[out.Index]; seen && was != out.Value {
			w.violate("I3: object %s had the value %q at index %d for one reader, and %q for another", op.ID, was, out.Index, out.Value)
		}
		o.at[out.Index] = out.Value
	}
	entry := porcupine.Operation{ClientId: client, Input: op, Call: int64(from), Output: out, Return: int64(to)}
	switch {
	case out.Verdict == Refused:
		w.refused.Add(1)
		if !op.Kind.reads() {
			o.refused = append(o.refused, entry)
		}
		return
	case out.Verdict == Unknown && op.Kind.reads():
		w.refused.Add(1)
		return
	case out.Verdict == Unknown:
		w.unknown.Add(1)
		entry.Return = math.MaxInt64
	default:
		w.acknowledged.Add(1)
		if !op.Kind.reads() && out.Verdict == Done {
			w.gap.wrote(time.Now())
		}
	}
	if op.Kind != Default && op.Kind != Stale {
		o.ops = append(o.ops, entry)
	}
}

// violate records a violation; the caller holds mu.
func (w *Workload) violate(format string, args ...any) {
	if w.violated++; len(w.violations) < maxViolations {
		w.violations = append(w.violations, fmt.Sprintf(format, args...))
	}
}

// Figures are the counts of a workload.
type Figures struct {
	Acknowledged int64         // operations carried out, or refused by the object's state
	Refused      int64         // operations certainly not carried out, and reads without an answer
	Unknown      int64         // writes whose outcome is unknown
	Checked      int           // objects checked
	Violations   int           // including those that Violations doesn't return
	Gap          time.Duration // the longest time without a successful write
}

// Figures returns the figures so far.
func (w *Workload) Figures() Figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Figures{w.acknowledged.Load(), w.refused.Load(), w.unknown.Load(), w.checked, w.violated, w.gap.ever()}
}

// Violations returns the texts of the first maxViolations violations.
func (w *Workload) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.violations...)
}

// Write does a write that is not part of any history, and records its success for the
// write gap. Callers write through each server in turn, to measure how long the cluster
// accepts no write.
func (w *Workload) Write(root string, op Op) Outcome {
	out := w.Ask(root, 0, op)
	if out.Verdict == Done {
		w.gap.wrote(time.Now())
	}
	return out
}

// TakeGap returns the longest time without a successful write since the last call of
// TakeGap, including the current gap.
func (w *Workload) TakeGap() time.Duration { return w.gap.take(time.Now()) }

// ResetGap starts the current gap now, after a pause of all clients.
func (w *Workload) ResetGap() { w.gap.reset(time.Now()) }
