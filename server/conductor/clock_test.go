package conductor

import (
	"testing"
	"time"
)

// TestClockIsNeverBehindTheState: the leader's wall clock may be behind the state, and the
// row with the last time may have been deleted.
func TestClockIsNeverBehindTheState(t *testing.T) {
	h := newHarness(t)
	b := h.bay(alice, "web", 1)
	must(h, DeleteBay{Caller: alice, Ident: b.ID})
	h.settle()
	last := h.store.Snapshot().LastTime()
	now := last.Add(-time.Hour)
	c := New(Config{Store: h.store, Now: func() time.Time { return now }})
	clock := c.clock()
	if got := clock(); !got.Equal(last) {
		t.Errorf("an hour behind it is %v, not %v", got, last)
	}
	now = last.Add(time.Hour + time.Millisecond)
	if got := clock(); !got.Equal(last.Add(time.Hour)) {
		t.Errorf("an hour ahead it is %v", got)
	}
	now = last
	if got := clock(); !got.Equal(last.Add(time.Hour)) {
		t.Errorf("set back it is %v", got)
	}
}
