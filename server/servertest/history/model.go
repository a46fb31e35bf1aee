package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// Op is an operation of a client on one object.
type Op struct {
	Kind  Kind
	ID    string // UUID of the object
	Value string // new value of the object, for Create and Patch
	Key   string // Idempotency-Key of a Create; "" sends none
}

// Kind is a kind of operation.
type Kind string

// The kinds. The actions are those of containers. Default and stale reads have no place in
// the order of events; they are compared with other reads at the same index.
const (
	Create  Kind = "create"
	Patch   Kind = "patch"
	Delete  Kind = "delete"
	Start   Kind = "start"
	Stop    Kind = "stop"
	Pause   Kind = "pause"
	Unpause Kind = "unpause"
	Read    Kind = "consistent read"
	Default Kind = "default read"
	Stale   Kind = "stale read"
)

// reads reports whether the operation changes nothing.
func (k Kind) reads() bool { return k == Read || k == Default || k == Stale }

// Outcome is the outcome of an operation as its client knows it.
type Outcome struct {
	Verdict Verdict
	Value   string // value that a read returned
	Index   uint64 // X-Magnum-Index of the answer, 0 if it has none
	Said    string // the answer, for messages
}

// Verdict is how an operation ended.
type Verdict string

// The verdicts.
const (
	Done     Verdict = "done"
	Conflict Verdict = "conflict" // the object's state forbids the operation: Create if it exists, or an action
	Missing  Verdict = "missing"  // the object does not exist
	Refused  Verdict = "refused"  // certainly not carried out
	Unknown  Verdict = "unknown"  // may have been carried out, or may be later
	Wrong    Verdict = "wrong"    // an answer that is never allowed
)

// modelState is the state of one object: its value, "" if it doesn't exist, and its
// desired state.
type modelState struct {
	value   string
	desired Kind // the last action: Create, Start, Stop or Pause
}

// act returns the state of an existing object after an action, and whether its state allows
// the action. The container has no host, so its observed state never changes.
func (v modelState) act(k Kind) (after modelState, allowed bool) {
	after = modelState{v.value, k}
	switch k {
	case Start:
		return after, v.desired != Pause
	case Stop:
		if v.desired == Create { // never started: Stop changes nothing
			return v, true
		}
		return after, true
	case Pause:
		return after, v.desired == Start
	}
	return modelState{v.value, Start}, v.desired == Pause
}

// Model is the sequential model of one object for porcupine.
//
// An operation with unknown outcome never returns, so that it may take effect at any later
// time, or after all others, which is the same as never. A delete of a missing object may
// be Done: the server may have tried twice.
var Model = porcupine.Model{
	Init: func() any { return modelState{} },
	Step: func(state, input, output any) (bool, any) {
		before, in, out := state.(modelState), input.(Op), output.(Outcome)
		exists := before.value != ""
		switch in.Kind {
		case Create:
			if out.Verdict == Conflict {
				return exists, before
			}
			if exists {
				return out.Verdict == Unknown, before
			}
			return true, modelState{in.Value, Create}
		case Patch:
			if out.Verdict == Missing || !exists {
				return !exists && out.Verdict != Done, before
			}
			return true, modelState{in.Value, before.desired}
		case Delete:
			if out.Verdict == Missing {
				return !exists, before
			}
			return true, modelState{}
		case Read:
			if out.Verdict == Missing {
				return !exists, before
			}
			return out.Value == before.value, before
		}
		if !exists {
			return out.Verdict != Done && out.Verdict != Conflict, before
		}
		after, allowed := before.act(in.Kind)
		switch {
		case out.Verdict == Missing:
			return false, before
		case out.Verdict == Conflict || out.Verdict == Unknown && !allowed:
			return !allowed, before
		}
		return allowed, after
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}
