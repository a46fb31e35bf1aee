package access

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelPart marks what an administrator applies for projects alone.
const labelPart = "magnum.part"

// The verbs of rules.
var (
	read  = []string{"get", "list", "watch"}
	write = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
)

// Project returns the role of projects in their namespaces. It is Kubernetes' own role edit
// without what would outlive the token or lead out of the namespace: no role bindings, no
// tokens of service accounts, no impersonation. scripts/kubernetes/agent.yaml has the same.
func Project() *rbacv1.ClusterRole {
	rule := func(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: Role, Labels: map[string]string{labelPart: "projects"}},
		Rules: []rbacv1.PolicyRule{
			rule("", write, "configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers",
				"replicationcontrollers/scale", "secrets", "serviceaccounts", "services"),
			rule("", []string{"get", "create"}, "pods/attach", "pods/exec", "pods/portforward"),
			rule("", []string{"create"}, "pods/eviction"),
			rule("", read, "endpoints", "events", "limitranges", "persistentvolumeclaims/status", "pods/log", "pods/status",
				"replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "services/status"),
			rule("events.k8s.io", read, "events"),
			rule("discovery.k8s.io", read, "endpointslices"),
			rule("apps", write, "daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets",
				"statefulsets/scale"),
			rule("apps", read, "controllerrevisions", "daemonsets/status", "deployments/status", "replicasets/status",
				"statefulsets/status"),
			rule("batch", write, "cronjobs", "jobs"),
			rule("batch", read, "cronjobs/status", "jobs/status"),
			rule("autoscaling", write, "horizontalpodautoscalers"),
			rule("autoscaling", read, "horizontalpodautoscalers/status"),
			rule("policy", write, "poddisruptionbudgets"),
			rule("policy", read, "poddisruptionbudgets/status"),
			rule("networking.k8s.io", write, "ingresses", "networkpolicies"),
			rule("networking.k8s.io", read, "ingresses/status"),
		},
	}
}
