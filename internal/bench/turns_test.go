package main

import (
	"slices"
	"sync"
	"testing"
)

// TestTurns: only one side works at a time, and the longer one goes on when the other has
// ended.
func TestTurns(t *testing.T) {
	var order []string // guarded by the turn
	var wg sync.WaitGroup
	first, second := takeTurns()
	for name, side := range map[string]*turns{"a": first, "b": second} {
		wg.Go(func() {
			side.await()
			defer side.end()
			rounds := 2
			if name == "b" {
				rounds = 5
			}
			for range rounds {
				order = append(order, name)
				side.pass()
			}
		})
	}
	wg.Wait()
	if want := []string{"a", "b", "a", "b", "b", "b", "b"}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v", order, want)
	}
	var alone *turns
	alone.await()
	alone.pass()
	alone.end()
}
