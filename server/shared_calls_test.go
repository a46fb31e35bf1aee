package server

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"

	"github.com/stackforge/magnum/structs"
)

// TestSharedCalls: one call runs at a time, callers that arrive meanwhile share the
// next one, and nobody gets the result of a call that began before.
func TestSharedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a sharedCalls
		calls, results := 0, make(chan uint64)
		call := func() (uint64, error) {
			calls++
			return <-results, nil
		}
		type answer struct {
			who   string
			index uint64
		}
		answers := make(chan answer, 100)
		join := func(who string, times int) {
			for range times {
				go func() {
					index, err := a.join(context.Background(), call)
					if err != nil {
						t.Errorf("%s: %v", who, err)
					}
					answers <- answer{who, index}
				}()
			}
			synctest.Wait()
		}
		finish := func(index uint64) {
			results <- index
			synctest.Wait()
		}
		join("first", 1)
		join("second", 20)
		left, leave := context.WithCancel(context.Background())
		leave()
		if _, err := a.join(left, call); structs.CodeOf(err) != structs.CodeNoLeader {
			t.Errorf("a caller that left: %v", err)
		}
		finish(1)
		join("third", 5)
		finish(2)
		finish(3)
		close(answers)
		got := make(map[answer]int)
		for one := range answers {
			got[one]++
		}
		want := map[answer]int{{"first", 1}: 1, {"second", 2}: 20, {"third", 3}: 5}
		if !maps.Equal(got, want) || calls != 3 {
			t.Errorf("%d calls, answers %v, want 3 and %v", calls, got, want)
		}
	})
}
