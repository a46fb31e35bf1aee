package rest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// kube is a fixture with a Kubernetes bay, named kube, beside the Docker bay b1.
type kube struct {
	*fixture
	cluster *servertest.Agent
	bayID   string
}

func newKube(t testing.TB, options ...servertest.AgentOption) *kube {
	t.Helper()
	k := &kube{fixture: newFixture(t)}
	k.cluster = k.s.StartAgent(t, "cluster-1", append([]servertest.AgentOption{servertest.Cluster(2)}, options...)...)
	k.bayID = k.do("POST", "/v1/bays?wait=1m", `{"name":"kube","coe":"kubernetes","node_count":2}`).is(201).uuid()
	return k
}

// send reports a workload as the cluster's agent.
func (k *kube) send(r structs.ContainerReport) {
	k.t.Helper()
	if err := k.cluster.Send(context.Background(), r); err != nil {
		k.t.Fatal(err)
	}
}

// has fails the test unless the body has the texts.
func (r *reply) has(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(string(r.body), text) {
			r.t.Errorf("the answer has no %s: %s", text, r.body)
		}
	}
}

// answered returns the answer of a blocking read, which has to come long before its wait is over.
func answered(t testing.TB, done <-chan *reply) *reply {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(time.Minute):
		t.Fatal("the read still waits")
		return nil
	}
}

// TestKubernetesBay: a bay of coe kubernetes shows its cluster, and waits for its nodes.
func TestKubernetesBay(t *testing.T) {
	k := newKube(t)
	bay := k.do("GET", "/v1/bays/kube", "").is(200).object()
	if bay["status"] != "CREATE_COMPLETE" || bay["api_address"] != "https://192.0.2.20:6443" ||
		fmt.Sprint(bay["node_addresses"]) != "[192.0.2.21 192.0.2.22]" || bay["status_reason"] != nil {
		t.Errorf("the bay is %v", bay)
	}
	k.do("PATCH", "/v1/bays/kube?wait=20ms", `[{"op":"replace","path":"/node_count","value":3}]`).is(202).
		has("UPDATE_IN_PROGRESS", "2 of 3 nodes are ready: the cluster has no others")
	done := make(chan *reply, 1)
	go func() { done <- k.do("GET", "/v1/bays/kube?wait=60s&index="+fmt.Sprint(k.s.Store.Index()), "") }()
	if err := k.cluster.SendCluster(context.Background(), servertest.Nodes(3)); err != nil {
		t.Fatal(err)
	}
	answered(t, done).is(200).has("UPDATE_COMPLETE", "192.0.2.23")

	away := servertest.Nodes(3)
	away.AwaySince, away.Away = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "connection refused"
	if err := k.cluster.SendCluster(context.Background(), away); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, "the bay says that the API is away", func() bool {
		reason, _ := k.do("GET", "/v1/bays/kube", "").is(200).object()["status_reason"].(string)
		return strings.Contains(reason, "has not answered since 2026-01-02T03:04:05Z: connection refused")
	})
	host := k.do("GET", "/v1/hosts/cluster-1", "").is(200).object()
	cluster := host["cluster"].(map[string]any)
	if host["backend"] != "kubernetes" || cluster["ready"] != 3.0 || cluster["away"] != "connection refused" ||
		fmt.Sprint(cluster["nodes"].([]any)[0]) != "map[addresses:[192.0.2.21] name:node-1 ready:true]" {
		t.Errorf("the host is %v", host)
	}
	if docker := k.do("GET", "/v1/hosts/host-1", "").is(200).object(); docker["cluster"] != nil {
		t.Errorf("a Docker host has a cluster: %v", docker)
	}
	k.do("POST", "/v1/bays?wait=20ms", `{"name":"more","coe":"kubernetes"}`).is(202).has("waits for Kubernetes clusters that are free")
}

