package servertest

import (
	"context"
	"fmt"
	"net/http"

	"github.com/stackforge/magnum/structs"
)

// Nodes describes a Kubernetes cluster with that many ready nodes.
func Nodes(n int) *structs.KubernetesCluster {
	c := &structs.KubernetesCluster{APIAddress: "https://192.0.2.20:6443", Ready: n}
	for i := range n {
		c.Nodes = append(c.Nodes, structs.KubernetesNode{Name: fmt.Sprint("node-", i+1), Ready: true,
			Addresses: []string{fmt.Sprint("192.0.2.", 21+i)}})
	}
	return c
}

// Cluster makes the agent that of a Kubernetes cluster with that many nodes. It reports each
// pod and object as desired at once, unless Behave changes that.
func Cluster(nodes int) AgentOption {
	return func(a *Agent, r *structs.HostRegister) {
		r.Fingerprint = structs.Fingerprint{
			Backend: structs.BackendKubernetes, EngineVersion: "1.34.4", AgentVersion: "0.0.0-test", OS: "linux", Cores: 4, Memory: 8 << 30,
			Kinds: []structs.WorkloadKind{structs.WorkloadObject, structs.WorkloadPod}, Cluster: Nodes(nodes),
			Engine: structs.EngineIdentity{ID: "uid-of-kube-system-" + r.Name},
		}
		a.more = ObeyInCluster
	}
}

// More sets the function that completes the report of an assignment.
func More(f func(a structs.Assignment, r *structs.ContainerReport)) AgentOption {
	return func(a *Agent, _ *structs.HostRegister) { a.more = f }
}

// ObeyInCluster completes the report of an assignment that a cluster has carried out.
func ObeyInCluster(a structs.Assignment, r *structs.ContainerReport) {
	switch {
	case r.Status == structs.ContainerGone:
	case a.Pod != nil:
		r.EngineID, r.Addresses = "uid-"+a.ID, []string{"10.244.0.2"}
		r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "node-1", NodeIP: "192.0.2.21", Conditions: []structs.Condition{
			{Type: "PodScheduled", Status: "True"}, {Type: "Initialized", Status: "True"}, {Type: "ContainersReady", Status: "True"},
			{Type: structs.ConditionReady, Status: structs.ConditionTrue}}}
	case a.Object != nil && a.Object.Kind == structs.KindService:
		r.EngineID = "uid-" + a.ID
		r.Object = &structs.ObjectReport{Service: &structs.ServiceReport{Address: "10.96.0.7", Ports: []structs.ServicePort{}}}
	case a.Object != nil:
		r.EngineID = "uid-" + a.ID
		r.Object = &structs.ObjectReport{RC: &structs.RCReport{RCObserved: structs.RCObserved{Generation: a.Generation}}}
	}
}

// SendCluster reports how the agent's cluster is.
func (a *Agent) SendCluster(ctx context.Context, c *structs.KubernetesCluster) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	report := structs.StatusReport{Registration: a.registration.Load(), Seq: a.seq, Containers: []structs.ContainerReport{}, Cluster: c}
	return a.call(ctx, http.MethodPost, "/v1/agent/hosts/"+a.HostID+"/status", report, nil)
}

// Poll asks for all assignments, once.
func (a *Agent) Poll(ctx context.Context) (work structs.Work, err error) {
	return work, a.call(ctx, http.MethodGet, "/v1/agent/hosts/"+a.HostID+"/work?index=0&wait=1s", nil, &work)
}
