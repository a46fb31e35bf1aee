package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// TestDrainedWithThreeServers: a host asks one server whether its pod is drained, and the
// hosts of the bay poll all three.
func TestDrainedWithThreeServers(t *testing.T) {
	c := newThreeServers(t, oneLeader)
	var urls []string
	agents := make(map[string]*servertest.Agent)
	stay := servertest.Behave(func(a structs.Assignment) *structs.Observed {
		if a.Desired == structs.DesiredAbsent {
			return nil // it asks first
		}
		return servertest.Obey(a)
	})
	for i, m := range c.members {
		urls = append(urls, m.running().URL())
		a := servertest.StartAgent(t.Context(), t, urls[i], fmt.Sprint("h", i), stay)
		agents[a.HostID] = a
	}
	web := &roundRobin{t: t, http: &http.Client{}, urls: urls}
	defer web.http.CloseIdleConnections()
	post := func(path, body string) {
		t.Helper()
		if status, answer := web.do("POST", path, body); status != http.StatusCreated {
			t.Fatalf("POST %s: %d %s", path, status, answer)
		}
	}
	post("/v1/bays?wait=1m", `{"name":"b","node_count":3}`)
	object := func(path, manifest string) {
		t.Helper()
		quoted, err := json.Marshal(manifest)
		if err != nil {
			t.Fatal(err)
		}
		post(path, `{"bay_uuid":"b","manifest":`+string(quoted)+`}`)
	}
	object("/v1/services", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n")
	for i := range 4 {
		object("/v1/pods", fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p%d, labels: {app: web}}\n"+
			"spec: {containers: [{name: c, image: i}]}\n", i))
	}
	store := c.members[0].running().store
	ready := func() (pods []structs.Endpoint) {
		for row := range store.Snapshot().List(structs.TableEndpoints, state.AllProjects, 0) {
			for _, p := range row.(*structs.Endpoints).Pods {
				if p.Ready {
					pods = append(pods, p)
				}
			}
		}
		return pods
	}
	c.eventually("the service leads to all pods", func() bool { return len(ready()) == 4 })

	remove := func(p structs.Endpoint) {
		t.Helper()
		status, text := web.do("DELETE", "/v1/pods/"+p.PodID+"?wait=0s", "")
		if status != http.StatusNoContent && status != http.StatusAccepted {
			t.Fatalf("delete: %d %s", status, text)
		}
		c.eventually("the server knows that the pod is to go", func() bool {
			pod := store.Snapshot().Pod(p.PodID)
			return pod == nil || pod.Desired == structs.DesiredAbsent
		})
	}
	// ask has a host ask about its pod, which is being deleted.
	ask := func(p structs.Endpoint) (structs.Drained, time.Duration) {
		t.Helper()
		began := time.Now()
		r, err := http.NewRequestWithContext(t.Context(), "GET", urls[0]+"/v1/agent/hosts/"+p.HostID+"/drained?wait=2s&pod="+p.PodID, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+agents[p.HostID].Secret)
		resp, err := web.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer structs.Drained
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d: %v", resp.StatusCode, err)
		}
		return answer, time.Since(began)
	}
	for i := range 2 {
		p := ready()[0]
		remove(p)
		c.eventually(fmt.Sprintf("pod %d is drained", i), func() bool { // busy hosts may need more than one wait
			answer, _ := ask(p)
			return answer.Drained
		})
		for _, left := range ready() {
			if left.PodID == p.PodID {
				t.Error("the service leads to the drained pod")
			}
		}
	}
	// A server that is down, whose host does not poll elsewhere: the wait is over in time.
	down := 1
	if c.leader() == c.members[1] {
		down = 2
	}
	web.urls = urls[:1]
	if err := c.members[down].stop(); err != nil {
		t.Fatal(err)
	}
	last := ready()[0]
	remove(last)
	answer, took := ask(last)
	if answer.Drained || took < time.Second || took > time.Minute || len(answer.Waiting) != 1 ||
		answer.Waiting[0] != fmt.Sprint("h", down) {
		t.Errorf("%+v after %v", answer, took)
	}
}
