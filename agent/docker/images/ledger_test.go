package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/image"
)

// engineOf returns the list function of an engine with the images in *ids.
func engineOf(ids *[]string) func(context.Context) ([]image.Summary, error) {
	return func(context.Context) (list []image.Summary, err error) {
		if *ids == nil {
			return nil, errors.New("the engine is away")
		}
		for _, id := range *ids {
			list = append(list, image.Summary{ID: id})
		}
		return list, nil
	}
}

// TestLedger: what magnum brings is nobody's until somebody proves a right, also while the
// pull runs and after a crash in the middle; what the operator has is everybody's.
func TestLedger(t *testing.T) {
	ctx, file, ids := t.Context(), filepath.Join(t.TempDir(), "images"), []string{"own"}
	open := func() *ledger {
		t.Helper()
		l := &ledger{list: engineOf(&ids)}
		if err := l.open(file); err != nil {
			t.Fatal(err)
		}
		return l
	}
	everybodys := func(l *ledger, want ...string) {
		t.Helper()
		for _, id := range []string{"own", "a", "b", "later"} {
			if got, err := l.everybodys(ctx, id); err != nil || got != slices.Contains(want, id) {
				t.Errorf("%s is everybody's: %v, %v", id, got, err)
			}
		}
	}
	begin := func(l *ledger) func(context.Context) error {
		t.Helper()
		end, err := l.begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	l := open()
	end := begin(l)
	ids = append(ids, "a")
	everybodys(l, "own")
	if err := end(ctx); err != nil {
		t.Fatal(err)
	}
	everybodys(l, "own", "b", "later") // an image that it doesn't know is the operator's
	if err := errors.Join(l.grant("p1", "a", "reg/a:1"), l.grant("p1", "own", "own:1")); err != nil {
		t.Fatal(err)
	}
	if !l.shown("p1", "a") || l.shown("p2", "a") || !l.hides("p2", "reg/a:1") || l.hides("p1", "reg/a:1") || l.hides("p2", "own:1") {
		t.Errorf("the ledger is %+v", l.now)
	}

	begin(l) // and it crashes
	ids = append(ids, "b")
	l = open()
	away := ids
	ids = nil
	if _, err := l.everybodys(ctx, "b"); err == nil {
		t.Error("it knows without the engine")
	}
	ids = away
	everybodys(l, "own", "later")
	if got, err := l.brought(ctx); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("brought are %v, %v", got, err)
	}
	if !open().shown("p1", "a") {
		t.Error("it forgets after a restart")
	}
	// Two at a time: nothing is taken down before both are over.
	first, second := begin(l), begin(l)
	ids = append(ids, "later")
	if err := first(ctx); err != nil {
		t.Fatal(err)
	}
	everybodys(l, "own")
	if err := second(ctx); err != nil {
		t.Fatal(err)
	}
	everybodys(l, "own")
	if err := l.forget([]string{"b"}); err != nil {
		t.Fatal(err)
	}
	if l = open(); l.shown("p1", "a") || len(l.now.Names) != 0 {
		t.Errorf("after the cleaning it is %+v", l.now)
	}
	everybodys(l, "own", "a", "later")

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&ledger{}).open(file); err == nil {
		t.Error("a damaged file is taken for an empty one")
	}
}
