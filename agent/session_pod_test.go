package agent

import (
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// TestLogsOfAPod: a follow goes on with the next attempt, and ends with the pod. The log of
// the attempt before can be read by itself.
func TestLogsOfAPod(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := wantPod("a", noInit, func(s *structs.PodSpec) { s.Containers[0] = script("web", "echo began; sleep 1000") })
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, nil, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	read := func(follow, previous bool) *websocket.Conn {
		offer := structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionLogs,
			Logs: &structs.LogsRequest{Stdout: true, Tail: -1, Follow: follow, Previous: previous}}
		offer.About(a.Ref()) // the pod's first container
		return s.offer(offer)
	}
	if got := listen(t, read(false, true)); got.last.Code != structs.CodeNotFound || !strings.Contains(got.last.Error, "previous") {
		t.Errorf("before the first restart the log before is %+v", got)
	}
	follow := read(true, false)
	accepted(t, follow)
	began := func() {
		t.Helper()
		if _, m, err := follow.Read(t.Context()); err != nil || string(m[1:]) != "began\n" {
			t.Fatalf("the log goes on with %q, %v", m, err)
		}
	}
	began()
	fake.Outside.Exit(of(a, "web"), 1)
	began()
	if got := listen(t, read(false, true)); got.stdout != "began\n" || !got.last.Done {
		t.Errorf("the log before is %+v", got)
	}
	s.assign(next(a, structs.DesiredAbsent))
	if got := listen(t, follow); !got.last.Done {
		t.Errorf("with the pod the log ends with %+v", got)
	}
}
