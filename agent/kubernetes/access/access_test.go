package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/structs"
)

// fake is a cluster's API in memory.
type fake struct {
	objects map[string]cluster.Object
	fail    map[string]error // by call: "get", "create" or "token", and the kind
	racing  cluster.Object   // another session makes it before the first create
	calls   []string
	expires time.Time
}

func newFake() *fake {
	return &fake{objects: map[string]cluster.Object{}, fail: map[string]error{},
		expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func key(o cluster.Object) string { return fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName()) }

func kindOf(o cluster.Object) string {
	return strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", o), "*v1."), "*"))
}

var resource = schema.GroupResource{Resource: "things"}

func (f *fake) Get(_ context.Context, o cluster.Object) (cluster.Object, error) {
	f.calls = append(f.calls, "get "+kindOf(o))
	if err := f.fail["get "+kindOf(o)]; err != nil {
		return nil, err
	}
	if is := f.objects[key(o)]; is != nil {
		return is, nil
	}
	return nil, apierrors.NewNotFound(resource, o.GetName())
}

func (f *fake) Create(_ context.Context, o cluster.Object) (cluster.Object, error) {
	f.calls = append(f.calls, "create "+kindOf(o))
	if err := f.fail["create "+kindOf(o)]; err != nil {
		return nil, err
	}
	if f.racing != nil && key(f.racing) == key(o) {
		f.objects[key(o)] = f.racing
		return nil, apierrors.NewAlreadyExists(resource, o.GetName())
	}
	f.objects[key(o)] = o
	return o, nil
}

func (f *fake) CreateSub(_ context.Context, o cluster.Object, name string, sub cluster.Object) error {
	f.calls = append(f.calls, name)
	if err := f.fail[name]; err != nil {
		return err
	}
	r := sub.(*authenticationv1.TokenRequest)
	if r.Spec.ExpirationSeconds == nil || *r.Spec.ExpirationSeconds != 600 || len(r.Spec.Audiences) != 0 {
		return errors.New("another token was asked for")
	}
	if !f.expires.IsZero() {
		r.Status.Token, r.Status.ExpirationTimestamp = "token of "+o.GetNamespace()+"/"+o.GetName(), metav1.NewTime(f.expires)
	}
	return nil
}

var labels = map[string]string{"magnum.cluster": "c", "magnum.project": "p1"}

func TestCredential(t *testing.T) {
	f := newFake()
	for i := range 2 {
		f.calls = nil
		got, err := Credential(t.Context(), f, "magnum-p1", labels)
		if err != nil || got.Token != "token of magnum-p1/magnum-user" || !got.ExpiresAt.Equal(f.expires) {
			t.Fatalf("%q, %v, %v", got.Token, got.ExpiresAt, err)
		}
		want := []string{"get clusterrole", "create clusterrole", "get serviceaccount", "create serviceaccount", "get rolebinding",
			"create rolebinding", "token"}
		if i > 0 {
			want = []string{"get clusterrole", "get serviceaccount", "get rolebinding", "token"}
		}
		if !slices.Equal(f.calls, want) {
			t.Errorf("the calls are %q, want %q", f.calls, want)
		}
	}
	account := f.objects["*v1.ServiceAccount magnum-p1/magnum-user"].(*corev1.ServiceAccount)
	bound := f.objects["*v1.RoleBinding magnum-p1/magnum-user"].(*rbacv1.RoleBinding)
	if !reflect.DeepEqual(account.Labels, labels) || !reflect.DeepEqual(bound.Labels, labels) {
		t.Errorf("labels %v and %v", account.Labels, bound.Labels)
	}
	role := rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "magnum-project"}
	subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "magnum-user", Namespace: "magnum-p1"}
	if bound.RoleRef != role || !slices.Equal(bound.Subjects, []rbacv1.Subject{subject}) {
		t.Errorf("the binding is %+v", bound)
	}
}

// TestCredentialBesideAnother: two sessions may make the same things at the same time.
func TestCredentialBesideAnother(t *testing.T) {
	for _, o := range []cluster.Object{Project(), &corev1.ServiceAccount{ObjectMeta: named("ns", labels)}, binding("ns", labels)} {
		f := newFake()
		f.racing = o
		if got, err := Credential(t.Context(), f, "ns", labels); err != nil || got.Token == "" {
			t.Errorf("%T: %v", o, err)
		}
	}
}