// TestPodOnAKubernetesBay follows a pod from its creation to its deletion.
func TestPodOnAKubernetesBay(t *testing.T) {
	k := newKube(t)
	text := podManifest("web", "busybox:latest")
	pod := k.do("POST", "/v1/pods?wait=1m", podOf(t, text, `,"bay":"kube"`)).is(201).object()
	if pod["status"] != "Running" || pod["host"] != "node-1" || pod["address"] != "10.244.0.2" || pod["ready"] != true ||
		pod["manifest"] != text || pod["status_reason"] != nil || pod["rc_uuid"] != nil {
		t.Errorf("the pod is %v", pod)
	}
	if got := conditions(pod); !strings.Contains(got, "Ready") || strings.Contains(got, "False") {
		t.Errorf("conditions %s", got)
	}
	for _, host := range []string{"node-1", "cluster-1"} {
		if got := k.do("GET", "/v1/pods?host="+host, "").is(200).names("pods"); got != "web" {
			t.Errorf("pods on %s: %s", host, got)
		}
	}
	a, _ := k.cluster.Assigned(pod["uuid"].(string))
	if a.Pod == nil || a.Pod.Manifest != text || a.Name != "web" || a.Pod.Found || !a.Pod.Spec.Cluster {
		t.Errorf("the assignment is %+v", a)
	}
	r := structs.ReportOf(a.Ref())
	r.Status, r.Generation = structs.ContainerRunning, a.Generation
	r.Pod = &structs.PodReport{Phase: structs.PodPending, Conditions: []structs.Condition{
		{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Message: "0/2 nodes are\x1b available"}}}
	k.send(r)
	now := k.do("GET", "/v1/pods/web", "").is(200).object()
	if now["status"] != "Pending" || now["host"] != nil || now["address"] != nil || now["ready"] != false ||
		fmt.Sprint(now["conditions"]) != "[map[message:0/2 nodes are  available reason:Unschedulable status:False type:PodScheduled]]" {
		t.Errorf("the pod is %v", now)
	}

	away := servertest.Nodes(2)
	away.AwaySince, away.Away = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "connection refused"
	if err := k.cluster.SendCluster(context.Background(), away); err != nil {
		t.Fatal(err)
	}
	k.do("GET", "/v1/pods/web", "").is(200).has("the cluster's API has not answered since 2026-01-02T03:04:05Z: connection refused; "+
		"this is what was last seen", `"status":"Pending"`)

	changed := podManifest("web", "busybox:2")
	k.do("PATCH", "/v1/pods/web?wait=1m", patchManifest(t, changed)).is(200).has("busybox:2")
	if a, _ := k.cluster.Assigned(pod["uuid"].(string)); a.Generation != 2 || a.Pod.Manifest != changed {
		t.Errorf("after the PATCH the assignment is %+v", a)
	}
	k.do("PATCH", "/v1/pods/web", patchManifest(t, podManifest("other", "x"))).is(400).mentions(`"other" is not the pod's name`)
	k.do("DELETE", "/v1/pods/web?wait=1m", "").is(204)
	k.do("GET", "/v1/pods/web", "").is(404)
}

// TestServiceOnAKubernetesBay follows a service from its creation to its deletion.
func TestServiceOnAKubernetesBay(t *testing.T) {
	k := newKube(t)
	pod := k.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("web", "busybox:latest"), `,"bay":"kube"`)).is(201).uuid()
	text := serviceManifest("web", "type: NodePort, ports: [{port: 80, targetPort: 8080}]")
	made := k.do("POST", "/v1/services?wait=1m", podOf(t, text, `,"bay":"kube"`)).is(201).object()
	if made["address"] != "10.96.0.7" || made["manifest"] != text || fmt.Sprint(made["node_ports"]) != "[]" || made["status"] != "Active" {
		t.Errorf("the service is %v", made)
	}
	id := "service/" + made["uuid"].(string)
	a, _ := k.cluster.Assigned(id)
	if a.Object == nil || a.Object.Manifest != text || a.Object.Kind != "service" || a.Object.OwnerID != made["uuid"] || a.Name != "web" {
		t.Errorf("the assignment is %+v", a)
	}
	before := k.do("GET", "/v1/services/web", "").is(200)
	done := make(chan *reply, 1)
	go func() { done <- k.do("GET", fmt.Sprintf("/v1/services/web?wait=60s&index=%d", before.index()), "") }()
	servertest.Eventually(t, "the read waits", func() bool { return k.s.REST.Parked() > 0 })
	r := structs.ReportOf(a.Ref())
	r.Status, r.Generation = structs.ContainerRunning, a.Generation
	r.Object = &structs.ObjectReport{Service: &structs.ServiceReport{Address: "10.96.0.7", Matched: 1,
		Ports:     []structs.ServicePort{{Port: 80, NodePort: 31234, Protocol: "tcp"}},
		Endpoints: []structs.Endpoint{{PodID: pod, Name: "web", Address: "10.244.0.2", Ports: []int{8080}, Ready: true}}}}
	k.send(r)
	now := answered(t, done).is(200).object()
	endpoint := map[string]any{"pod": "web", "pod_uuid": pod, "host": "node-1", "address": "10.244.0.2", "ports": []any{8080.0},
		"ready": true}
	if fmt.Sprint(now["endpoints"]) != fmt.Sprint([]any{endpoint}) || fmt.Sprint(now["node_ports"]) != "[31234]" || now["ready"] != 1.0 ||
		now["status_reason"] != nil {
		t.Errorf("the service is %v", now)
	}

	// A report that only says why wakes a reader, too.
	before = k.do("GET", "/v1/services/web", "").is(200)
	go func() { done <- k.do("GET", fmt.Sprintf("/v1/services/web?wait=60s&index=%d", before.index()), "") }()
	servertest.Eventually(t, "the read waits", func() bool { return k.s.REST.Parked() > 0 })
	r.Reason = "the webhook is slow"
	k.send(r)
	answered(t, done).is(200).has(`"status_reason":"the webhook is slow"`)

	k.do("PATCH", "/v1/services/web?wait=1m", patchManifest(t, serviceManifest("web", "ports: [{port: 81}]"))).is(200).has(`"port":81`)
	if a, _ := k.cluster.Assigned(id); a.Generation != 2 || !strings.Contains(a.Object.Manifest, "port: 81") {
		t.Errorf("after the PATCH the assignment is %+v", a)
	}
	k.do("DELETE", "/v1/services/web", "").is(204)
	servertest.Eventually(t, "the object is gone", func() bool { return k.s.Store.Snapshot().Get(structs.TableObjects, id) == nil })
	if a, _ := k.cluster.Assigned(id); a.Desired != structs.DesiredAbsent || a.Object.Manifest != "" {
		t.Errorf("the last assignment is %+v", a)
	}
}

