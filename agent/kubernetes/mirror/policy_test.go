package mirror

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/stackforge/magnum/structs"
)

// except returns the addresses that the policy of the namespace keeps out of each range.
func (s *script) except() map[string][]string {
	s.Helper()
	policy := s.objects[Key{Policies, namespace, policyName}].(*networkingv1.NetworkPolicy)
	out := map[string][]string{}
	for _, from := range policy.Spec.Ingress[0].From {
		if from.IPBlock != nil {
			out[from.IPBlock.CIDR] = from.IPBlock.Except
		}
	}
	return out
}

// TestPolicyKeepsPodsOut: whatever isn't in the range of pods gets in; without a range nothing
// does by its address.
func TestPolicyKeepsPodsOut(t *testing.T) {
	s := startPod(t, onePod)
	if got := s.except(); len(got) != 0 {
		t.Errorf("without a range of pods: %v", got)
	}
	for n, cidrs := range map[string][]string{"node1": {"10.1.1.0/24"}, "node2": {"10.1.2.0/24", "fd00:2::/64"}} {
		s.node(n, corev1.ConditionTrue)
		alter(s, Key{Kind: Nodes, Name: n}, func(o *corev1.Node) { o.Spec.PodCIDRs = cidrs })
	}
	s.call("update network policy " + policyName)
	s.do()
	s.none()
	got := s.except()
	if !slices.Equal(got["0.0.0.0/0"], []string{"10.1.1.0/24", "10.1.2.0/24"}) || !slices.Equal(got["::/0"], []string{"fd00:2::/64"}) {
		t.Errorf("kept out are %v", got)
	}
	s.m.conf.PodRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s.m.touchSpace(namespace)
	s.call("update network policy " + policyName)
	s.do()
	if got := s.except(); len(got) != 1 || !slices.Equal(got["0.0.0.0/0"], []string{"10.0.0.0/8"}) {
		t.Errorf("by the operator's range, kept out are %v", got)
	}
}

// TestPolicyIsKept: one that somebody has changed or removed is made again, and one that was in the
// way is taken over, since the namespace is ours.
func TestPolicyIsKept(t *testing.T) {
	s := startPod(t, onePod)
	key := Key{Policies, namespace, policyName}
	alter(s, key, func(o *networkingv1.NetworkPolicy) { o.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} })
	s.call("update network policy " + policyName)
	s.do()
	s.none()
	s.drop(key)
	s.call("create network policy " + policyName)
	foreign := &networkingv1.NetworkPolicy{}
	foreign.Namespace, foreign.Name = namespace, policyName
	foreign.CreationTimestamp.Time = s.now
	s.put(foreign)
	s.settle()
	if got := s.objects[key].GetLabels()[LabelCluster]; got != clusterID {
		t.Errorf("the policy is labelled %q", got)
	}
}

// TestNothingIsMadeInAnOpenNamespace: while the cluster refuses the policy, pods wait and say why.
func TestNothingIsMadeInAnOpenNamespace(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.take(true)
	s.next()
	s.do()
	s.call("create network policy " + policyName)
	s.fail(apierrors.NewForbidden(schema.GroupResource{Group: "networking.k8s.io", Resource: "networkpolicies"}, policyName, nil))
	s.none()
	s.is(podID, structs.ContainerCreating, 0, false, "can't be closed to other projects")
}
