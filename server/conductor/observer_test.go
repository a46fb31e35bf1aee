package conductor

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// counts is an observer that counts.
type counts struct {
	mu        sync.Mutex
	decided   int
	committed int
	refused   map[structs.Code]int
}

func (c *counts) Decided(n int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decided += n; took < 0 {
		panic("time runs backwards")
	}
}

func (c *counts) Committed(time.Duration, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed++
}

func (c *counts) Refused(code structs.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[code]++
}

func TestObserverCountsRequests(t *testing.T) {
	h := newHarness(t)
	c := &counts{refused: map[structs.Code]int{}}
	other := New(Config{Store: h.store, Proposer: h.proposer, Logger: h.log, Observer: c})
	if _, err := Do(context.Background(), other, Settle{}); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- other.Lead(ctx, 1) }()
	defer func() {
		cancel()
		<-ended
	}()
	caller := structs.Caller{ProjectID: "p", Roles: []structs.Role{structs.RoleAdmin}}
	for {
		_, err := Do(ctx, other, CreateBay{Caller: caller, Name: "b", NodeCount: 1, Placement: structs.PlacementSpread})
		if err == nil {
			break
		}
		if structs.CodeOf(err) != structs.CodeNoLeader { // Lead has not begun yet
			t.Fatal(err)
		}
	}
	if _, err := Do(ctx, other, DeleteBay{Caller: caller, Ident: "nope"}); structs.CodeOf(err) != structs.CodeNotFound {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decided != 2 || c.committed != 1 || c.refused[structs.CodeNotFound] != 1 || c.refused[structs.CodeNoLeader] < 1 {
		t.Errorf("observed %d decided, %d committed, refused %v", c.decided, c.committed, c.refused)
	}
	if n := other.Waiting(); n != 0 {
		t.Errorf("%d requests wait", n)
	}
}
