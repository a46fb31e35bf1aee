package mirror

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// policyName is the name of the network policy in each project's namespace. Pods there take
// connections from pods of the namespace, from those of namespaces that are no project's,
// such as the cluster's own, and from addresses that are no pod's, for node ports. A plugin of
// the cluster enforces it.
const policyName = "magnum"

// keepPolicy has the namespace's network policy made, or changed back.
func (s *space) keepPolicy(m *Mirror, ns *corev1.Namespace) {
	want := m.conf.policy(ns, m.podRanges())
	have, _ := m.objects[KeyOf(want)].(*networkingv1.NetworkPolicy)
	switch {
	case have == nil || !m.closed(ns):
		s.make(m, &Call{Verb: Create, Object: want})
	case !equality.Semantic.DeepEqual(have.Spec, want.Spec) || have.Labels[LabelCluster] != m.conf.ClusterID:
		want.UID, want.ResourceVersion = have.UID, have.ResourceVersion
		s.make(m, &Call{Verb: Update, Object: want})
	}
}

// closed reports whether the namespace has its network policy. One that is older than the
// namespace was in an earlier one of the name, whose end is still to be seen.
func (m *Mirror) closed(ns *corev1.Namespace) bool {
	policy := m.objects[Key{Policies, ns.Name, policyName}]
	return policy != nil && !policy.GetCreationTimestamp().Time.Before(ns.CreationTimestamp.Time)
}

// policy returns the network policy of a namespace. ranges are those of all pods of the
// cluster: without one of an address family, nothing else of that family gets in, since
// another project's pods could not be told from the world.
func (c *Config) policy(ns *corev1.Namespace, ranges []netip.Prefix) *networkingv1.NetworkPolicy {
	from := []networkingv1.NetworkPolicyPeer{
		{PodSelector: &metav1.LabelSelector{}},
		{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: LabelProject, Operator: metav1.LabelSelectorOpDoesNotExist}}}},
	}
	for _, world := range []string{"0.0.0.0/0", "::/0"} {
		block := networkingv1.IPBlock{CIDR: world}
		for _, r := range ranges {
			if r.Addr().Is4() == strings.HasPrefix(world, "0.") {
				block.Except = append(block.Except, r.String())
			}
		}
		if len(block.Except) > 0 {
			from = append(from, networkingv1.NetworkPolicyPeer{IPBlock: &block})
		}
	}
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: policyName,
			Labels: map[string]string{LabelCluster: c.ClusterID, LabelProject: ns.Labels[LabelProject]}},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: from}},
		},
	}
}

// podRanges returns the ranges of the cluster's pods: those that the operator has named, else
// those of the nodes.
func (m *Mirror) podRanges() []netip.Prefix {
	if len(m.conf.PodRanges) > 0 {
		return m.conf.PodRanges
	}
	var ranges []netip.Prefix
	for _, n := range m.nodes {
		for _, text := range n.Spec.PodCIDRs {
			if r, err := netip.ParsePrefix(text); err == nil && !slices.Contains(ranges, r) {
				ranges = append(ranges, r)
			}
		}
	}
	slices.SortFunc(ranges, func(a, b netip.Prefix) int { return a.Compare(b) })
	return ranges
}
