package rest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestDrainedRoute: a host asks about its own pods only, with its own secret.
func TestDrainedRoute(t *testing.T) {
	f := newFixture(t)
	other := f.s.StartAgent(t, "other")
	pod := f.pod("web")
	id, _ := pod["uuid"].(string)
	path := "/v1/agent/hosts/" + f.agent.HostID + "/drained?wait=1s&pod="
	own := header{"Authorization", "Bearer " + f.agent.Secret}
	servertest.Eventually(t, "the pod runs", func() bool {
		p := f.s.Store.Snapshot().Pod(id)
		return p != nil && p.Ready() && p.HostID == f.agent.HostID
	})
	var answer structs.Drained
	r := f.raw("GET", path+id, "", own)
	if r.is(200); json.Unmarshal(r.body, &answer) != nil || !answer.Drained {
		t.Errorf("no service leads to it: %s", r.body)
	}
	f.raw("GET", path+structs.NewID(), "", own).is(404)
	for _, bad := range []string{"", "x", strings.Repeat("y", 5000)} {
		f.raw("GET", path+bad, "", own).is(400)
	}
	f.raw("GET", path+id+"&wait=x", "", own).is(400)
	f.raw("GET", path+id+"&index=-1", "", own).is(400)
	f.raw("GET", path+id, "").is(401)
	f.raw("GET", path+id, "", header{"Authorization", "Bearer " + other.Secret}).is(401)
	f.raw("GET", strings.Replace(path, f.agent.HostID, other.HostID, 1)+id, "", header{"Authorization", "Bearer " + other.Secret}).is(404)
}
