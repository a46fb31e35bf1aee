//go:build kubernetes

package kubernetes

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
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
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// applying is held while the shipped YAML is applied.
var applying sync.Mutex

// applyShipped applies what the shipped YAML has for the whole cluster. It stays there.
func applyShipped(t *testing.T, kube *kubetest.Cluster) {
	t.Helper()
	text, err := os.ReadFile("../../scripts/kubernetes/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var global []string
	for _, doc := range strings.Split(string(text), "\n---\n") {
		if strings.Contains(doc, "kind: ClusterRole") || strings.Contains(doc, "kind: ValidatingAdmissionPolicy") {
			global = append(global, doc)
		}
	}
	applying.Lock() // two at once would both make what is missing
	defer applying.Unlock()
	apply := exec.Command(kube.Dir+"/bin/kubectl", "--kubeconfig", kube.Dir+"/admin.conf", "apply", "-f", "-")
	apply.Stdin = strings.NewReader(strings.Join(global, "\n---\n"))
	if out, err := apply.CombinedOutput(); err != nil || len(global) < 10 {
		t.Fatalf("%d objects: %v: %s", len(global), err, out)
	}
}

// TestCredentialInsideTheCluster: what the shipped YAML lets the agent do is enough for a
// token, and for nothing more.
func TestCredentialInsideTheCluster(t *testing.T) {
	applyShipped(t, kubetest.Open(t))
	r := newRig(t, func(c *rest.Config) {
		c.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:magnum:magnum-agent",
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:magnum", "system:authenticated"}}
	})
	// The API learns of roles and policies shortly after they were made.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		made, err := r.client.Credential(t.Context(), r.project)
		if err == nil && made.Token != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	account := func(namespace, name string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	admin := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "admin"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: access.Account, Namespace: r.namespace}}}
	api, ctx := r.client.conf.Cluster, t.Context()
	create := func(o cluster.Object) error { _, err := api.Create(ctx, o); return err }
	other := account(metav1.NamespaceDefault, access.Account+"-"+structs.NewID()[:8])
	for end := time.Now().Add(patience); ; <-tick.C {
		err := create(other)
		if apierrors.IsForbidden(err) {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("an account in another namespace: %v", err)
		}
		if err := r.kube.Do(ctx, http.MethodDelete, "/api/v1/namespaces/default/serviceaccounts/"+other.Name, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"another role":               create(admin),
		"a token of another account": api.CreateSub(ctx, account(r.namespace, "default"), "token", &authenticationv1.TokenRequest{}),
		"a token in another namespace": api.CreateSub(ctx, account("kube-system", "default"), "token",
			&authenticationv1.TokenRequest{}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCredential: the token of a project works in the project's namespace and nowhere else, and
// gives out nothing that lasts longer.
func TestCredential(t *testing.T) {
	r := newRig(t)
	applyShipped(t, r.kube)
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
