package lease

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// inBubble runs a test with a lease that counts how often it has told of a change.
func inBubble(t *testing.T, test func(t *testing.T, l *Lease, changes *int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		l := New(func() { changes++ }, hclog.NewNullLogger())
		defer l.Stop()
		test(t, l, &changes)
	})
}

// wantMay fails unless an exclusive container with, or without, a lease may run and
// start so.
func wantMay(t *testing.T, l *Lease, kind structs.Exclusive, run, start bool) {
	t.Helper()
	if r, s := l.May(kind); r != run || s != start {
		t.Errorf("%q may run %v and start %v, want %v and %v; the state is %+v", kind, r, s, run, start, l.State())
	}
}

func TestOnlyAnAnswerOfTheRoundConfirms(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Lease, _ *int) {
		wantMay(t, l, structs.ExclusiveNo, true, true)
		wantMay(t, l, structs.ExclusiveYes, true, false)
		sent := l.State()
		if !l.Confirm(sent) || l.Confirm(sent) {
			t.Error("the first answer changes nothing, or the second one does")
		}
		wantMay(t, l, structs.ExclusiveYes, true, true)
		if !l.Unconfirm() || l.Unconfirm() {
			t.Error("what was confirmed is not lost, or twice")
		}
		wantMay(t, l, structs.ExclusiveYes, true, false)
		if l.Confirm(sent) {
			t.Error("an answer to a poll of an earlier round confirms")
		}
		wantMay(t, l, structs.ExclusiveYes, true, false)
	})
}

func TestLeaseIsConfirmedUnderItself(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Lease, changes *int) {
		before := l.State()
		l.Renew(time.Now().Add(10*time.Second), time.Second)
		l.Confirm(before) // the poll was sent without a lease
		wantMay(t, l, structs.ExclusiveLease, true, false)
		l.Confirm(l.State())
		wantMay(t, l, structs.ExclusiveLease, true, true)
		time.Sleep(10*time.Second - startMargin)
		wantMay(t, l, structs.ExclusiveLease, true, false) // too little is left for a start
		l.Renew(time.Now().Add(-time.Second), time.Second) // an old acknowledgement, come late
		l.Renew(time.Now().Add(startMargin/2), time.Second)
		wantMay(t, l, structs.ExclusiveLease, true, false)
		time.Sleep(startMargin)
		synctest.Wait()
		wantMay(t, l, structs.ExclusiveLease, false, false)
		if *changes != 1 || l.State().Held || l.Grace() != time.Second {
			t.Errorf("after its end: %d changes, state %+v, grace %v", *changes, l.State(), l.Grace())
		}
	})
}

func TestRevokedUntilConfirmedUnderTheNextLease(t *testing.T) {
	for name, late := range map[string]bool{"the timer ends it": false, "it is renewed before its timer has come to say so": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, l *Lease, changes *int) {
				l.Renew(time.Now().Add(7*time.Second), time.Second)
				l.Confirm(l.State())
				under := l.State()
				if late {
					l.timer.Stop()
				}
				time.Sleep(8 * time.Second)
				synctest.Wait()
				l.Renew(time.Now().Add(7*time.Second), time.Second)
				if *changes != 1 || !l.State().Held || l.State().HeldConfirmed {
					t.Errorf("%d changes, state %+v", *changes, l.State())
				}
				// Another host may have the container since.
				wantMay(t, l, structs.ExclusiveLease, false, false)
				if l.Confirm(under) {
					t.Error("an answer to a poll of the lease that has ended confirms")
				}
				wantMay(t, l, structs.ExclusiveLease, false, false)
				l.Confirm(l.State())
				wantMay(t, l, structs.ExclusiveLease, true, true)
			})
		})
	}
}

func TestRenewedInTimeItLasts(t *testing.T) {
	inBubble(t, func(t *testing.T, l *Lease, changes *int) {
		l.Renew(time.Now().Add(7*time.Second), time.Second)
		l.Confirm(l.State())
		for range 100 {
			time.Sleep(3 * time.Second)
			l.Renew(time.Now().Add(7*time.Second), time.Second)
			wantMay(t, l, structs.ExclusiveLease, true, true)
		}
		if *changes != 0 {
			t.Errorf("%d changes", *changes)
		}
	})
}

func TestFileOutlivesTheAgentAndNoReboot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	first := New(func() {}, hclog.NewNullLogger())
	if err := first.Restore(NewFile(path)); err != nil || first.State().Held {
		t.Fatalf("without a file the state is %+v, %v", first.State(), err)
	}
	first.Renew(time.Now().Add(time.Hour), time.Minute)
	first.Stop() // waits for the file
	left, grace, err := NewFile(path).Read()
	if err != nil || left < 59*time.Minute || left > time.Hour || grace != time.Minute {
		t.Fatalf("kept are %v and %v, %v", left, grace, err)
	}
	second := New(func() {}, hclog.NewNullLogger())
	defer second.Stop()
	if err := second.Restore(NewFile(path)); err != nil || !second.State().Held || second.State().HeldConfirmed {
		t.Errorf("the next life has %+v, %v", second.State(), err)
	}
	wantMay(t, second, structs.ExclusiveLease, true, false)
	// Without one left, what runs has run without: a new lease alone is no right to go on.
	if err := NewFile(path).Write(-time.Second, time.Minute); err != nil {
		t.Fatal(err)
	}
	third := New(func() {}, hclog.NewNullLogger())
	if err := third.Restore(NewFile(path)); err != nil {
		t.Fatal(err)
	}
	third.Renew(time.Now().Add(time.Hour), time.Minute)
	wantMay(t, third, structs.ExclusiveLease, false, false)
	third.Confirm(third.State())
	wantMay(t, third, structs.ExclusiveLease, true, true)
	third.Stop() // waits for the file
	rebooted := NewFile(path)
	rebooted.boot = "another"
	if left, _, err := rebooted.Read(); err != nil || left > 0 {
		t.Errorf("after a reboot %v are left, %v", left, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if left, _, err := NewFile(path).Read(); err != nil || left > 0 {
		t.Errorf("of a broken file %v are left, %v", left, err)
	}
	if _, _, err := NewFile(t.TempDir()).Read(); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that can't be read gives %v", err)
	}
}

func TestNumbersOnlyGrow(t *testing.T) {
	last := uint64(0)
	for _, n := range []uint64{Number(1, 0), Number(1, time.Millisecond), Number(1, time.Hour), Number(2, 0), Number(2, time.Second),
		Number(9, 0)} {
		if n <= last {
			t.Errorf("%d follows %d", n, last)
		}
		last = n
	}
	if since, ok := SentAt(Number(3, 40*time.Second), 3, Number(3, time.Minute)); since != 40*time.Second || !ok {
		t.Errorf("it was sent at %v, %v", since, ok)
	}
}

// TestFixtureLease: the lease that an earlier build has kept is read as long as the
// machine has not been started again.
func TestFixtureLease(t *testing.T) {
	path := filepath.Join("..", "testdata", "fixture", "agent.lease")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var has struct {
		Boot string `json:"boot"`
	}
	if err := json.Unmarshal(b, &has); err != nil {
		t.Fatal(err)
	}
	f := NewFile(path)
	f.boot = has.Boot
	if _, grace, err := f.Read(); err != nil || grace <= 0 {
		t.Errorf("the lease can't be read: grace %v, %v", grace, err)
	}
	f.boot = "another"
	if left, grace, err := f.Read(); err != nil || left != 0 || grace != 0 {
		t.Errorf("after a reboot there is a lease: %v, %v, %v", left, grace, err)
	}
}
