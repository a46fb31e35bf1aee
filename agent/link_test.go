package agent

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestPollsSayWhetherTheHostIsBehind: a host that doesn't serve what the last answer said of
// services tells it with the next poll, and no longer once it does.
func TestPollsSayWhetherTheHostIsBehind(t *testing.T) {
	s := newFakeServer(t)
	s.secret, s.registration = structs.NewSecret(), 1
	calls, err := api.NewAgent(api.AgentConfig{Servers: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	calls.Use(structs.NewID(), s.secret, 1)
	j, _, err := openJournal(filepath.Join(t.TempDir(), fileJournal))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	l := &link{api: calls, journal: j, log: hclog.NewNullLogger(), startedAt: time.Now(), registration: 1, lostAfter: minLostAfter,
		pollState: func() pollState { return pollState{} }}
	ctx, cancel := context.WithCancel(t.Context())
	serves := []bool{false, false, true, true}
	if err := l.poll(ctx, func(*structs.Work, string, bool, pollState) bool {
		now := serves[0]
		if serves = serves[1:]; len(serves) == 0 {
			cancel()
		}
		s.assign(want("a", uint64(len(serves)+1), structs.DesiredRunning))
		return now
	}); err != nil {
		t.Fatal(err)
	}
	var behind []bool
	for _, p := range s.polls[:4] {
		behind = append(behind, p.behind)
	}
	if !slices.Equal(behind, []bool{false, true, true, false}) {
		t.Errorf("the polls said behind: %v", behind)
	}
}
