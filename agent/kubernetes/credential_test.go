//go:build kubernetes

package kubernetes

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/stackforge/magnum/agent/kubernetes/access"
	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/structs"
)

// TestCredential: the token of a project works in the project's namespace and nowhere else, and
// gives out nothing that lasts longer.
func TestCredential(t *testing.T) {
	r := newRig(t)
	shipped := exec.Command(r.kube.Dir+"/bin/kubectl", "--kubeconfig", r.kube.Dir+"/admin.conf", "apply", "-f",
		"../../scripts/kubernetes/agent.yaml", "-l", "magnum.part=projects")
	if out, err := shipped.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := time.Now()
	made, err := r.client.Credential(t.Context(), r.project)
	if err != nil {
		t.Fatal(err)
	}
	const slack = time.Minute // between the clocks
	if d := made.ExpiresAt.Sub(before); d < structs.CredentialTTL-slack || d > structs.CredentialTTL+slack {
		t.Errorf("the token is good for %v", d)
	}
	if _, err := r.client.Credential(t.Context(), r.project); err != nil {
		t.Errorf("another one: %v", err)
	}
	f, err := r.client.Fingerprint(t.Context())
	if err != nil || f.Cluster.CA == "" {
		t.Fatalf("%v, the cluster is %+v", err, f.Cluster)
	}
	user, err := cluster.New(cluster.Config{Rest: &rest.Config{Host: r.kube.URL, BearerToken: made.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: []byte(f.Cluster.CA)}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	in := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	create := func(o cluster.Object) error { _, err := user.Create(ctx, o); return err }
	list := func(namespace string) error {
		_, err := user.List(ctx, &corev1.Pod{ObjectMeta: in(namespace, "")}, metav1.ListOptions{})
		return err
	}
	pod := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: in(r.namespace, name), Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "none", ImagePullPolicy: corev1.PullNever}}}}
		change(p)
		return p
	}
	if err := list(r.namespace); err != nil {
		t.Errorf("pods of the project: %v", err)
	}
	token := &corev1.Secret{ObjectMeta: in(r.namespace, "token"), Type: corev1.SecretTypeServiceAccountToken}
	token.Annotations = map[string]string{corev1.ServiceAccountNameKey: access.Account}
	// A policy works shortly after it was made.
	refused := func(what string, o cluster.Object) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(patience); ; <-tick.C {
			got, err := user.Create(ctx, o)
			if apierrors.IsForbidden(err) {
				return
			}
			if err != nil || time.Now().After(end) {
				t.Fatalf("%s: %v", what, err)
			}
			if _, err := user.Delete(ctx, o, cluster.Preconditions{UID: got.GetUID()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	refused("a Secret with a token that lasts", token)
	labeled := &corev1.Service{ObjectMeta: in(r.namespace, "labeled"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	labeled.Labels = map[string]string{"magnum.id": structs.NewID()}
	refused("a service with our labels", labeled)
	if err := create(&corev1.Secret{ObjectMeta: in(r.namespace, "plain")}); err != nil {
		t.Errorf("a Secret: %v", err)
	}
	if err := create(&corev1.ServiceAccount{ObjectMeta: in(r.namespace, "own")}); err != nil {
		t.Errorf("a service account: %v", err)
	}
	ports := corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}
	if err := create(&corev1.Service{ObjectMeta: in(r.namespace, "web"), Spec: ports}); err != nil {
		t.Errorf("a service: %v", err)
	}
	privileged := func(p *corev1.Pod) {
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	}
	ours := func(o metav1.Object) { o.SetLabels(map[string]string{"magnum.id": structs.NewID()}) }
	foreign := &corev1.ReplicationController{ObjectMeta: in(r.namespace, "rc"), Spec: corev1.ReplicationControllerSpec{
		Selector: map[string]string{"app": "x"},
		Template: &corev1.PodTemplateSpec{Spec: pod("", func(*corev1.Pod) {}).Spec}}}
	foreign.Spec.Template.Labels = map[string]string{"app": "x", "magnum.owner": structs.NewID()}
	longer := func() error {
		account := &corev1.ServiceAccount{ObjectMeta: in(r.namespace, access.Account)}
		return user.CreateSub(ctx, account, "token", &authenticationv1.TokenRequest{})
	}
	get := func(o cluster.Object) error { _, err := user.Get(ctx, o); return err }
	as := func(p *corev1.Pod) { p.Spec.ServiceAccountName = access.Account }
	for what, tt := range map[string]struct {
		err  error
		says string
	}{
		"pods of another namespace":    {list(metav1.NamespaceDefault), "cannot list"},
		"pods of all":                  {list(""), "cannot list"},
		"a privileged pod":             {create(pod("p", privileged)), "PodSecurity"},
		"a pod with the account":       {create(pod("a", as)), "not for pods"},
		"a pod with our labels":        {create(pod("l", func(p *corev1.Pod) { ours(p) })), "choose another name"},
		"pods with our labels":         {create(foreign), "choose another name"},
		"a role binding":               {create(&rbacv1.RoleBinding{ObjectMeta: in(r.namespace, "b")}), "cannot create"},
		"a namespace":                  {create(&corev1.Namespace{ObjectMeta: in("", "magnum-own")}), "cannot create"},
		"a token that lasts":           {longer(), "cannot create"},
		"a pod in another namespace":   {create(&corev1.Pod{ObjectMeta: in(metav1.NamespaceDefault, "x")}), "cannot create"},
		"secrets of the kube-system":   {get(&corev1.Secret{ObjectMeta: in("kube-system", "x")}), "cannot get"},
		"the cluster role of projects": {get(access.Project()), "cannot get"},
	} {
		if !apierrors.IsForbidden(tt.err) || !strings.Contains(tt.err.Error(), tt.says) {
			t.Errorf("%s: %v, want a refusal with %q", what, tt.err, tt.says)
		}
	}
}
