package server

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/raftlog"
)

func TestExplainLeaderless(t *testing.T) {
	three := []raftlog.Peer{{ID: "u1", Voter: true}, {ID: "u2", Voter: true}, {ID: "u3", Voter: true}}
	for name, c := range map[string]struct {
		peers []raftlog.Peer
		alive string
		want  string
	}{
		"no cluster":          {nil, "", "belongs to no cluster yet"},
		"one server":          {three[:1], "u1", "about to lead"},
		"one of three":        {three, "u1", "1 of 3 servers answer, but 2 are needed. Start s2 and u3 again; if"},
		"two of three":        {three, "u1 u2", "2 of 3 servers answer, which is enough"},
		"all":                 {three, "u1 u2 u3", "3 of 3 servers answer, which is enough"},
		"one of two":          {three[:2], "u1", "1 of 2 servers answer, but 2 are needed. Start s2 again; if"},
		"one that can't vote": {append([]raftlog.Peer{{ID: "u4"}}, three...), "u1 u4", "1 of 3 servers answer"},
	} {
		got := explainLeaderless(c.peers, func(id string) (string, bool) {
			return map[string]string{"u1": "s1", "u2": "s2"}[id], strings.Contains(c.alive, id)
		})
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
