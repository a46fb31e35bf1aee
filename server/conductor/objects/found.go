package objects

import (
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// maxPodName is the length of the longest name of a pod in Kubernetes.
const maxPodName = 253

// Found makes the row of a pod that a replication controller of the host's cluster has made.
// It makes none unless the replication controller is of the host's bay, isn't being deleted,
// and has fewer pods than it may have.
func Found(t *scratch.Tx, host *structs.Host, report *structs.ContainerReport) {
	id, found := report.Ref().ID, report.Pod.Found
	rc := scratch.Row[structs.RC](t, found.RCID)
	if rc == nil || rc.Deleting || host.BayID == "" || rc.BayID != host.BayID || report.Status == structs.ContainerGone {
		return
	}
	if !structs.IsID(id) || found.Name == "" || found.Spec == nil || len(found.Spec.Containers) == 0 ||
		structs.CheckLine("name", found.Name, maxPodName) != nil {
		return
	}
	p := &structs.Pod{
		Name: found.Name, Labels: found.Labels, Annotations: found.Annotations, Spec: shown(found.Spec), Request: rc.Request, Owner: rc.ID,
		Placement: structs.Placement{BayID: rc.BayID, HostID: host.ID, Epoch: 1, Desired: structs.DesiredRunning, Generation: 1,
			StartGeneration: 1},
	}
	if tooMany(t, p) || sizeOf(p.Labels) > structs.MaxRowLabels {
		return
	}
	if sizeOf(p.Labels)+sizeOf(p.Annotations) > structs.MaxRowLabels {
		p.Annotations = nil // somebody has written them in the cluster
	}
	if size, _, _ := state.SpecSize(p.StoredSpec()); size > structs.MaxSpec {
		return
	}
	p.Meta = t.Meta(structs.Caller{ProjectID: rc.ProjectID, UserID: rc.UserID}, id)
	p.Observe(report)
	t.Assign(p)
}

// tooMany reports whether the owner of the pod has as many rows as it may have.
func tooMany(t *scratch.Tx, p *structs.Pod) bool {
	n := 0
	for _, on := range t.Reserved.Copies(p) { // counted once for each batch
		n += on
	}
	return n >= structs.MaxReplicas
}

func sizeOf(labels map[string]string) (n int) {
	for key, value := range labels {
		n += len(key) + len(value)
	}
	return n
}

// shown returns the part of a spec that a pod in a cluster has.
func shown(s *structs.PodSpec) structs.PodSpec {
	containers := func(list []structs.PodContainer) (kept []structs.PodContainer) {
		for i := range list {
			c := &list[i]
			kept = append(kept, structs.PodContainer{Name: c.Name, Image: c.Image, Ports: c.Ports, TTY: c.TTY, Stdin: c.Stdin})
		}
		return kept
	}
	return structs.PodSpec{Cluster: true, RestartPolicy: s.RestartPolicy, GracePeriod: s.GracePeriod, ActiveDeadline: s.ActiveDeadline,
		InitContainers: containers(s.InitContainers), Containers: containers(s.Containers)}
}
