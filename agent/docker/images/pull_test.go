package images

import (
	"errors"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/stackforge/magnum/agent/backend"
)

func TestPullFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error // nil if another attempt may succeed
	}{
		{errors.New(`Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`), nil},
		{errors.New(`Get "http://127.0.0.1:5001/v2/": dial tcp 127.0.0.1:5001: connect: connection refused`), nil},
		{errors.New("toomanyrequests: You have reached your pull rate limit"), nil},
		{errors.New("received unexpected HTTP status: 503 Service Unavailable"), nil},
		{errors.New("net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"), nil},
		{errdefs.ErrNotFound.WithMessage("manifest for x:1 not found: manifest unknown: manifest unknown"), backend.ErrNoImage},
		{errdefs.ErrNotFound.WithMessage("pull access denied for x, repository does not exist or may require 'docker login'"),
			backend.ErrNoImage},
		{errors.New("unauthorized: authentication required"), backend.ErrNoImage},
		{errors.New("no matching manifest for linux/amd64 in the manifest list entries"), backend.ErrNoImage},
		{errors.New("invalid reference format: repository name (X) must be lowercase"), backend.ErrInvalid},
	} {
		got := pullFailure(pullKey{ref: "x:1"}, c.err)
		if c.want == nil && got != nil || c.want != nil && !errors.Is(got, c.want) {
			t.Errorf("pullFailure(%q) is %v, want %v", c.err, got, c.want)
		}
	}
}

// TestAttemptsOfAPull: a slow attempt ends the pull only if the registry has never answered.
func TestAttemptsOfAPull(t *testing.T) {
	for _, c := range []struct {
		attempt  int
		answered bool
		took     time.Duration
		want     bool
	}{
		{1, false, time.Second, true},
		{2, false, pullPatience, true},
		{1, false, pullPatience + 1, false},
		{1, true, time.Minute, true},
		{2, true, time.Minute, true},
		{Attempts, true, 0, false},
		{Attempts, false, 0, false},
	} {
		if got := tryAgain(c.attempt, c.answered, c.took); got != c.want {
			t.Errorf("after attempt %d of %v, answered %v, another one: %v", c.attempt, c.took, c.answered, got)
		}
	}
}
