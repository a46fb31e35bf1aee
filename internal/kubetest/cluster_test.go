//go:build kubernetes

package kubetest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ready is the condition Ready of a node.
func ready(node *corev1.Node) bool {
	return node != nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// running reports whether all containers of a pod run.
func running(pod *corev1.Pod) bool {
	return pod != nil && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "" &&
		!slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running == nil })
}

// greeting says hello and then runs until SIGTERM, which ends it at once.
const greeting = `trap "exit 0" TERM; echo "hello from $(hostname) on $NODE"; while :; do sleep 1 & wait $!; done`

// greeter is a pod that runs greeting on a node.
func greeter(node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "on-" + node},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"kubernetes.io/hostname": node},
			DNSPolicy:    corev1.DNSDefault,
			Containers: []corev1.Container{{
				Name:            "main",
				Image:           Image,
				ImagePullPolicy: corev1.PullNever,
				Command:         []string{"sh", "-c", greeting},
				Env: []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{
					FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
			}},
		},
	}
}

// start creates a greeter on each node and waits until they run.
func start(t *testing.T, c *Cluster, namespace string) map[string]*corev1.Pod {
	t.Helper()
	pods := make(map[string]*corev1.Pod)
	for _, node := range Nodes {
		if err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", greeter(node), nil); err != nil {
			t.Fatalf("create a pod for %s: %v", node, err)
		}
	}
	for _, node := range Nodes {
		pods[node] = Await(t, c, "/api/v1/namespaces/"+namespace+"/pods", "on-"+node, "runs", running)
	}
	return pods
}

// TestClusterRunsPods: on each of two nodes a pod runs, with its logs, with commands in
// it and with a network that reaches the other node and the API server; and it ends.
func TestClusterRunsPods(t *testing.T) {
	c := Open(t)
	var list corev1.NodeList
	if err := c.Do(t.Context(), http.MethodGet, "/api/v1/nodes", nil, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != len(Nodes) {
		t.Errorf("the cluster has %d nodes, want %d", len(list.Items), len(Nodes))
	}
	for _, node := range Nodes {
		Await(t, c, "/api/v1/nodes", node, "ready", ready)
	}
	namespace := c.Namespace(t)
	pods := start(t, c, namespace)
	for i, node := range Nodes {
		pod, other := pods[node], pods[Nodes[1-i]]
		if pod.Spec.NodeName != node {
			t.Errorf("pod %s runs on node %s", pod.Name, pod.Spec.NodeName)
		}
		want := fmt.Sprintf("hello from %s on %s\n", pod.Name, node)
		if got := c.Logs(t, namespace, pod.Name, "main"); got != want {
			t.Errorf("logs of %s: %q, want %q", pod.Name, got, want)
		}
		if got, want := c.Exec(t, namespace, pod.Name, "main", "sh", "-c", `echo "$NODE"; echo problem >&2; exit 7`),
			(Result{Out: node + "\n", Err: "problem\n", Exit: 7}); got != want {
			t.Errorf("execute in %s: %+v, want %+v", pod.Name, got, want)
		}
		for what, command := range map[string]string{
			"the pod on the other node": "ping -c 1 -w 60 " + other.Status.PodIP,
			"the API server":            `nc -w 60 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" </dev/null`,
		} {
			if got := c.Exec(t, namespace, pod.Name, "main", "sh", "-c", command); got.Exit != 0 {
				t.Errorf("%s does not reach %s: %+v", pod.Name, what, got)
			}
		}
	}
	for _, pod := range pods {
		if err := c.Do(t.Context(), http.MethodDelete, podPath(namespace, pod.Name), nil, nil); err != nil {
			t.Fatalf("delete pod %s: %v", pod.Name, err)
		}
	}
	for _, pod := range pods {
		Await(t, c, "/api/v1/namespaces/"+namespace+"/pods", pod.Name, "is gone", func(p *corev1.Pod) bool { return p == nil })
	}
}

// TestClusterHasNames: a pod finds a service by its name, and an address that has none is
// refused at once.
func TestClusterHasNames(t *testing.T) {
	c := Open(t)
	namespace := c.Namespace(t)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/services", service, service); err != nil {
		t.Fatal(err)
	}
	client := greeter("node1")
	client.Spec.DNSPolicy = corev1.DNSClusterFirst
	if err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", client, nil); err != nil {
		t.Fatal(err)
	}
	Await(t, c, "/api/v1/namespaces/"+namespace+"/pods", client.Name, "runs", running)
	for _, name := range []string{"web." + namespace + ".svc.cluster.local", "web"} {
		// The server learns of a service from its watch.
		got := c.Exec(t, namespace, client.Name, "main", "sh", "-c", "until ping -c 1 -w 1 "+name+
			` 2>&1 | grep "^PING"; do sleep 0.1; done`)
		if want := "(" + service.Spec.ClusterIP + ")"; !strings.Contains(got.Out, want) {
			t.Errorf("%s is not %s: %+v", name, want, got)
		}
	}
	if got := c.Exec(t, namespace, client.Name, "main", "ping", "-c", "1", "-w", "1", "nobody"); got.Exit == 0 {
		t.Errorf("a name that no service has: %+v", got)
	}
}

