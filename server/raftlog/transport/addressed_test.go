package transport

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// TestServerThatMayNotVoteRefuses: votes and pre-votes are refused without reaching the
// library. Other calls reach it.
func TestServerThatMayNotVoteRefuses(t *testing.T) {
	_, in := raft.NewInmemTransport("target")
	_, from := raft.NewInmemTransport("from")
	from.Connect(TargetOf("us", "target"), in)
	var may atomic.Bool
	under, caller := NewAddressed(in, may.Load), NewAddressed(from, may.Load)
	defer under.Close()
	defer caller.Close()
	answered := make(chan any, 10)
	ended := make(chan struct{})
	defer func() { <-ended }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(ended)
		for {
			select {
			case call := <-under.Consumer():
				answered <- call.Command
				switch call.Command.(type) {
				case *raft.RequestVoteRequest:
					call.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
				case *raft.RequestPreVoteRequest:
					call.Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
				case *raft.AppendEntriesRequest:
					call.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	for _, want := range []bool{false, true} {
		may.Store(want)
		var vote raft.RequestVoteResponse
		if err := caller.RequestVote("us", "target", &raft.RequestVoteRequest{Term: 7}, &vote); err != nil || vote.Granted != want ||
			vote.Term != 7 && !want {
			t.Errorf("may vote %v: %+v, %v", want, vote, err)
		}
		var pre raft.RequestPreVoteResponse
		if err := caller.RequestPreVote("us", "target", &raft.RequestPreVoteRequest{Term: 7}, &pre); err != nil || pre.Granted != want ||
			pre.Term != 7 && !want {
			t.Errorf("may vote %v: %+v, %v", want, pre, err)
		}
		var appended raft.AppendEntriesResponse
		if err := caller.AppendEntries("us", "target", &raft.AppendEntriesRequest{Term: 7}, &appended); err != nil || !appended.Success {
			t.Errorf("may vote %v: %+v, %v", want, appended, err)
		}
	}
	if n := len(answered); n != 4 {
		t.Errorf("the library has heard of %d calls, want 4", n)
	}
	if err := caller.AppendEntries("them", "target", &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}); err == nil {
		t.Error("a call of another server at the address is answered")
	}
}
