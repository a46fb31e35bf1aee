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

// atOnce is how many objects clients contend for at a time, and opsEach how many
// operations each sees before another takes its place: the check takes time that
// grows fast with operations under way at once.
const (
	atOnce  = 4
	opsEach = 40
)

// mostKept is how many violations are kept with their text.
const mostKept = 20

// Workload is clients and what they were told. An object that has had its
// operations is judged and forgotten, so a run may last for hours.
type Workload struct {
	Noun    Noun
	Timeout time.Duration // of one call, after which its outcome is unknown; default 10s
	http    *http.Client
	began   time.Time
	gap     gap

	acknowledged, refused, unknown atomic.Int64

	judging sync.Mutex // held while an object is judged; comes before mu

	mu         sync.Mutex // guards what follows
	slots      [atOnce]*object
	ended      []*object // to be judged
	violations []string
	violated   int // violations, with those that were not kept
	judged     int
}

// object is what is known of one object.
type object struct {
	id      string
	asked   int // operations handed out
	pending int // of these, under way
	ops     []porcupine.Operation
	refused []porcupine.Operation // changes that were certainly not carried out, for a person to doubt
	at      map[uint64]string     // what was read, by the index of the answer
}

// New returns a workload of so many clients.
func New(noun Noun, clients int) *Workload {
	w := &Workload{Noun: noun, Timeout: 10 * time.Second, began: time.Now(),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}}}
	w.gap.reset(w.began)
	return w
}

// Close closes the clients' connections, once they have ended.
func (w *Workload) Close() { w.http.CloseIdleConnections() }

// take returns an object to do something with. give takes it back.
func (w *Workload) take(random *rand.Rand) *object {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := random.IntN(atOnce)
	o := w.slots[n]
	if o == nil || o.asked == opsEach {
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
	if o.pending--; o.pending == 0 && o.asked == opsEach {
		w.ended = append(w.ended, o)
	}
}

// note keeps what came of an operation on an object. Times are since the
// workload began.
func (w *Workload) note(client int, o *object, op Op, out Outcome, from, to time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if out.Verdict == Wrong {
		w.violate("%+v: %s", op, out.Said)
		return
	}
	if op.Kind.reads() && (out.Verdict == Done || out.Verdict == Missing) {
		if was, seen := o.at[out.Index]; seen && was != out.Value {
			w.violate("I3: object %s said %q at index %d, and %q to another reader", op.ID, was, out.Index, out.Value)
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

// violate notes a violation; the caller holds mu.
func (w *Workload) violate(format string, args ...any) {
	if w.violated++; len(w.violations) < mostKept {
		w.violations = append(w.violations, fmt.Sprintf(format, args...))
	}
}

// Figures are what a workload has come to.
type Figures struct {
	Acknowledged int64         // operations that were carried out, or refused by the object's state
	Refused      int64         // operations that were certainly not carried out, and reads without an answer
	Unknown      int64         // changes of which nobody knows
	Judged       int           // objects
	Violations   int           // with those that Violations doesn't return
	Gap          time.Duration // the longest time without a change that succeeded
}

// Figures returns the figures so far.
func (w *Workload) Figures() Figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Figures{w.acknowledged.Load(), w.refused.Load(), w.unknown.Load(), w.judged, w.violated, w.gap.ever()}
}

// Violations returns what must not have been, the first few of them.
func (w *Workload) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.violations...)
}

// Write makes a change that has no part in the history, and notes when it has
// succeeded: who writes through each server measures for how long nobody can.
func (w *Workload) Write(root string, op Op) Outcome {
	out := w.Ask(root, 0, op)
	if out.Verdict == Done {
		w.gap.wrote(time.Now())
	}
	return out
}

// TakeGap returns the longest time without a change that succeeded since it was
// last called, the one that lasts included.
func (w *Workload) TakeGap() time.Duration { return w.gap.take(time.Now()) }

// Rest says that the clients were told to wait, until now.
func (w *Workload) Rest() { w.gap.reset(time.Now()) }