// TestServiceWaitsForItsCluster: until the cluster has a service, nothing is said about pods, which
// may be there.
func TestServiceWaitsForItsCluster(t *testing.T) {
	k := newKube(t, servertest.Behave(func(structs.Assignment) *structs.Observed { return nil }))
	k.do("POST", "/v1/services", podOf(t, serviceManifest("web", "ports: [{port: 80}]"), `,"bay":"kube"`)).is(201).
		has(`"status":"Pending"`, `"status_reason":"the bay's cluster has not carried out the last change yet"`)
}

// TestRCOnAKubernetesBay: the pods that the cluster has made are pods as all others.
func TestRCOnAKubernetesBay(t *testing.T) {
	k := newKube(t)
	text := rcManifest("web", 1, "nginx:1")
	id := k.do("POST", "/v1/rcs", podOf(t, text, `,"bay":"kube"`)).is(201).uuid()
	servertest.Eventually(t, "the cluster knows it", func() bool { _, ok := k.cluster.Assigned("rc/" + id); return ok })
	pod := structs.NewID()
	r := structs.ReportOf(structs.Ref{Kind: structs.WorkloadPod, ID: pod, Epoch: 1})
	r.Status, r.Addresses = structs.ContainerRunning, []string{"10.244.0.3"}
	r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "node-2", Found: &structs.FoundPod{RCID: id, Name: "web-x7k2p",
		Labels: map[string]string{"app": "web"}, Updated: true, Spec: &structs.PodSpec{RestartPolicy: structs.PodRestartAlways,
			Containers: []structs.PodContainer{{Name: "c0", Image: "nginx:1"}}}}}
	k.send(r)
	servertest.Eventually(t, "the pod is assigned", func() bool { _, ok := k.cluster.Assigned(pod); return ok })
	if a, _ := k.cluster.Assigned(pod); a.Pod == nil || !a.Pod.Found || a.Pod.Manifest != "" || a.Name != "web-x7k2p" {
		t.Errorf("the assignment is %+v", a)
	}
	pods := k.podsOf(id)
	if len(pods) != 1 || pods[0]["host"] != "node-1" || pods[0]["rc_uuid"] != id || pods[0]["manifest"] != nil { // node-1: the fake agent's
		t.Fatalf("its pods are %v", pods)
	}
	k.do("PATCH", "/v1/pods/"+pod, patchManifest(t, podManifest("web-x7k2p", "x"))).is(409).mentions("replication controller " + id)

	o, _ := k.cluster.Assigned("rc/" + id)
	if o.Object.Manifest != text || o.Object.Kind != "rc" {
		t.Errorf("the assignment is %+v", o)
	}
	counts := structs.ReportOf(o.Ref())
	counts.Status, counts.Generation = structs.ContainerRunning, o.Generation
	counts.Object = &structs.ObjectReport{RC: &structs.RCReport{
		RCObserved: structs.RCObserved{Generation: 1, Current: 1, Ready: 1, Updated: 1}}}
	k.send(counts)
	rc := k.do("GET", "/v1/rcs/web", "").is(200).object()
	if rc["current"] != 1.0 || rc["ready"] != 1.0 || rc["updated"] != 1.0 || rc["status_reason"] != nil || rc["manifest"] != text {
		t.Errorf("the rc is %v", rc)
	}
	k.do("DELETE", "/v1/rcs/web?wait=1m", "").is(204) // its pod is assigned to be absent, and the fake agent says so
	k.do("GET", "/v1/rcs/web", "").is(404)
	if k.s.Store.Snapshot().Pod(pod) != nil {
		t.Error("its pod is left")
	}
}

