package transport

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The library uses pre-votes only with transports that support them.
var (
	_ raft.WithPreVote = (*AckTracker)(nil)
	_ raft.WithPreVote = (*raft.NetworkTransport)(nil)
	_ raft.WithPreVote = (*raft.InmemTransport)(nil)
)

func TestMajorityAckedAt(t *testing.T) {
	w := NewAckTracker(nil)
	now := time.Now()
	servers := []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d", Suffrage: raft.Nonvoter}}
	for _, step := range []struct {
		id   raft.ServerID
		p    ack
		want bool
	}{
		{"d", ack{3, now}, false}, // doesn't vote
		{"b", ack{2, now}, false}, // an earlier term
		{"b", ack{3, now.Add(-time.Nanosecond)}, false},
		{"b", ack{3, now}, true},
	} {
		w.sent[step.id] = step.p
		if at, _ := w.MajorityAckedAt("a", servers, 3, now); at.Equal(now) != step.want {
			t.Errorf("with %+v of %s: %v", step.p, step.id, at)
		}
	}
	if at, _ := w.MajorityAckedAt("a", servers[:1], 3, now); !at.Equal(now) {
		t.Error("one server doesn't prove itself")
	}
	if at, _ := w.MajorityAckedAt("d", servers, 3, now); at.Equal(now) {
		t.Error("one that has no vote counts itself")
	}
	if at, _ := w.MajorityAckedAt("a", nil, 3, now); !at.IsZero() {
		t.Error("there are no voters, and they follow")
	}
}
