package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// Op is what a client asks of one object.
type Op struct {
	Kind  Kind
	ID    string // UUID of the object
	Value string // what the object is to say, of a create and a patch
	Key   string // Idempotency-Key, of a create; "" sends none
}

// Kind is a kind of operation.
type Kind string

// The kinds. The actions are those of containers; the reads that are not
// consistent have no place in the order of events, and are held against what
// others read at the same index.
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

// Outcome is what the client was told.
type Outcome struct {
	Verdict Verdict
	Value   string // of a read
	Index   uint64 // X-Magnum-Index of the answer, 0 if it had none
	Said    string // the answer, for a person
}

// Verdict is how an operation ended.
type Verdict string

// The verdicts.
const (
	Done     Verdict = "done"
	Conflict Verdict = "conflict" // the object's state forbids it: a create of what is there, an action
	Missing  Verdict = "missing"  // there is no such object
	Refused  Verdict = "refused"  // certainly not carried out
	Unknown  Verdict = "unknown"  // carried out or not, or later
	Wrong    Verdict = "wrong"    // an answer that there must not be
)

// value is the state of one object: what it says, "" while it isn't there, and
// what the last action wants of it.
type value struct {
	says   string
	wanted Kind // Create, Start, Stop or Pause
}

// act returns what an action makes of an object that is there, and whether its
// state allows it. The container has no host, so what is wanted is all there is.
func (v value) act(k Kind) (after value, allowed bool) {
	after = value{v.says, k}
	switch k {
	case Start:
		return after, v.wanted != Pause
	case Stop:
		if v.wanted == Create { // never started: there is nothing to stop
			return v, true
		}
		return after, true
	case Pause:
		return after, v.wanted == Start
	}
	return value{v.says, Start}, v.wanted == Pause
}

// Register is one object as all of its clients together see it.
//
// An unknown outcome never returns, so it may take effect at any later time;
// never is the same as after everything else. A delete that finds nothing may
// say that it is done: the server may have tried twice.
var Register = porcupine.Model{
	Init: func() any { return value{} },
	Step: func(state, input, output any) (bool, any) {
		was, in, out := state.(value), input.(Op), output.(Outcome)
		there := was.says != ""
		switch in.Kind {
		case Create:
			if out.Verdict == Conflict {
				return there, was
			}
			if there {
				return out.Verdict == Unknown, was
			}
			return true, value{in.Value, Create}
		case Patch:
			if out.Verdict == Missing || !there {
				return !there && out.Verdict != Done, was
			}
			return true, value{in.Value, was.wanted}
		case Delete:
			if out.Verdict == Missing {
				return !there, was
			}
			return true, value{}
		case Read:
			if out.Verdict == Missing {
				return !there, was
			}
			return out.Value == was.says, was
		}
		if !there {
			return out.Verdict != Done && out.Verdict != Conflict, was
		}
		after, allowed := was.act(in.Kind)
		switch {
		case out.Verdict == Missing:
			return false, was
		case out.Verdict == Conflict || out.Verdict == Unknown && !allowed:
			return !allowed, was
		}
		return allowed, after
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}
