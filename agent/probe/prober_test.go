package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/structs"
)

// script is a container whose exec probes answer as the test says. It belongs to a
// synctest bubble.
type script struct {
	began time.Time
	codes map[string]func(second int) (code int, err error) // by the command's name

	mu     sync.Mutex       // held during a check: two probes are due in the same second
	checks map[string][]int // seconds since began
}

func newScript() *script {
	return &script{
		began: time.Now(), checks: make(map[string][]int),
		codes: make(map[string]func(int) (int, error)),
	}
}

func (s *script) second() int { return int(time.Since(s.began) / time.Second) }

// exec carries out a check.
func (s *script) exec(_ context.Context, argv []string) (int, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[argv[0]] = append(s.checks[argv[0]], s.second())
	code, err := s.codes[argv[0]](s.second())
	return code, fmt.Sprintf("output of %s\n", argv[0]), err
}

// failUntil makes a probe fail before a second.
func failUntil(until int) func(int) (int, error) {
	return func(second int) (int, error) {
		if second < until {
			return 1, nil
		}
		return 0, nil
	}
}

func probeOf(kind Kind, delay, period, success, failure int) *structs.Probe {
	return &structs.Probe{
		Handler:      structs.Handler{Exec: []string{string(kind)}},
		InitialDelay: delay, Period: period, Timeout: 1, Success: success, Failure: failure,
	}
}

// change is one call of Changed.
type change struct {
	second int
	State
}

// runFor runs a Prober for some seconds and returns what it has told.
func (s *script) runFor(t *testing.T, c Config, seconds int) []change {
	t.Helper()
	var changes []change
	c.Exec, c.Address = s.exec, "192.0.2.1"
	if c.StartedAt.IsZero() {
		c.StartedAt = s.began
	}
	c.Changed = func(state State) { changes = append(changes, change{s.second(), state}) }
	p := New(c)
	p.Start()
	time.Sleep(time.Duration(seconds)*time.Second + time.Second/2) // of the bubble's clock
	synctest.Wait()
	p.Stop()
	told := len(changes)
	time.Sleep(time.Hour)
	if len(changes) != told {
		t.Errorf("it tells of changes after Stop: %v", changes[told:])
	}
	return changes
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestStateBeforeAnyCheck(t *testing.T) {
	p := probeOf(Readiness, 0, 1, 1, 1)
	adopted := &State{Started: true, Ready: true, Message: "old"}
	for _, c := range []struct {
		name   string
		config Config
		want   State
	}{
		{"no probes", Config{}, State{Started: true, Ready: true}},
		{"liveness", Config{Liveness: p}, State{Started: true, Ready: true}},
		{"readiness", Config{Readiness: p}, State{Started: true}},
		{"startup", Config{Startup: p}, State{}},
		{"startup and readiness", Config{Startup: p, Readiness: p}, State{}},
		{"adopted", Config{Startup: p, Readiness: p, Adopted: adopted}, State{Started: true, Ready: true}},
		{"adopted before it was started", Config{Startup: p, Adopted: &State{}}, State{}},
		{"adopted before it was ready", Config{Readiness: p, Adopted: &State{Started: true}}, State{Started: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(c.config)
			if got := p.State(); got != c.want {
				t.Errorf("State is %+v, want %+v", got, c.want)
			}
			p.Stop() // without Start
		})
	}
}

func TestReadinessFollowsItsThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		// It succeeds from second 9 on, fails once in second 24, and for good from 39 on.
		s.codes["readiness"] = func(second int) (int, error) {
			if second < 9 || second == 24 || second >= 39 {
				return 1, nil
			}
			return 0, nil
		}
		changes := s.runFor(t, Config{Readiness: probeOf(Readiness, 6, 3, 2, 3)}, 48)
		failed := "readiness probe failed: exit code 1: output of readiness"
		equal(t, "changes", changes, []change{
			{6, State{Started: true, Message: failed}},
			{12, State{Started: true, Ready: true}},
			{45, State{Started: true, Message: failed}}, // the third failure in a row
		})
		equal(t, "checks", s.checks["readiness"], []int{6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 48})
	})
}

func TestInitialDelayCountsFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.codes["liveness"] = failUntil(0)
		s.runFor(t, Config{Liveness: probeOf(Liveness, 20, 10, 1, 1), StartedAt: s.began.Add(-15 * time.Second)}, 20)
		equal(t, "checks", s.checks["liveness"], []int{5, 15})
	})
}

func TestLivenessFailsOnceAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		// Two failures in a row are too few; three are not.
		s.codes["liveness"] = func(second int) (int, error) {
			if second == 20 || second == 30 || second >= 60 {
				return 7, nil
			}
			return 0, nil
		}
		s.codes["readiness"] = failUntil(0)
		changes := s.runFor(t, Config{
			Liveness: probeOf(Liveness, 0, 10, 1, 3), Readiness: probeOf(Readiness, 1, 50, 1, 3),
		}, 200)
		equal(t, "changes", changes, []change{
			{1, State{Started: true, Ready: true}},
			{80, State{Started: true, Ready: true, Failed: Liveness, Message: "liveness probe failed: exit code 7: output of liveness"}},
		})
		equal(t, "checks", s.checks["liveness"], []int{0, 10, 20, 30, 40, 50, 60, 70, 80})
		equal(t, "checks for readiness", s.checks["readiness"], []int{1, 51, 101, 151})
	})
}

func TestStartupComesBeforeTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.codes["startup"] = failUntil(12)
		s.codes["liveness"], s.codes["readiness"] = failUntil(0), failUntil(0)
		changes := s.runFor(t, Config{
			Startup: probeOf(Startup, 3, 5, 1, 30), Liveness: probeOf(Liveness, 0, 10, 1, 1), Readiness: probeOf(Readiness, 0, 10, 1, 1),
		}, 34)
		equal(t, "changes", changes, []change{
			{3, State{Message: "startup probe failed: exit code 1: output of startup"}},
			{13, State{Started: true}},
			{13, State{Started: true, Ready: true}},
		})
		equal(t, "startup", s.checks["startup"], []int{3, 8, 13})
		equal(t, "liveness", s.checks["liveness"], []int{13, 23, 33})
		equal(t, "readiness", s.checks["readiness"], []int{13, 23, 33})
	})
}

func TestInitialDelaysHoldAfterStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.codes["startup"], s.codes["liveness"] = failUntil(0), failUntil(0)
		s.runFor(t, Config{Startup: probeOf(Startup, 0, 5, 1, 1), Liveness: probeOf(Liveness, 9, 10, 1, 1)}, 20)
		equal(t, "liveness", s.checks["liveness"], []int{9, 19})
	})
}

func TestFailedStartupEndsTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.codes["startup"] = failUntil(1000)
		s.codes["readiness"] = failUntil(0)
		changes := s.runFor(t, Config{Startup: probeOf(Startup, 0, 10, 1, 4), Readiness: probeOf(Readiness, 0, 1, 1, 1)}, 100)
		failed := "startup probe failed: exit code 1: output of startup"
		equal(t, "changes", changes, []change{{0, State{Message: failed}}, {30, State{Failed: Startup, Message: failed}}})
		equal(t, "startup", s.checks["startup"], []int{0, 10, 20, 30})
		equal(t, "readiness", len(s.checks["readiness"]), 0)
	})
}

// A check that can't be carried out says nothing about the container: it neither counts
// nor ends a row.
func TestChecksThatCannotRunDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		away := errors.New("engine\naway")
		s.codes["liveness"] = func(second int) (int, error) {
			if second%2 == 1 {
				return 0, away
			}
			return 1, nil
		}
		s.codes["readiness"] = func(int) (int, error) { return 0, away }
		changes := s.runFor(t, Config{Liveness: probeOf(Liveness, 0, 1, 1, 3), Readiness: probeOf(Readiness, 1, 10, 1, 1)}, 20)
		could := "readiness probe could not run: engine away"
		equal(t, "changes", changes, []change{
			{1, State{Started: true, Message: could}},
			{4, State{Started: true, Failed: Liveness, Message: "liveness probe failed: exit code 1: output of liveness"}},
		})
	})
}

func TestMessagesAloneAreToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.codes["readiness"] = func(second int) (int, error) { return 1 + second, nil }
		var seconds []int
		for _, c := range s.runFor(t, Config{Readiness: probeOf(Readiness, 0, 7, 1, 1)}, 140) {
			seconds = append(seconds, c.second)
		}
		equal(t, "told at", seconds, []int{0, 63, 126})
	})
}

func TestAdoptedContainersStayReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.codes["readiness"], s.codes["startup"] = failUntil(1000), failUntil(1000)
		changes := s.runFor(t, Config{
			Startup: probeOf(Startup, 0, 1, 1, 1), Readiness: probeOf(Readiness, 0, 10, 1, 3),
			Adopted: &State{Started: true, Ready: true}, StartedAt: s.began.Add(-time.Hour),
		}, 60)
		if len(s.checks["startup"]) != 0 {
			t.Errorf("the startup probe runs again: %v", s.checks["startup"])
		}
		first := s.checks["readiness"][0]
		if first > 10 {
			t.Errorf("the first check is after %d s, more than a period", first)
		}
		if len(changes) != 1 || changes[0].Ready || changes[0].second < 20 || changes[0].second > 30 {
			t.Errorf("changes: %+v, want unready with the third failure", changes)
		}
	})
}

func TestSlowChecksTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []State
		probe := probeOf(Liveness, 0, 2, 1, 2)
		probe.Timeout = 3 // longer than the period: ticks are left out
		p := New(Config{
			Liveness: probe, StartedAt: time.Now(), Changed: func(s State) { changes = append(changes, s) },
			Target: Target{Exec: func(ctx context.Context, _ []string) (int, string, error) {
				<-ctx.Done()
				return 0, "", ctx.Err()
			}},
		})
		p.Start()
		time.Sleep(7*time.Second + time.Second/2)
		synctest.Wait()
		equal(t, "changes", changes, []State{{Started: true, Ready: true, Failed: Liveness,
			Message: "liveness probe failed: no answer within 3s"}})
		p.Stop()
	})
}

// What is found after the container has ended is no failure of its own.
func TestStopEndsARunningCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{
			Liveness: probeOf(Liveness, 0, 1, 1, 1), Readiness: probeOf(Readiness, 0, 1, 1, 1),
			Changed: func(s State) { t.Errorf("changed to %+v", s) },
			Target: Target{Exec: func(ctx context.Context, argv []string) (int, string, error) {
				<-ctx.Done()
				return 1, "killed", nil
			}},
		})
		p.Start()
		synctest.Wait()
		before := p.State()
		began := time.Now()
		p.Stop()
		p.Stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("Stop takes %v", took)
		}
		if got := p.State(); got != before {
			t.Errorf("State is %+v after Stop, was %+v", got, before)
		}
	})
}

func TestHookSleepsAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := (Target{}).Hook(t.Context(), &structs.Handler{Sleep: 5}); err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("it sleeps %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := (Target{}).Hook(ctx, &structs.Handler{Sleep: 5}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hook that takes too long returns %v", err)
		}
	})
}

func TestOutputKeepsTheBeginning(t *testing.T) {
	var o Output
	for range 3 {
		if n, err := o.Write([]byte(strings.Repeat("x", 4000))); n != 4000 || err != nil {
			t.Fatalf("Write returns %d, %v", n, err)
		}
	}
	if n, _ := o.Write([]byte("y")); n != 1 {
		t.Errorf("Write of a full Output returns %d", n)
	}
	if got := o.String(); got != strings.Repeat("x", MaxOutput) {
		t.Errorf("it keeps %d bytes", len(got))
	}
}

func TestOneLine(t *testing.T) {
	long := strings.Repeat("ä", maxMessage)
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{" a \n\n b\tc\r\n", "a b c"},
		{"\x1b[31mred\x00 \xff\xfeend", "[31mred end"},
		{"x" + long, "x" + long[:maxMessage-2]}, // no half of a rune
	} {
		if got := oneLine(c.in); got != c.want {
			t.Errorf("oneLine(%q) is %q, want %q", c.in, got, c.want)
		}
	}
	if words := strings.Fields(oneLine("a\u2028b\u00a0c")); !slices.Equal(words, []string{"a", "b", "c"}) {
		t.Errorf("it keeps line separators: %q", words)
	}
}