// TestCredentialTakesNothingOver: what somebody else has made under the names gives no token.
func TestCredentialTakesNothingOver(t *testing.T) {
	other := binding("ns", labels)
	other.Subjects = append(other.Subjects, rbacv1.Subject{Kind: "User", Name: "eve"})
	admin := binding("ns", labels)
	admin.RoleRef.Name = "cluster-admin"
	for _, o := range []cluster.Object{&corev1.ServiceAccount{ObjectMeta: named("ns", nil)}, other, admin} {
		f := newFake()
		f.objects[key(o)] = o
		_, err := Credential(t.Context(), f, "ns", labels)
		if structs.CodeOf(err) != structs.CodeConflict ||
			!strings.Contains(err.Error(), "namespace ns of the cluster is not as magnum makes it") || slices.Contains(f.calls, "token") {
			t.Errorf("%T: %v after %q", o, err, f.calls)
		}
	}
}

func TestCredentialErrors(t *testing.T) {
	forbidden := apierrors.NewForbidden(resource, "x", errors.New("no"))
	ending := apierrors.NewForbidden(resource, "x", errors.New("it is being terminated"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for call, tt := range map[string]struct {
		err  error
		code structs.Code
		says string
	}{
		"get clusterrole":       {forbidden, structs.CodeConflict, "kubectl apply -f scripts/kubernetes/agent.yaml"},
		"create clusterrole":    {forbidden, structs.CodeConflict, "-l magnum.part=projects"},
		"get serviceaccount":    {errors.New("connection refused"), structs.CodeUnavailable, "does not answer: connection refused"},
		"create serviceaccount": {ending, structs.CodeUnavailable, "has just been deleted"},
		"get rolebinding":       {&cluster.RefusedWrite{Err: errors.New("lease")}, structs.CodeUnavailable, "lease"},
		"create rolebinding":    {forbidden, structs.CodeConflict, "the agent may not do that"},
		"token":                 {apierrors.NewNotFound(resource, "x"), structs.CodeUnavailable, "try again"},
	} {
		f := newFake()
		f.fail[call] = tt.err
		_, err := Credential(t.Context(), f, "ns", labels)
		if structs.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.err.Error()) {
			t.Errorf("%s: %s %v, want %s with %q", call, structs.CodeOf(err), err, tt.code, tt.says)
		}
	}
	f := newFake()
	f.expires = time.Time{}
	if _, err := Credential(t.Context(), f, "ns", labels); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("without a token: %v", err)
	}
}

// TestShippedRole: the YAML has the role that an agent outside of a cluster makes, and lets the
// agent inside bind that and no other.
func TestShippedRole(t *testing.T) {
	text, err := os.ReadFile("../../../scripts/kubernetes/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string]*rbacv1.ClusterRole{}
	for _, doc := range strings.Split(string(text), "\n---\n") {
		r := new(rbacv1.ClusterRole)
		if err := yaml.Unmarshal([]byte(doc), r); err == nil && r.Kind == "ClusterRole" {
			roles[r.Name] = r
		}
	}
	got, want := roles[Role], Project()
	if got == nil {
		t.Fatal("there is no role of projects")
	}
	got.TypeMeta = metav1.TypeMeta{}
	if !reflect.DeepEqual(got, want) {
		is, _ := json.Marshal(got)
		wants, _ := json.Marshal(want)
		t.Errorf("the role of projects is\n%s, want\n%s", is, wants)
	}
	for _, rule := range roles["magnum-agent"].Rules {
		has := func(verb string) bool { return slices.Contains(rule.Verbs, verb) || slices.Contains(rule.Verbs, "*") }
		if (has("bind") || has("escalate")) && !slices.Equal(rule.ResourceNames, []string{Role}) {
			t.Errorf("the agent may bind more: %+v", rule)
		}
		if slices.Contains(rule.Resources, "serviceaccounts/token") && !slices.Equal(rule.ResourceNames, []string{Account}) {
			t.Errorf("the agent may make tokens of others: %+v", rule)
		}
	}
	for _, rule := range want.Rules {
		for _, resource := range rule.Resources {
			if slices.Contains([]string{"serviceaccounts/token", "namespaces", "*"}, resource) ||
				slices.Contains(rule.APIGroups, rbacv1.GroupName) {
				t.Errorf("projects may %v", rule)
			}
		}
		if slices.Contains(rule.Verbs, "impersonate") || slices.Contains(rule.Verbs, "*") {
			t.Errorf("projects may %v", rule)
		}
	}
}