// TestClusterEnforcesPolicies: a pod that a policy lets none of another namespace reach is not
// reached from there, on neither node.
func TestClusterEnforcesPolicies(t *testing.T) {
	c := Open(t)
	closed, other := c.Namespace(t), c.Namespace(t)
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "closed"},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}},
		},
	}
	policies := "/apis/networking.k8s.io/v1/namespaces/" + closed + "/networkpolicies"
	if err := c.Do(t.Context(), http.MethodPost, policies, policy, nil); err != nil {
		t.Fatal(err)
	}
	inside := start(t, c, closed)
	start(t, c, other)
	at := inside["node1"].Status.PodIP
	for _, node := range Nodes {
		ping := "ping -c 1 -w 1 " + at
		if got := c.Exec(t, closed, "on-"+node, "main", "sh", "-c", "until "+ping+"; do :; done"); got.Exit != 0 {
			t.Errorf("from the same namespace on %s: %+v", node, got)
		}
		// A new pod is closed once its node knows of it.
		if got := c.Exec(t, other, "on-"+node, "main", "sh", "-c", "while "+ping+"; do sleep 0.1; done; ! "+ping); got.Exit != 0 {
			t.Errorf("from another namespace on %s: %+v", node, got)
		}
	}
}

// TestUpRepairs: kubernetes-up starts what was killed, and no other process. Pods are
// kept, those of a node that was killed run again. What it has started holds none of its
// caller's files, which may be locks.
func TestUpRepairs(t *testing.T) {
	c := Open(t)
	namespace := c.Namespace(t)
	before := start(t, c, namespace)
	kept := c.Pid(t, "kube-scheduler")
	killed := []string{"etcd", "kube-apiserver", "kube-controller-manager", "coredns", "node1"}
	for _, name := range killed {
		c.Signal(t, name, syscall.SIGKILL)
	}
	up := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "peers", "kubernetes-up"), c.Dir)
	held, err := os.Create(filepath.Join(t.TempDir(), "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	up.ExtraFiles = []*os.File{held}
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("kubernetes-up: %v\n%s", err, out)
	}
	for _, name := range killed {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Pid(t, name)))
		if err != nil || len(links) == 0 {
			t.Errorf("the open files of %s: %v, %v", name, links, err)
		}
		for _, link := range links {
			if file, err := os.Readlink(link); err == nil && file == held.Name() {
				t.Errorf("%s holds a file of kubernetes-up's caller", name)
			}
		}
	}
	if now := c.Pid(t, "kube-scheduler"); now != kept {
		t.Errorf("the scheduler was not killed, but its pid is %d and was %d", now, kept)
	}
	for i, node := range Nodes {
		Await(t, c, "/api/v1/nodes", node, "ready", ready)
		again := i == 0 // on node1
		after := Await(t, c, "/api/v1/namespaces/"+namespace+"/pods", "on-"+node, "runs", func(p *corev1.Pod) bool {
			return running(p) && (p.Status.ContainerStatuses[0].RestartCount > 0) == again
		})
		if after.UID != before[node].UID {
			t.Errorf("pod on %s has uid %s, and had %s", node, after.UID, before[node].UID)
		}
		if got := c.Exec(t, namespace, after.Name, "main", "true"); got.Exit != 0 {
			t.Errorf("execute in %s: %+v", after.Name, got)
		}
	}
}