// TestClusterRefusesWordForWord: what the cluster refuses is the error of a create that
// waits, with its code, and the reason of one that doesn't.
func TestClusterRefusesWordForWord(t *testing.T) {
	var mu sync.Mutex
	var code structs.Code
	k := newKube(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		o := servertest.Obey(a)
		if a.Desired != structs.DesiredAbsent {
			o.Status, o.Failed, o.Reason = structs.ContainerError, true, `"x" is refused: by: admission`
		}
		return o
	}), servertest.More(func(a structs.Assignment, r *structs.ContainerReport) {
		mu.Lock()
		defer mu.Unlock()
		if r.Pod = nil; a.Pod != nil {
			r.Pod = &structs.PodReport{Code: code}
		} else {
			r.Object = &structs.ObjectReport{Code: code}
		}
	}))
	n := 0
	for want, status := range map[structs.Code]int{structs.CodeInvalid: 400, structs.CodeForbidden: 403, structs.CodeConflict: 409, "": 500,
		"made-up": 500, structs.CodeUnauthenticated: 500} {
		mu.Lock()
		code = want
		mu.Unlock()
		n++
		name := fmt.Sprint("x", n)
		for noun, text := range map[string]string{"pods": podManifest(name, "x"), "rcs": rcManifest(name, 1, "x"),
			"services": serviceManifest(name, "ports: [{port: 80}]")} {
			r := k.do("POST", "/v1/"+noun+"?wait=1m", podOf(t, text, `,"bay":"kube"`)).is(status)
			r.says(`"x" is refused: by: admission`)
			shown := k.do("GET", "/v1/"+noun+"/"+name, "").is(200)
			shown.has(`"status_reason":"\"x\" is refused: by: admission"`)
			if noun == "services" {
				shown.has(`"status":"Refused"`)
			}
			// The same words again, for the next generation.
			changed := strings.Replace(text, "{", " {", 1)
			k.do("PATCH", "/v1/"+noun+"/"+name+"?wait=1m", patchManifest(t, changed)).is(status).says(`"x" is refused: by: admission`)
		}
	}
}

