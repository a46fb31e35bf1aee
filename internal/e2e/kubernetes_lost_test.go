//go:build kubernetes

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// moves are the tolerations of a pod that leaves a lost node after 5 s.
const moves = `tolerations:
    - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
    - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
`

// webOfTwo is a replication controller with a pod on each node, while there are two.
const webOfTwo = `
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  selector: {app: web}
  template:
   metadata: {labels: {app: web}}
   spec:
    ` + moves + `
    topologySpreadConstraints:
    - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
    affinity:
      podAntiAffinity:
        preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 100, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}}
    containers:
    - name: main
      image: ` + image + `
      imagePullPolicy: IfNotPresent
      command: ["sh", "-c", 'trap "exit 0" TERM; while :; do sleep 1 & wait $!; done']
`

// TestKubernetesNodesLost: a node is lost and comes back, and then the whole cluster is stopped and
// started again. What users are told follows, and nothing is lost or doubled.
func TestKubernetesNodesLost(t *testing.T) {
	b := newClaimedKubeBay(t)
	b.make("rc", webOfTwo)
	b.make("service", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n")
	b.createPod(strings.Replace(sleeper("stays"), "spec:\n", "spec:\n  nodeSelector: {kubernetes.io/hostname: node2}\n", 1))
	b.awaitPod("stays", "runs", func(p *structs.PodBody) bool { return p.Ready })
	b.service("web", 2)
	b.loseNode()
	b.restartCluster()
}

// loseNode ends everything on node2 at once, and starts it again later.
func (b *kubeBay) loseNode() {
	b.Helper()
	before := b.webPods()
	var kept, lost structs.PodBody
	for _, p := range before {
		if deref(p.Host) == "node2" {
			lost = p
		} else {
			kept = p
		}
	}
	if len(before) != 2 || lost.UUID == "" || kept.UUID == "" {
		b.Fatalf("the pods of web are not on both nodes: %+v", before)
	}
	b.kube.Signal(b.TB, "node2", syscall.SIGKILL)
	b.awaitPod("stays", "is unknown with its node", func(p *structs.PodBody) bool {
		return p.Status == structs.PodUnknown && strings.Contains(deref(p.StatusReason), "its node node2 has not answered since")
	})
	b.eventually("the bay says which node is lost", 2*time.Minute, func() error {
		if out := b.cli("bay-show", "b"); !strings.Contains(out, "1 of 2 nodes are ready: node2 is not") {
			return errors.New(out)
		}
		return nil
	})
	b.eventually("both pods of web run on node1", 3*time.Minute, func() error {
		ready, seen := 0, ""
		for _, p := range b.webPods() {
			seen += fmt.Sprintf("%s on %s: %s, ready %t (%s); ", p.Name, deref(p.Host), p.Status, p.Ready, deref(p.StatusReason))
			if p.Ready && deref(p.Host) == "node1" {
				ready++
			}
			if p.UUID == lost.UUID && p.Ready {
				return errors.New("the lost pod is shown as ready")
			}
		}
		if ready != 2 {
			return errors.New(seen)
		}
		return nil
	})
	for _, e := range *b.service("web", 2).Endpoints {
		if e.Ready && deref(e.Host) != "node1" {
			b.Errorf("the service leads to %s on %s", e.Pod, deref(e.Host))
		}
	}

	b.kube.Up(b.TB)
	b.awaitPod("stays", "runs again on its node", func(p *structs.PodBody) bool { return p.Ready && deref(p.Host) == "node2" })
	b.eventually("the bay is whole, and the pod of before is gone", 2*time.Minute, func() error {
		if out := b.cli("bay-show", "b", "-format", "{{.status}}"); strings.TrimSpace(out) != string(structs.BayCreated) {
			return errors.New(b.cli("bay-show", "b"))
		}
		for _, p := range b.webPods() {
			if p.UUID == lost.UUID {
				return fmt.Errorf("%s is %s: %s", p.Name, p.Status, deref(p.StatusReason))
			}
		}
		return nil
	})
	if now := b.webPods(); len(now) != 2 || now[0].UUID != kept.UUID && now[1].UUID != kept.UUID {
		b.Errorf("the pods of web are %+v, one of them was %s", now, kept.UUID)
	}
}

// restartCluster stops all servers and nodes at once, as a power failure does, and starts them.
func (b *kubeBay) restartCluster() {
	b.Helper()
	before := b.clusterPods()
	for _, program := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "node1", "node2"} {
		b.kube.Signal(b.TB, program, syscall.SIGKILL)
	}
	b.awaitPod("stays", "says that the cluster is away", func(p *structs.PodBody) bool {
		return strings.Contains(deref(p.StatusReason), "API")
	})
	b.createPod(sleeper("late")) // meanwhile
	b.kube.Up(b.TB)
	b.eventually("all pods run", 4*time.Minute, func() error {
		list, _, err := b.client.Pods().List(b.ctx(), api.QueryOptions{Detail: true})
		if err != nil {
			return err
		}
		for _, p := range list {
			if !p.Ready || p.StatusReason != nil {
				return fmt.Errorf("%s is %s: %s", p.Name, p.Status, deref(p.StatusReason))
			}
		}
		if len(list) != 4 {
			return fmt.Errorf("there are %d", len(list))
		}
		return nil
	})
	b.service("web", 2)
	after := b.clusterPods()
	for name, uid := range before {
		if after[name] != uid {
			b.Errorf("pod %s has uid %s, and had %s", name, after[name], uid)
		}
	}
	if len(after) != len(before)+1 || after["late"] == "" {
		b.Errorf("the cluster has pods %v, and had %v", after, before)
	}
	if out := b.cli("pod-execute", "stays", "echo", "again"); out != "again\n" {
		b.Errorf("pod-execute says %q", out)
	}
}

// webPods returns the pods of the replication controller web.
func (b *kubeBay) webPods() (web []structs.PodBody) {
	b.Helper()
	list, _, err := b.client.Pods().List(b.ctx(), api.QueryOptions{Detail: true})
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range list {
		if p.RCUUID != nil {
			web = append(web, p)
		}
	}
	return web
}

// clusterPods returns the UIDs of the pods that the cluster has of project p, by name.
func (b *kubeBay) clusterPods() map[string]string {
	b.Helper()
	var list corev1.PodList
	if err := b.kube.Do(b.ctx(), http.MethodGet, "/api/v1/namespaces/"+b.namespaces()["p"]+"/pods", nil, &list); err != nil {
		b.Fatal(err)
	}
	uids := make(map[string]string)
	for _, p := range list.Items {
		uids[p.Name] = string(p.UID)
	}
	return uids
}
