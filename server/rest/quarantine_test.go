package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// agentOf registers a host that shows the lineage which it has followed, and returns its
// agent's calls.
type agentOf struct {
	t      *testing.T
	url    string
	id     string
	secret string
	answer structs.HostRegistered
}

func registerHost(t *testing.T, s *servertest.Server, id, secret string, follows structs.Following) *agentOf {
	t.Helper()
	a := &agentOf{t: t, url: s.URL, id: id, secret: secret}
	body, _ := json.Marshal(structs.HostRegister{
		HostID: id, Name: "h", JoinToken: servertest.JoinToken, Secret: secret, Follows: follows,
		Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 4, Memory: 8 << 30},
	})
	a.call("POST", "", string(body), 200, &a.answer)
	return a
}

func (a *agentOf) call(method, path, body string, want int, out any) {
	a.t.Helper()
	url := a.url + "/v1/agent/hosts"
	if path != "" {
		url += "/" + a.id + path
	}
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if path != "" {
		r.Header.Set("Authorization", "Bearer "+a.secret)
		r.Header.Set("X-Magnum-Registration", fmt.Sprint(a.answer.Registration))
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	if resp.StatusCode != want {
		a.t.Fatalf("%s %s is %d, want %d: %s", method, path, resp.StatusCode, want, b.String())
	}
	if out != nil {
		if err := json.Unmarshal(b.Bytes(), out); err != nil {
			a.t.Fatal(err)
		}
	}
}

// tell reports the host's quarantine.
func (a *agentOf) tell(r structs.QuarantineReport) {
	a.t.Helper()
	r.Registration = a.answer.Registration
	b, _ := json.Marshal(r)
	a.call("POST", "/quarantine", string(b), 200, nil)
}

// TestQuarantineOfAnotherHistory checks that an agent which shows another lineage than the
// state's has to register again. The registration's answer says so, and each full answer
// names the workloads in quarantine, also to an agent that has lost its journal.
func TestQuarantineOfAnotherHistory(t *testing.T) {
	s := servertest.New(t)
	c := newCaller(t, s)
	c.do("POST", "/v1/bays", `{"name":"bay","node_count":1}`).is(201)
	cluster := s.Store.Snapshot().Cluster()
	id, secret := structs.NewID(), structs.NewSecret()
	first := registerHost(t, s, id, secret, structs.Following{})
	if first.answer.Diverged {
		t.Fatal("an agent that has followed nothing has followed another history")
	}
	var work structs.Work
	first.call("GET", "/work?index=0", "", 200, &work)
	// Agents number their polls with all 64 bits.
	first.call("GET", "/work?index=0&sent=18446744073709551615", "", 200, nil)
	first.call("GET", "/work?index=0&sent=18446744073709551616", "", 400, nil)
	first.call("GET", "/work?index=0&sent=-1", "", 400, nil)
	if work.Lineage == "" || work.Pending || len(work.Quarantine) > 0 {
		t.Fatalf("first answer: %+v", work)
	}
	own := fmt.Sprintf("&lineage=%s&seen=%d", work.Lineage, work.Index)
	first.call("GET", "/work?index=0"+own, "", 200, nil)
	first.call("GET", fmt.Sprintf("/work?index=%d&wait=1ms", work.Index)+own, "", 200, nil)

	other := structs.NewID()
	for _, index := range []uint64{1, work.Index, work.Index + 1000} {
		first.call("GET", fmt.Sprintf("/work?index=0&wait=1ms&lineage=%s&seen=%d", other, index), "", 409, nil)
		first.call("GET", fmt.Sprintf("/work?index=%d&wait=1ms&lineage=%s&seen=%d", index, other, index), "", 409, nil)
	}
	// The agent is only ahead of a server that has the same newest lineage.
	first.call("GET", fmt.Sprintf("/work?index=0&wait=1ms&lineage=%s&seen=%d", work.Lineage, work.Index+1000), "", 503, nil)

	again := registerHost(t, s, id, secret, structs.Following{ClusterID: cluster.ClusterID, Incarnation: cluster.Incarnation,
		Lineage: other, Index: 3})
	if !again.answer.Diverged || again.answer.Lineage != work.Lineage || again.answer.Index < work.Index {
		t.Fatalf("registered: %+v", again.answer)
	}
	again.call("GET", "/work?index=0", "", 200, &work)
	if !work.Pending {
		t.Fatal("the answer does not say that what it doesn't name goes into quarantine")
	}
	x, y := structs.NewID(), structs.NewID()
	again.tell(structs.QuarantineReport{Judged: true, Kept: []structs.Quarantined{
		{ContainerID: x, Epoch: 1, Name: "x", SpecHash: "h", State: "running", Adoption: structs.AdoptionKeep}, {ContainerID: y, Epoch: 2},
	}})
	index := s.Store.Index()
	again.tell(structs.QuarantineReport{Judged: true, Kept: []structs.Quarantined{{ContainerID: x, Epoch: 1}}})
	if s.Store.Index() != index {
		t.Error("the same said again was written")
	}
	lost := registerHost(t, s, id, secret, structs.Following{})
	if lost.answer.Diverged {
		t.Error("an agent without a journal has followed another history")
	}
	work = structs.Work{}
	lost.call("GET", "/work?index=0", "", 200, &work)
	if work.Pending || len(work.Quarantine) != 2 || work.Quarantine[0].ContainerID != x || work.Quarantine[0].Adoption != "" {
		t.Fatalf("the quarantine is %+v", work.Quarantine)
	}

	shown := c.do("GET", "/v1/hosts/h", "").is(200).object()["quarantine"].([]any)
	if k := shown[0].(map[string]any); len(shown) != 2 || k["container_uuid"] != x || k["name"] != "x" || k["state"] != "running" ||
		k["epoch"] != 1.0 || k["decided"] != nil || k["since"] == nil {
		t.Errorf("host-show has %v", shown)
	}

	// A waiting poll is answered when a decision comes.
	c.do("PUT", "/v1/hosts/h/adopt", "").is(400)
	c.do("PUT", "/v1/hosts/h/adopt?container="+structs.NewID(), "").is(404)
	c.do("PUT", "/v1/hosts/none/adopt?container="+x, "").is(404)
	c.do("PUT", "/v1/hosts/h/adopt?container=x", "").is(409)
	at := s.Store.Index()
	got := make(chan structs.Work, 1)
	go func() {
		var w structs.Work
		lost.call("GET", fmt.Sprintf("/work?index=%d&wait=20s", at), "", 200, &w)
		got <- w
	}()
	servertest.Eventually(t, "the poll waits", func() bool { return s.Dispatch.Parked() == 1 })
	c.do("PUT", "/v1/hosts/h/adopt?container=x&remove=true", "").is(200)
	if w := <-got; len(w.Quarantine) != 1 || w.Quarantine[0].ContainerID != x || w.Quarantine[0].Adoption != structs.AdoptionRemove ||
		w.Full {
		t.Errorf("it hears %+v", w)
	}

	// The bay isn't deleted while the quarantine isn't empty.
	c.do("DELETE", "/v1/bays/bay", "").is(204)
	servertest.Eventually(t, "the bay says what it waits for", func() bool {
		r := c.do("GET", "/v1/bays/bay", "")
		return r.status == 200 && strings.Contains(fmt.Sprint(r.object()["status_reason"]), "host-adopt")
	})
	lost.tell(structs.QuarantineReport{Ended: []structs.QuarantineRef{{ContainerID: x, Epoch: 1}, {ContainerID: y, Epoch: 2}}})
	servertest.Eventually(t, "the bay is gone", func() bool { return c.do("GET", "/v1/bays/bay", "").status == 404 })
	if n := len(s.Store.Snapshot().Quarantine(id)); n != 0 {
		t.Errorf("%d pages are left", n)
	}
	for _, body := range []string{`{"kept":[{"container_id":"x"}]}`, fmt.Sprintf(`{"kept":[{"container_id":%q,"name":"a\u0000b"}]}`, x),
		`{"ended":[` + strings.Repeat(`{},`, 100) + `{}]}`} {
		lost.call("POST", "/quarantine", body, 400, nil)
	}
	lost.call("POST", "/quarantine", `{"registration":1}`, 409, nil)
}
