// Package access lets users' own clients, such as kubectl, into a Kubernetes cluster: it makes
// short-lived tokens of a service account that may work in the namespace of one project and
// nowhere else.
//
// Package kubernetes is the only caller. The package keeps no token, and no error has one.
package access

import (
	"context"
	"fmt"
	"maps"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/structs"
)

// The names of what a token needs.
const (
	Account = "magnum-user"    // the ServiceAccount in a project's namespace, and its RoleBinding
	Role    = "magnum-project" // the ClusterRole of all projects
)

// API is the part of cluster.Client that the package calls.
type API interface {
	Get(ctx context.Context, o cluster.Object) (cluster.Object, error)
	Create(ctx context.Context, o cluster.Object) (cluster.Object, error)
	CreateSub(ctx context.Context, o cluster.Object, name string, sub cluster.Object) error
}

// Credential returns a token that may do in a namespace what projects may, and makes what the
// token needs: service account, role and role binding, the first two with the labels.
// CodeConflict if the agent may not, or if somebody else's object is in the way;
// CodeUnavailable if the API doesn't answer or the namespace is gone.
func Credential(ctx context.Context, api API, namespace string, labels map[string]string) (structs.BayCredentialBody, error) {
	var none structs.BayCredentialBody
	if err := role(ctx, api); err != nil {
		return none, err
	}
	account, err := ensure(ctx, api, &corev1.ServiceAccount{ObjectMeta: named(namespace, labels)})
	if err != nil {
		return none, fmt.Errorf("service account %s: %w", Account, failed(err))
	}
	if foreign(account, labels) {
		return none, inTheWay("service account", namespace)
	}
	want := binding(namespace, labels)
	bound, err := ensure(ctx, api, want)
	if err != nil {
		return none, fmt.Errorf("role binding %s: %w", Account, failed(err))
	}
	if b, ok := bound.(*rbacv1.RoleBinding); !ok || b.RoleRef != want.RoleRef || !slices.Equal(b.Subjects, want.Subjects) {
		return none, inTheWay("role binding", namespace)
	}
	seconds := int64(structs.CredentialTTL.Seconds()) // the least that Kubernetes takes
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := api.CreateSub(ctx, account, "token", request); err != nil {
		return none, fmt.Errorf("a token of service account %s: %w", Account, failed(err))
	}
	made := structs.BayCredentialBody{Token: request.Status.Token, ExpiresAt: structs.Time{Time: request.Status.ExpirationTimestamp.Time}}
	if made.Token == "" || made.ExpiresAt.IsZero() {
		return none, structs.Errorf(structs.CodeUnavailable, "the cluster's API has sent no token")
	}
	return made, nil
}

// named returns the metadata of the account and its binding.
func named(namespace string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: Account, Namespace: namespace, Labels: maps.Clone(labels)}
}

// binding lets the account do in its namespace what projects may.
func binding(namespace string, labels map[string]string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: named(namespace, labels),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: Role},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: Account, Namespace: namespace}},
	}
}

// role makes the role of all projects if the cluster has none, for agents outside a cluster
// that may. One that is there is as the cluster's administrator wants it. The agent has to see
// it: a binding to a role that isn't there would be made without an error.
func role(ctx context.Context, api API) error {
	_, err := ensure(ctx, api, Project())
	if err != nil {
		return fmt.Errorf("cluster role %s: %w", Role, failed(err))
	}
	return nil
}

// ensure returns an object as the cluster has it, and makes it if there is none.
func ensure(ctx context.Context, api API, want cluster.Object) (cluster.Object, error) {
	is, err := api.Get(ctx, want)
	if !apierrors.IsNotFound(err) {
		return is, err
	}
	is, err = api.Create(ctx, want)
	if apierrors.IsAlreadyExists(err) { // by another session
		return api.Get(ctx, want)
	}
	return is, err
}

// foreign reports whether an object isn't the one that the labels are of.
func foreign(o cluster.Object, labels map[string]string) bool {
	is := o.GetLabels()
	for key, value := range labels {
		if is[key] != value {
			return true
		}
	}
	return false
}

func inTheWay(kind, namespace string) error {
	return structs.Errorf(structs.CodeConflict, "%s %s in namespace %s of the cluster is not as magnum makes it, and is left alone; "+
		"delete it there, and try again", kind, Account, namespace)
}

// failed explains a refusal of the API, whose words stand in it.
func failed(err error) error {
	switch {
	case cluster.Unanswered(err):
		return structs.Errorf(structs.CodeUnavailable, "the API of the cluster does not answer: %w", err)
	case apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return structs.Errorf(structs.CodeConflict, "the agent may not do that in the cluster: have its administrator run "+
			"\"kubectl apply -f scripts/kubernetes/agent.yaml\" of this version, for an agent outside of the cluster with "+
			"\"-l magnum.part=projects\": %w", err)
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return structs.Errorf(structs.CodeUnavailable, "the namespace of the project has just been deleted; try again: %w", err)
	}
	return structs.Errorf(structs.CodeUnavailable, "the cluster has refused it; try again later: %w", err)
}
