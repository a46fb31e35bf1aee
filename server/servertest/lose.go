package servertest

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// away are the hosts that are lost for good: the server hears no poll of them any more.
type away struct {
	mu   sync.Mutex
	lost map[string]bool // by host
	busy map[string]int  // requests of a host that are being served
}

// guard keeps polls of lost hosts away from a handler. The last poll of an agent that was
// stopped may still be on its way, and a lost host that polls is ready again. A test may still
// send reports for it.
func (w *away) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rest, is := strings.CutPrefix(r.URL.Path, "/v1/agent/hosts/")
		hostID, call, _ := strings.Cut(rest, "/")
		if !is {
			next.ServeHTTP(rw, r)
			return
		}
		if !w.begin(hostID, call == "work") {
			http.Error(rw, "the host is lost", http.StatusServiceUnavailable)
			return
		}
		defer w.end(hostID)
		next.ServeHTTP(rw, r)
	})
}

// begin counts a request of a host; false for a poll of one that is lost.
func (w *away) begin(hostID string, poll bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if poll && w.lost[hostID] {
		return false
	}
	if w.busy == nil {
		w.busy = make(map[string]int)
	}
	w.busy[hostID]++
	return true
}

func (w *away) end(hostID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[hostID]--
}

// lose lets no further poll of a host in. It reports whether no request of it is being served.
func (w *away) lose(hostID string) (quiet bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost == nil {
		w.lost = make(map[string]bool)
	}
	w.lost[hostID] = true
	return w.busy[hostID] == 0
}

// Lose makes a host whose agent was stopped lost, as the leader does after missed heartbeats.
// It stays lost.
func (s *Server) Lose(t testing.TB, hostID string) {
	t.Helper()
	Eventually(t, "the last requests of the host have ended", func() bool { return s.away.lose(hostID) })
	s.Dispatch.AgentDead(hostID) // else the leader makes it ready again: it was heard of a short time ago
	Eventually(t, "the host is not ready", func() bool { return s.Store.Snapshot().Host(hostID).State != structs.HostReady })
	s.MustDo(t, func() error {
		_, err := conductor.Do(s.ctx, s.Conductor, conductor.MarkHosts{Marks: []conductor.HostMark{
			{ID: hostID, State: structs.HostLost, Reason: "its agent sent no heartbeat"},
		}})
		return err
	})
}
