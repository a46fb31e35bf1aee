package cluster

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// Object is an object of the cluster.
type Object interface {
	runtime.Object
	metav1.Object
}

// groupVersions are the API groups that magnum needs.
var groupVersions = []schema.GroupVersion{corev1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion,
	rbacv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion}

// newScheme returns a scheme of the types that magnum needs.
func newScheme() (*runtime.Scheme, serializer.CodecFactory) {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Pod{}, &corev1.PodList{},
		&corev1.Service{}, &corev1.ServiceList{},
		&corev1.ReplicationController{}, &corev1.ReplicationControllerList{},
		&corev1.Namespace{}, &corev1.NamespaceList{},
		&corev1.Node{}, &corev1.NodeList{},
		&corev1.Event{}, &corev1.EventList{},
		&corev1.Secret{}, &corev1.SecretList{},
		&corev1.ServiceAccount{}, &corev1.ServiceAccountList{},
		&corev1.PodLogOptions{}, &corev1.PodExecOptions{}, &corev1.PodAttachOptions{}, &corev1.PodPortForwardOptions{})
	s.AddKnownTypes(coordinationv1.SchemeGroupVersion, &coordinationv1.Lease{}, &coordinationv1.LeaseList{})
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	s.AddKnownTypes(rbacv1.SchemeGroupVersion, &rbacv1.ClusterRole{}, &rbacv1.RoleBinding{})
	s.AddKnownTypes(networkingv1.SchemeGroupVersion, &networkingv1.NetworkPolicy{}, &networkingv1.NetworkPolicyList{})
	// A subresource of service accounts: its group has no objects of its own.
	s.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.TokenRequest{})
	for _, gv := range groupVersions {
		metav1.AddToGroupVersion(s, gv)
	}
	metav1.AddToGroupVersion(s, authenticationv1.SchemeGroupVersion)
	return s, serializer.NewCodecFactory(s)
}

// resource says where the objects of a type are.
type resource struct {
	group, name string
	global      bool // it has no namespaces
}

// resourceOf returns where the objects of the type of o are. It panics if magnum doesn't
// know the type.
func resourceOf(o Object) (r resource, empty Object) {
	switch o.(type) {
	case *corev1.Pod:
		return resource{name: "pods"}, &corev1.Pod{}
	case *corev1.Service:
		return resource{name: "services"}, &corev1.Service{}
	case *corev1.ReplicationController:
		return resource{name: "replicationcontrollers"}, &corev1.ReplicationController{}
	case *corev1.Namespace:
		return resource{name: "namespaces", global: true}, &corev1.Namespace{}
	case *corev1.Node:
		return resource{name: "nodes", global: true}, &corev1.Node{}
	case *corev1.Event:
		return resource{name: "events"}, &corev1.Event{}
	case *corev1.Secret:
		return resource{name: "secrets"}, &corev1.Secret{}
	case *corev1.ServiceAccount:
		return resource{name: "serviceaccounts"}, &corev1.ServiceAccount{}
	case *coordinationv1.Lease:
		return resource{group: coordinationv1.GroupName, name: "leases"}, &coordinationv1.Lease{}
	case *discoveryv1.EndpointSlice:
		return resource{group: discoveryv1.GroupName, name: "endpointslices"}, &discoveryv1.EndpointSlice{}
	case *rbacv1.ClusterRole:
		return resource{group: rbacv1.GroupName, name: "clusterroles", global: true}, &rbacv1.ClusterRole{}
	case *rbacv1.RoleBinding:
		return resource{group: rbacv1.GroupName, name: "rolebindings"}, &rbacv1.RoleBinding{}
	case *networkingv1.NetworkPolicy:
		return resource{group: networkingv1.GroupName, name: "networkpolicies"}, &networkingv1.NetworkPolicy{}
	}
	panic("cluster: a type that magnum does not know")
}

// listOf returns an empty list of objects of the type of o.
func listOf(o Object) runtime.Object {
	switch o.(type) {
	case *corev1.Pod:
		return &corev1.PodList{}
	case *corev1.Service:
		return &corev1.ServiceList{}
	case *corev1.ReplicationController:
		return &corev1.ReplicationControllerList{}
	case *corev1.Namespace:
		return &corev1.NamespaceList{}
	case *corev1.Node:
		return &corev1.NodeList{}
	case *corev1.Event:
		return &corev1.EventList{}
	case *discoveryv1.EndpointSlice:
		return &discoveryv1.EndpointSliceList{}
	case *networkingv1.NetworkPolicy:
		return &networkingv1.NetworkPolicyList{}
	}
	panic("cluster: a type that magnum does not list")
}
