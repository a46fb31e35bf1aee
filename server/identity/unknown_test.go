package identity

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// asked counts the tokens that it is asked about.
type asked struct {
	n   int
	err error
}

func (a *asked) Authenticate(context.Context, Credentials) (structs.Caller, error) {
	a.n++
	return structs.Caller{ProjectID: "p"}, a.err
}

func TestUnknownTokens(t *testing.T) {
	now := time.Unix(1, 0)
	source := &asked{err: structs.Errorf(structs.CodeUnauthenticated, "no such token")}
	a := &Unknown{Tokens: source, Known: func(token string) bool { return token == "known" }, now: func() time.Time { return now }}
	ask := func(token string, want int) {
		t.Helper()
		if _, err := a.Authenticate(t.Context(), Credentials{Token: token}); structs.CodeOf(err) != structs.CodeOf(source.err) {
			t.Errorf("%s: %v", token, err)
		}
		if source.n != want {
			t.Errorf("%s: asked %d times, want %d", token, source.n, want)
		}
	}
	for range 10 {
		ask("x", 1)
	}
	ask("y", 2)
	ask("known", 3)
	ask("known", 4)
	now = now.Add(unknownFor)
	ask("x", 5)
	for i := range 3 * maxUnknown {
		ask(fmt.Sprint("t", i), 6+i)
	}
	if len(a.refused) > maxUnknown {
		t.Errorf("%d refusals are kept", len(a.refused))
	}
	source.n, source.err = 0, structs.Errorf(structs.CodeUnavailable, "no leader")
	ask("z", 1)
	ask("z", 2) // only refusals are remembered
	source.err = nil
	ask("z", 3)
	if !a.Knows("known") || a.Knows("z") {
		t.Error("Knows is not Known")
	}
}
