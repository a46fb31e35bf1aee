package shares

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func take(t *testing.T, s *Shares, group, project, user string, want int) []func() {
	t.Helper()
	var all []func()
	for n := range 1000 {
		giveBack, err := s.Take(group, 128, structs.SessionHolder{Project: project, User: user}, "sessions of the host")
		if err != nil {
			if structs.CodeOf(err) != structs.CodeRateLimited || !strings.Contains(err.Error(), "sessions of the host") {
				t.Fatalf("refusal: %v", err)
			}
			if n != want {
				t.Fatalf("%s of %s got %d places, want %d", user, project, n, want)
			}
			return all
		}
		all = append(all, giveBack)
	}
	t.Fatalf("%s of %s has no bound", user, project)
	return nil
}

func TestShares(t *testing.T) {
	var s Shares
	first := take(t, &s, "host", "alpha", "alice", 48)
	take(t, &s, "host", "alpha", "bob", 48)
	take(t, &s, "host", "alpha", "carol", 0) // alpha has three quarters
	take(t, &s, "host", "beta", "alice", 48) // a user of another project is another user
	take(t, &s, "other", "alpha", "alice", 48)
	for range 2 { // giving back twice gives back one place
		first[0]()
	}
	take(t, &s, "host", "alpha", "carol", 1)
	take(t, &s, "host", "alpha", "alice", 0)
}

// TestSharesOfFew: with one place anybody can have it.
func TestSharesOfFew(t *testing.T) {
	for most, want := range map[int][2]int{1: {1, 1}, 2: {1, 1}, 4: {3, 1}, 128: {96, 48}, 256: {192, 96}, 1000: {750, 375}} {
		if got := [2]int{ProjectShare(most), UserShare(most)}; got != want {
			t.Errorf("shares of %d: %v, want %v", most, got, want)
		}
	}
}

// TestNobodysPlaces: without authentication there is nobody to share with.
func TestNobodysPlaces(t *testing.T) {
	var s Shares
	for range 1000 {
		if _, err := s.Take("host", 128, structs.SessionHolder{}, "sessions"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSharesForget: a holder that holds nothing takes no memory.
func TestSharesForget(t *testing.T) {
	var s Shares
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			giveBack, err := s.Take("host", 128, structs.SessionHolder{Project: fmt.Sprint("p", i)}, "sessions")
			if err != nil {
				t.Error(err)
				return
			}
			giveBack()
		})
	}
	wg.Wait()
	if len(s.held) != 0 {
		t.Errorf("%d holders are left", len(s.held))
	}
}
