package main

// turns are one side's end of two measurements that take turns: each works only while it
// has the turn. A machine's speed drifts within minutes, so two builds are compared by
// rounds that follow each other closely. The nil turns always has the turn.
type turns struct {
	mine, others chan struct{} // a value in the channel is the turn
}

// takeTurns returns the ends of the side that begins, and of the other one.
func takeTurns() (first, second *turns) {
	a, b := make(chan struct{}, 1), make(chan struct{}, 1)
	a <- struct{}{}
	return &turns{a, b}, &turns{b, a}
}

// await returns once the side has its first turn.
func (t *turns) await() {
	if t != nil {
		<-t.mine
	}
}

// pass gives the turn to the other side and waits for the next one.
func (t *turns) pass() {
	if t == nil {
		return
	}
	select {
	case t.others <- struct{}{}:
	default: // the other side has ended
	}
	<-t.mine
}

// end gives the turn to the other side for good.
func (t *turns) end() {
	if t != nil {
		close(t.others)
	}
}
