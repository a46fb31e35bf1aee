package rest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// led is the cluster of a server that doesn't lead.
type led struct{}

func (led) IsLeader() bool                              { return false }
func (led) Alone() bool                                 { return false }
func (led) ReadIndex(context.Context) (uint64, error)   { return 0, errors.New("not asked for") }
func (led) LeaderIndex(context.Context) (uint64, error) { return 0, errors.New("not asked for") }
func (led) Leader() (id, addr string)                   { return "leader", "" }
func (led) Changed() <-chan struct{}                    { return nil }

// forwards answers forwarded requests with one error after the other, and repeats the
// last one.
type forwards struct {
	errs  []error
	tries int
}

func (f *forwards) Forward(context.Context, string, peer.Forwarded) ([]byte, uint64, error) {
	err := f.errs[min(f.tries, len(f.errs)-1)]
	f.tries++
	return nil, 0, err
}

func (*forwards) Relay(http.ResponseWriter, *http.Request, string) error {
	return errors.New("not asked for")
}

// leaderless is the cluster of a server that knows no leader.
type leaderless struct{ led }

func (leaderless) ReadIndex(context.Context) (uint64, error) { return 0, errors.New("nobody answers") }
func (leaderless) Leader() (id, addr string)                 { return "", "" }

// TestLeaderlessError checks the error of a write that waited for a leader in vain: it says
// that there is no leader, and not that one server isn't the leader.
func TestLeaderlessError(t *testing.T) {
	s := servertest.New(t, func(r *rest.Config) {
		r.Cluster, r.Peers, r.Hold, r.Operations = leaderless{}, &forwards{}, 200*time.Millisecond, &fakeOperations{}
		r.Leaderless = func() string { return "there is no leader: 1 of 3 servers answer" }
	})
	s.StopLeading()
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/v1/baymodels", `{"coe":"docker"}`, `"no_leader"`},
		{http.MethodPut, "/v1/operator/snapshot", "", `"no_leader"`},
		{http.MethodPut, "/v1/operator/raft/transfer-leader", "", `"no_leader"`},
		{http.MethodGet, "/v1/status/leader", "", `"no_leader"`},
		{http.MethodGet, "/v1/baymodels?consistent", "", `?stale needs none`},
	} {
		req, err := http.NewRequest(c.method, s.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get(peer.HeaderOutcome) != "" ||
			!strings.Contains(string(text), "there is no leader: 1 of 3 servers answer") || !strings.Contains(string(text), c.want) {
			t.Errorf("%s %s: status %d, %s", c.method, c.path, resp.StatusCode, text)
		}
	}
}

// TestUnknownOutcomeIsKept checks that the outcome of a write stays unknown if a later try
// finds no leader.
func TestUnknownOutcomeIsKept(t *testing.T) {
	away := structs.Errorf(structs.CodeNoLeader, "the leader is not there")
	unknown := structs.Errorf(structs.CodeNoLeader, "the leader hung up: %w", peer.ErrUnknown)
	for name, c := range map[string]struct {
		errs []error
		want string // value of peer.HeaderOutcome
	}{
		"never taken":               {[]error{away}, ""},
		"taken, then not":           {[]error{away, unknown, away}, peer.OutcomeUnknown},
		"taken, then no room":       {[]error{unknown, structs.Errorf(structs.CodeNoSpace, "full")}, peer.OutcomeUnknown},
		"taken, then too many":      {[]error{unknown, structs.Errorf(structs.CodeRateLimited, "busy")}, peer.OutcomeUnknown},
		"taken, then too early":     {[]error{unknown, structs.Errorf(structs.CodeUnavailable, "not yet")}, peer.OutcomeUnknown},
		"taken, then it is invalid": {[]error{unknown, structs.Errorf(structs.CodeInvalid, "no")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.New(t, func(r *rest.Config) {
				r.Cluster, r.Peers, r.Hold = led{}, &forwards{errs: c.errs}, 3*time.Second // for three tries on a busy machine
			})
			resp, err := http.Post(s.URL+"/v1/baymodels", "application/json", strings.NewReader(`{"coe":"docker"}`))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if got := resp.Header.Get(peer.HeaderOutcome); err != nil || resp.StatusCode < 400 || got != c.want {
				t.Errorf("status %d, outcome %q, want %q: %s", resp.StatusCode, got, c.want, text)
			}
			if c.want != "" && !strings.Contains(string(text), "may or may not have been carried out") {
				t.Errorf("it says %s", text)
			}
		})
	}
}