// TestKubernetesBayRefusals provokes every refusal that only a Kubernetes bay has.
func TestKubernetesBayRefusals(t *testing.T) {
	k := newKube(t)
	k.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("web", "x"), `,"bay":"kube"`)).is(201)
	k.do("POST", "/v1/rcs", podOf(t, rcManifest("web", 1, "x"), `,"bay":"kube"`)).is(201)
	k.do("POST", "/v1/services", podOf(t, serviceManifest("web", "ports: [{port: 80}]"), `,"bay":"kube"`)).is(201)
	servertest.Eventually(t, "all is reported", func() bool {
		snap := k.s.Store.Snapshot()
		for w := range snap.InBay(k.bayID) {
			if !structs.Done(w) {
				return false
			}
		}
		return true
	})
	pod, rc := podManifest("new", "x"), rcManifest("new", 1, "x")
	for _, tt := range []struct {
		path, body, mentions string
		status               int
	}{
		{"/v1/pods", podOf(t, pod, `,"bay":"kube","exclusive":true`), "exclusive: bay kube is of coe kubernetes", 400},
		{"/v1/pods", podOf(t, pod, `,"bay":"kube","infra_image":"pause"`), "infra_image: bay kube is of coe kubernetes", 400},
		{"/v1/pods", podOf(t, pod, `,"bay":"kube","registry":{"username":"u","password":"p"}`), "registry: bay kube is of coe", 400},
		{"/v1/rcs", podOf(t, rc, `,"bay":"kube","exclusive":"lease"`), "exclusive: bay kube is of coe kubernetes", 400},
		{"/v1/rcs", podOf(t, rc, `,"bay":"kube","infra_image":"pause"`), "infra_image: bay kube is of coe kubernetes", 400},
		{"/v1/rcs", podOf(t, rc, `,"bay":"kube","registry":{"username":"u","password":"p"}`), "registry: bay kube is of coe", 400},
		{"/v1/containers", `{"image":"x","bay":"kube"}`, "bay kube is of coe kubernetes, which runs pods", 400},
		{"/v1/pods", podOf(t, "nothing", `,"bay":"kube"`), "manifest", 400},
		{"/v1/rcs", podOf(t, "nothing", `,"bay":"kube"`), "manifest", 400},
		{"/v1/services", podOf(t, "nothing", `,"bay":"kube"`), "manifest", 400},
		{"/v1/pods", podOf(t, pod, ``), "there are 2 bays to choose from", 400},
		{"/v1/pods", podOf(t, podManifest("web", "x"), `,"bay":"kube"`), "Bay kube has a pod web already", 409},
		{"/v1/rcs", podOf(t, rcManifest("web", 1, "x"), `,"bay":"kube"`), "Bay kube has a replication controller web already", 409},
		{"/v1/services", podOf(t, serviceManifest("web", "ports: [{port: 80}]"), `,"bay":"kube"`),
			"Bay kube has a service web already", 409},
		{"/v1/rcs", podOf(t, strings.Replace(rcManifest("web", 1, "x"), `"name":"web"`, `"name":"web2"`, 1), `,"bay":"kube"`),
			"spec.selector", 400},
	} {
		unchanged(t, k.s, "POST "+tt.path+" "+cut(tt.body), func() { k.do("POST", tt.path, tt.body).is(tt.status).mentions(tt.mentions) })
	}
	k.do("POST", "/v1/containers", `{"image":"x"}`).is(201) // there is one bay for it
}

// TestManifestsAreForClustersOnly: the agent of a Docker host never gets a manifest, that of a
// cluster gets it in each answer with the assignment.
func TestManifestsAreForClustersOnly(t *testing.T) {
	k := newKube(t)
	for _, bay := range []string{"b1", "kube"} {
		k.do("POST", "/v1/pods?wait=1m", podOf(t, podManifest("pod", "x"), `,"bay":"`+bay+`"`)).is(201)
		k.do("POST", "/v1/rcs", podOf(t, rcManifest("rc", 1, "x"), `,"bay":"`+bay+`"`)).is(201)
		k.do("POST", "/v1/services", podOf(t, serviceManifest("service", "ports: [{port: 80}]"), `,"bay":"`+bay+`"`)).is(201)
	}
	servertest.Eventually(t, "all is assigned", func() bool {
		for _, id := range []string{k.agent.HostID, k.cluster.HostID} {
			if k.s.Store.Snapshot().Usage(id).Workloads < 2 {
				return false
			}
		}
		return k.s.Store.Snapshot().Usage(k.cluster.HostID).Workloads == 3
	})
	for _, agent := range []*servertest.Agent{k.agent, k.cluster} {
		servertest.Eventually(t, "the agent has its assignments", func() bool {
			for w := range k.s.Store.Snapshot().OnHost(agent.HostID) {
				if _, ok := agent.Assigned(w.Base().ID); !ok {
					return false
				}
			}
			return true
		})
		work, err := agent.Poll(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, full := range []bool{true, false} {
			for _, a := range work.Assignments {
				if !full { // the last one that the agent got without asking for all
					a, _ = agent.Assigned(a.Ref().ID)
				}
				text := ""
				if a.Pod != nil {
					text = a.Pod.Manifest
				} else if a.Object != nil {
					text = a.Object.Manifest
				}
				if (text != "") != (agent == k.cluster) || agent == k.agent && (a.Object != nil || a.Pod == nil) {
					t.Errorf("host %s gets of %s the manifest %q", agent.HostID, a.Ref(), text)
				}
			}
		}
		if len(work.Assignments) < 2 || (work.Services != nil && len(work.Services.Services) > 0) != (agent == k.agent) {
			t.Errorf("host %s has %d assignments, services %+v", agent.HostID, len(work.Assignments), work.Services)
		}
	}
}
