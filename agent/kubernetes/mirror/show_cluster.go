package mirror

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// describeCluster has the cluster reported if it has changed.
func (m *Mirror) describeCluster() {
	if m.cluster == nil && m.unlisted[Nodes] {
		return // the servers know more of it
	}
	c := Describe(m.conf.Address, m.nodes)
	if m.api.away != "" {
		a := m.api.absence()
		c.AwaySince, c.Away, c.Refuses = a.AwaySince, a.Away, a.Refuses
	}
	if m.cluster == nil || !reflect.DeepEqual(*m.cluster, c) {
		m.cluster = &c
		m.out.Cluster = new(c)
	}
}

// Describe describes a cluster with these nodes.
func Describe(address string, nodes map[string]*corev1.Node) structs.KubernetesCluster {
	c := structs.KubernetesCluster{APIAddress: address, Nodes: []structs.KubernetesNode{}}
	for _, n := range nodes {
		one := structs.KubernetesNode{Name: n.Name, Addresses: []string{}}
		if r := nodeReady(n); r != nil && r.Status == corev1.ConditionTrue {
			one.Ready = true
			c.Ready++
		}
		for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
			for _, a := range n.Status.Addresses {
				if _, err := netip.ParseAddr(a.Address); err == nil && a.Type == kind && !slices.Contains(one.Addresses, a.Address) {
					one.Addresses = append(one.Addresses, a.Address)
				}
			}
		}
		c.Nodes = append(c.Nodes, one)
	}
	slices.SortFunc(c.Nodes, func(a, b structs.KubernetesNode) int {
		if a.Ready != b.Ready {
			if a.Ready {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	c.Nodes = c.Nodes[:min(len(c.Nodes), structs.MaxKubernetesNodes)]
	return c
}

// nodeReady returns the condition Ready of a node.
func nodeReady(n *corev1.Node) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == corev1.NodeReady {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// silent reports whether the cluster has lost touch with a node.
func silent(n *corev1.Node) bool {
	r := nodeReady(n)
	return r != nil && r.Status == corev1.ConditionUnknown
}

// nodeSilent says that the node of a pod doesn't answer, so that what is known of the pod
// may be outdated; "" if it does.
func (v *seen) nodeSilent(pod *corev1.Pod) string {
	name := pod.Spec.NodeName
	if name == "" || v.unlisted[Nodes] {
		return ""
	}
	n := v.nodes[name]
	switch {
	case n == nil:
		return fmt.Sprintf("its node %s is not in the cluster any more", name)
	case silent(n):
		return fmt.Sprintf("its node %s has not answered since %s, so whether it runs is unknown",
			name, nodeReady(n).LastTransitionTime.UTC().Format(time.RFC3339))
	}
	return ""
}
