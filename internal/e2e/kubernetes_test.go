//go:build kubernetes

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/agent/backend/backendtest/manifests"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// kubeBay is a server, an agent of the real Kubernetes and its bay, which is shared by the
// projects p and q as in a serviceBay.
type kubeBay struct {
	serviceBay
	kube   *kubetest.Cluster
	agents []*process
}

// newKubeBay starts the server, and nothing else.
func newKubeBay(t *testing.T, serverArgs ...string) *kubeBay {
	t.Helper()
	b := &kubeBay{kube: kubetest.Open(t)}
	b.cluster, b.token = &cluster{TB: t, dir: t.TempDir()}, make(map[string]string)
	port := freePort(t)
	b.addr = net.JoinHostPort(b.kube.Machine(t), port)
	b.server = b.process("server", append([]string{"server", "-data-dir", filepath.Join(b.dir, "server"), "-bind", b.kube.Machine(t),
		"-http-port", port, "-raft-port", freePort(t), "-gossip-port", "-1", "-insecure", "-auth", "token", "-join-token", testJoinToken,
		"-log-level", "debug"}, serverArgs...)...)
	b.server.start()
	t.Cleanup(func() { b.end(b.server) })
	var admin string
	b.eventually("there is a first token", time.Minute, func() error {
		r := b.as("", "operator", "bootstrap", "-q")
		if admin = strings.TrimSpace(r.stdout); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	b.token["admin"] = admin
	for _, project := range []string{"p", "q"} {
		// Namespaces are named after projects: each test has its own.
		b.token[project] = strings.TrimSpace(b.as(admin, "token-create", "-name", project, "-project", project+"-"+port, "-q").must(t))
	}
	var err error
	if b.client, err = api.New(api.Config{Address: b.addr, Token: b.token["p"]}); err != nil {
		t.Fatal(err)
	}
	return b
}

// claim has a bay claim the cluster, whose agents run. The bay, and all that it has in the cluster,
// is deleted after the test.
func (b *kubeBay) claim() {
	b.Helper()
	b.as(b.token["admin"], "bay-create", "-name", "b", "-coe", "kubernetes", "-node-count", "2", "-shared", "-wait", "2m").must(b)
	b.Cleanup(func() {
		b.showPods() // while the server runs
		for _, a := range b.agents {
			if a.alive() { // those that were started after this have been ended
				a.signal(syscall.SIGCONT)
			}
		}
		b.as(b.token["admin"], "bay-delete", "b", "-wait", "2m").must(b)
		b.eventually("the namespaces are gone with the bay", 2*time.Minute, func() error {
			if left := b.namespaces(); len(left) > 0 {
				return fmt.Errorf("there are %v", left)
			}
			return nil
		})
	})
}

// newClaimedKubeBay is newKubeBay with an agent on this machine.
func newClaimedKubeBay(t *testing.T) *kubeBay {
	t.Helper()
	b := newKubeBay(t)
	b.startAgent()
	b.claim()
	return b
}

// startAgent starts another agent of the cluster. All keep their secret and their lease in the
// namespace magnum-test-PORT, with the server's port.
func (b *kubeBay) startAgent() {
	b.Helper()
	_, name, _ := net.SplitHostPort(b.addr)
	n := fmt.Sprintf("agent-%d", len(b.agents)+1)
	a := b.process(n, "agent", "-server", b.addr, "-data-dir", filepath.Join(b.dir, n), "-name", "kubernetes", "-join-token", testJoinToken,
		"-gossip=false", "-log-level", "debug", "-backend", "kubernetes", "-kubeconfig", filepath.Join(b.kube.Dir, "admin.conf"),
		"-kubernetes-namespace", "magnum-test-"+name)
	a.start()
	b.agents = append(b.agents, a)
	b.Cleanup(func() { b.end(a) })
	if len(b.agents) == 1 {
		b.Cleanup(func() {
			_ = b.kube.Do(b.ctx(), http.MethodDelete, "/api/v1/namespaces/magnum-test-"+name, nil, nil) // it may never have been made
		})
	}
}

// at returns an address of a node.
func (b *kubeBay) at(node int, port string) string {
	b.Helper()
	return net.JoinHostPort(b.kube.NodeAddress(b.TB, kubetest.Nodes[node]), port)
}

// awaitPod waits until a pod of project p is as wanted.
func (b *kubeBay) awaitPod(name, what string, is func(*structs.PodBody) bool) *structs.PodBody {
	b.Helper()
	var p *structs.PodBody
	b.eventually("pod "+name+" "+what, 2*time.Minute, func() (err error) {
		if p, _, err = b.client.Pods().Get(b.ctx(), name, api.QueryOptions{}); err == nil && !is(p) {
			err = fmt.Errorf("it is %s: %s", p.Status, deref(p.StatusReason))
		}
		return err
	})
	return p
}

// makeDetached is make without a wait.
func (b *kubeBay) makeDetached(kind, manifest string) {
	b.Helper()
	file := filepath.Join(b.dir, "detached.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		b.Fatal(err)
	}
	b.cli(kind+"-create", "-manifest", file, "-bay", "b", "-d")
}

// createPod creates a pod of project p, and doesn't wait for it.
func (b *kubeBay) createPod(manifest string) {
	b.Helper()
	if err := b.tryCreatePod(manifest); err != nil {
		b.Fatal(err)
	}
}

func (b *kubeBay) tryCreatePod(manifest string) error {
	_, _, err := b.client.Pods().Create(b.ctx(), &structs.PodRequest{Manifest: manifest, Bay: "b"}, api.WriteOptions{})
	return err
}

// namespaces returns the namespaces of the projects, by project: p or q.
func (b *kubeBay) namespaces() map[string]string {
	b.Helper()
	var list corev1.NamespaceList
	if err := b.kube.Do(b.ctx(), http.MethodGet, "/api/v1/namespaces?labelSelector=magnum.project", nil, &list); err != nil {
		b.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(b.addr)
	found := make(map[string]string)
	for _, n := range list.Items {
		if project, ours := strings.CutSuffix(n.Labels["magnum.project"], "-"+port); ours {
			found[project] = n.Name
		}
	}
	return found
}

// sleeper is a pod that runs until SIGTERM.
func sleeper(name string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `}
spec:
  containers:
  - name: main
    image: ` + image + `
    imagePullPolicy: IfNotPresent
    command: ["sh", "-c", 'trap "exit 0" TERM; echo hello; while :; do sleep 1 & wait $!; done']
`
}

// TestKubernetesRedisExample: the manifests that Docker bays run in TestRedisExample, unchanged.
func TestKubernetesRedisExample(t *testing.T) {
	t.Parallel() // after those that stop parts of the cluster
	b := newClaimedKubeBay(t)
	archive := filepath.Join(b.dir, "redis.tar")
	build := exec.Command(filepath.Join("..", "..", "scripts", "redis-image"), "docker.io/"+redisImage, archive)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("redis-image: %v\n%s", err, out)
	}
	b.kube.Load(t, archive)
	b.make("service", redisExample["service"])
	b.make("pod", redisExample["pod"])
	b.make("service", redisExample["replicas"])
	b.make("rc", redisExample["rc"])
	master, replicas := b.service("redis-master", 1), b.service("redis-replica", 2)
	set := func(node int, key, value string) {
		t.Helper()
		b.eventually(key+" is written", patience, func() error { // kube-proxy may learn of the pod after magnum
			return says(b.at(node, b.nodePort(master, 0)), "SET "+key+" "+value, "+OK")
		})
	}
	read := func(node int, key, value string) {
		t.Helper()
		for range 4 { // of both replicas
			b.eventually(key+" is read from a replica", patience, func() error {
				return says(b.at(node, b.nodePort(replicas, 0)), "GET "+key, value)
			})
		}
	}
	set(0, "here", "1")
	read(1, "here", "1")
	end := (*replicas.Endpoints)[0].Pod
	b.cli("pod-delete", end, "-force", "-wait", "1m")
	set(1, "there", "2")
	b.eventually("the replica is replaced", time.Minute, func() error {
		now := b.service("redis-replica", 2)
		if slices.ContainsFunc(*now.Endpoints, func(e structs.EndpointBody) bool { return e.Pod == end }) {
			return fmt.Errorf("%s is still there", end)
		}
		return nil
	})
	read(0, "there", "2")
}

// TestKubernetesObjects is the counterpart of TestObjectsOnDocker.
func TestKubernetesObjects(t *testing.T) {
	t.Parallel() // after those that stop parts of the cluster
	b := newClaimedKubeBay(t)
	manifests.Objects(t, &manifests.Bay{Backend: structs.BackendKubernetes, Image: kubetest.Image, Project: &objectClient{b.client, "b"}})
}

// TestKubernetesAgents: one of two agents is active. When it is killed between the creation of pods
// and the report of them, or frozen for longer than its lease, the other one goes on; nothing that
// runs is touched, and nothing is made twice.
func TestKubernetesAgents(t *testing.T) {
	t.Parallel() // after those that stop parts of the cluster
	b := newClaimedKubeBay(t)
	b.startAgent()
	b.make("pod", sleeper("stays"))
	b.awaitPod("stays", "runs", func(p *structs.PodBody) bool { return p.Ready })
	pods := "/api/v1/namespaces/" + b.namespaces()["p"] + "/pods"
	list := func() map[string]string {
		var l corev1.PodList
		if err := b.kube.Do(b.ctx(), http.MethodGet, pods, nil, &l); err != nil {
			t.Fatal(err)
		}
		uids := make(map[string]string)
		for _, p := range l.Items {
			uids[p.Name] = string(p.UID)
		}
		return uids
	}
	before := list()
	for round, end := range []func(*process){(*process).kill, func(a *process) { a.signal(syscall.SIGSTOP) }} {
		name := fmt.Sprintf("new-%d", round)
		b.createPod(sleeper(name))
		kubetest.Await(t, b.kube, pods, name, "is there", func(p *corev1.Pod) bool { return p != nil })
		active := b.agents[0]
		if round == 1 {
			active = b.agents[1]
		}
		end(active)
		b.awaitPod(name, "runs, says the other agent", func(p *structs.PodBody) bool { return p.Ready })
		b.make("pod", sleeper(name+"-later"))
		b.awaitPod(name+"-later", "runs", func(p *structs.PodBody) bool { return p.Ready })
		if round == 0 {
			active.start()
			continue
		}
		active.signal(syscall.SIGCONT)
	}
	after := list()
	if after["stays"] != before["stays"] || len(after) != 5 {
		t.Errorf("there were pods %v, and now %v", before, after)
	}
	b.cli("pod-delete", "stays", "-wait", "1m")
}

// TestKubernetesServersAway: the API server is killed while 50 clients create pods, and etcd stops
// for 20 s. Nothing acknowledged is lost, what is shown meanwhile says that it is old, and all is true
// once they are back.
func TestKubernetesServersAway(t *testing.T) {
	b := newClaimedKubeBay(t)
	b.make("pod", sleeper("first"))
	b.awaitPod("first", "runs", func(p *structs.PodBody) bool { return p.Ready })

	var creating sync.WaitGroup
	failed := make(chan error, 50)
	for i := range 50 {
		creating.Go(func() {
			if err := b.tryCreatePod(sleeper(fmt.Sprintf("many-%d", i))); err != nil {
				failed <- err
			}
		})
	}
	b.kube.Signal(t, "kube-apiserver", syscall.SIGKILL)
	creating.Wait()
	close(failed)
	for err := range failed {
		t.Errorf("a pod was not taken: %v", err)
	}
	p := b.awaitPod("first", "says that the cluster is away", func(p *structs.PodBody) bool {
		return strings.Contains(deref(p.StatusReason), "API")
	})
	if p.Status != structs.PodRunning {
		t.Errorf("first is shown as %s", p.Status)
	}
	b.kube.Up(t)
	b.eventually("all pods run", 4*time.Minute, func() error {
		list, _, err := b.client.Pods().List(b.ctx(), api.QueryOptions{Detail: true})
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range list {
			if p.Ready && p.StatusReason == nil {
				ready++
			}
		}
		if len(list) != 51 || ready != 51 {
			return fmt.Errorf("%d of %d", ready, len(list))
		}
		return nil
	})

	b.kube.Signal(t, "etcd", syscall.SIGSTOP)
	goOn := func() { b.kube.Signal(t, "etcd", syscall.SIGCONT) }
	t.Cleanup(goOn)
	stopped := time.Now()
	b.createPod(sleeper("while-etcd-stops"))
	b.cli("pod-delete", "many-0", "-d")
	b.awaitPod("first", "says that the cluster is away", func(p *structs.PodBody) bool {
		return strings.Contains(deref(p.StatusReason), "API")
	})
	<-time.After(20*time.Second - time.Since(stopped)) // longer than the agent's lease lasts
	if p := b.awaitPod("first", "is there", func(*structs.PodBody) bool { return true }); p.Status != structs.PodRunning {
		t.Errorf("first is shown as %s after 20 s: %s", p.Status, deref(p.StatusReason))
	}
	goOn()
	b.awaitPod("while-etcd-stops", "runs", func(p *structs.PodBody) bool { return p.Ready })
	b.eventually("the deleted pod is gone", 2*time.Minute, func() error {
		_, _, err := b.client.Pods().Get(b.ctx(), "many-0", api.QueryOptions{})
		if structs.CodeOf(err) != structs.CodeNotFound {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}

// TestKubernetesInCluster: the agents of the shipped manifests run in the cluster, with no more
// rights than they need: what isn't a project's is closed to them.
func TestKubernetesInCluster(t *testing.T) {
	t.Parallel() // after those that stop parts of the cluster
	b := newKubeBay(t)
	const tag = "docker.io/magnum-test/magnum:latest"
	archive := filepath.Join(b.dir, "magnum.tar")
	scripts := filepath.Join("..", "..", "scripts")
	if out, err := exec.Command(filepath.Join(scripts, "magnum-image"), tag, archive).CombinedOutput(); err != nil {
		t.Fatalf("magnum-image: %v\n%s", err, out)
	}
	b.kube.Load(t, archive)
	shipped, err := os.ReadFile(filepath.Join(scripts, "kubernetes", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.Replace(string(shipped), "image: magnum:latest", "image: "+tag, 1)
	b.kube.Kubectl(t, "", "create", "namespace", "magnum")
	t.Cleanup(func() {
		b.kube.Kubectl(t, manifest, "delete", "-f", "-", "--ignore-not-found", "--wait=false")
		b.kube.Kubectl(t, "", "delete", "namespace", "magnum")
	})
	b.kube.Kubectl(t, "", "-n", "magnum", "create", "configmap", "magnum-agent", "--from-literal=MAGNUM_SERVER=http://"+b.addr,
		"--from-literal=MAGNUM_NAME=kubernetes", "--from-literal=MAGNUM_LOG_LEVEL=debug")
	b.kube.Kubectl(t, "", "-n", "magnum", "create", "secret", "generic", "magnum-join", "--from-literal=token="+testJoinToken)
	b.kube.Kubectl(t, manifest, "apply", "-f", "-")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.kube.Kubectl(t, "", "-n", "magnum", "logs", "-l", "app=magnum-agent", "--prefix", "--tail=50"))
		}
	})
	b.claim()
	b.make("pod", sleeper("one"))
	b.awaitPod("one", "runs", func(p *structs.PodBody) bool { return p.Ready })
	if out := b.cli("pod-execute", "one", "echo", "from inside"); out != "from inside\n" {
		t.Errorf("pod-execute says %q", out)
	}
	if out := b.cli("pod-logs", "one"); out != "hello\n" {
		t.Errorf("pod-logs says %q", out)
	}

	// What the agents' account may not do.
	foreign := b.kube.Namespace(t)
	b.kube.Kubectl(t, "", "-n", foreign, "run", "victim", "--image="+kubetest.Image, "--image-pull-policy=Never", "--", "sleep", "1000")
	b.kube.Kubectl(t, "", "-n", foreign, "wait", "--for=condition=Ready", "--timeout=60s", "pod/victim")
	as := []string{"--as=system:serviceaccount:magnum:magnum-agent"}
	for _, args := range [][]string{
		{"-n", "kube-system", "run", "x", "--image=" + kubetest.Image},
		{"-n", foreign, "run", "x", "--image=" + kubetest.Image},
		{"-n", foreign, "exec", "victim", "--", "true"},
		{"-n", foreign, "delete", "pod", "victim"},
		{"-n", "kube-system", "get", "secrets"},
		{"-n", "magnum", "get", "secrets"},
		{"-n", "magnum", "run", "x", "--image=" + kubetest.Image},
		{"delete", "namespace", foreign},
		{"create", "namespace", "without-label"},
		{"create", "clusterrolebinding", "x", "--clusterrole=cluster-admin", "--serviceaccount=magnum:magnum-agent"},
	} {
		if out, err := b.kube.TryKubectl(t, "", append(as, args...)...); err == nil || !strings.Contains(out, "orbidden") {
			t.Errorf("kubectl %s is not forbidden: %v: %s", strings.Join(args, " "), err, out)
		}
	}

	// The active instance ends.
	holder := b.kube.Kubectl(t, "", "-n", "magnum", "get", "lease", "magnum-agent", "-o", "jsonpath={.spec.holderIdentity}")
	active, _, _ := strings.Cut(holder, "_")
	b.kube.Kubectl(t, "", "-n", "magnum", "delete", "pod", active, "--grace-period=0", "--force")
	b.make("pod", sleeper("two"))
	b.awaitPod("two", "runs", func(p *structs.PodBody) bool { return p.Ready })
	if p := b.awaitPod("one", "still runs", func(p *structs.PodBody) bool { return p.Ready }); p.Containers[0].RestartCount != 0 {
		t.Errorf("pod one was restarted: %+v", p.Containers[0])
	}
}

// TestKubernetesProjectsApart: a pod is reached by pods of its own project and through its node
// port, and by no pod of another project: neither by its address nor by its service's.
func TestKubernetesProjectsApart(t *testing.T) {
	t.Parallel() // after those that stop parts of the cluster
	b := newClaimedKubeBay(t)
	const server = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: main
    image: ` + image + `
    imagePullPolicy: IfNotPresent
    command: ["sh", "-c", 'trap "exit 0" TERM; while :; do echo from web | nc -l -p 80 & wait $!; done']
`
	b.make("pod", server)
	b.make("service", `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80}]
`)
	b.make("pod", sleeper("inside"))
	outside := *b
	outside.token = map[string]string{"p": b.token["q"]}
	outside.make("pod", sleeper("outside"))
	web := b.awaitPod("web", "runs", func(p *structs.PodBody) bool { return p.Ready })
	b.awaitPod("inside", "runs", func(p *structs.PodBody) bool { return p.Ready })
	b.eventually("the pod of project q runs", 2*time.Minute, func() error {
		if out := outside.cli("pod-show", "outside", "-format", "{{.ready}}"); strings.TrimSpace(out) != "true" {
			return fmt.Errorf("ready: %s", out)
		}
		return nil
	})
	s := b.service("web", 1)
	for _, to := range []string{deref(web.Address), deref(s.Address)} {
		// nc of the server serves one connection after the other.
		ask := "nc -w 2 " + to + " 80 </dev/null"
		b.eventually("the pod of its own project reaches "+to, time.Minute, func() error {
			if r := b.as(b.token["p"], "pod-execute", "inside", "sh", "-c", ask); r.stdout != "from web\n" {
				return fmt.Errorf("%q %s", r.stdout, r.stderr)
			}
			return nil
		})
		b.eventually("the pod of another project does not reach "+to, time.Minute, func() error {
			if r := b.as(b.token["q"], "pod-execute", "outside", "sh", "-c", ask); r.stdout != "" || r.code == 0 {
				return fmt.Errorf("%q, exit code %d", r.stdout, r.code)
			}
			return nil
		})
	}
	for node := range kubetest.Nodes {
		b.eventually("the node port answers", time.Minute, func() error {
			conn, err := net.DialTimeout("tcp", b.at(node, b.nodePort(s, 0)), 5*time.Second)
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			line := make([]byte, 16)
			n, err := conn.Read(line)
			if string(line[:n]) != "from web\n" {
				return fmt.Errorf("%q %v", line[:n], err)
			}
			return nil
		})
	}
}

// TestKubernetesRefusals: what the cluster doesn't let a project do comes back in its own words,
// and at once.
func TestKubernetesRefusals(t *testing.T) {
	t.Parallel() // after those that stop parts of the cluster
	b := newClaimedKubeBay(t)
	refused := func(want, kind, manifest string, args ...string) {
		t.Helper()
		file := filepath.Join(b.dir, "refused.yaml")
		if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		r := b.as(b.token["p"], append([]string{kind + "-create", "-manifest", file, "-bay", "b", "-wait", "1m"}, args...)...)
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s%v: exit code %d, %s", manifest, args, r.code, r.stderr)
		}
	}
	pod := func(name, spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n" + spec
	}
	container := "  containers: [{name: main, image: x}]\n"
	refused(`violates PodSecurity "baseline:latest": privileged`, "pod", pod("privileged",
		"  containers: [{name: main, image: x, securityContext: {privileged: true}}]\n"))
	refused(`violates PodSecurity "baseline:latest": host namespaces`, "pod", pod("host-network", "  hostNetwork: true\n"+container))
	refused(`violates PodSecurity "baseline:latest": hostPath`, "pod", pod("host-path",
		"  volumes: [{name: root, hostPath: {path: /}}]\n"+container))
	// Of a replication controller the cluster refuses the pods, and may take them later.
	b.makeDetached("rc", `
apiVersion: v1
kind: ReplicationController
metadata: {name: host-pid}
spec:
  replicas: 1
  template: {metadata: {labels: {app: x}}, spec: {hostPID: true, containers: [{name: main, image: x}]}}
`)
	b.eventually("the rc says why it has no pods", time.Minute, func() error {
		rc, _, err := b.client.RCs().Get(b.ctx(), "host-pid", api.QueryOptions{})
		if err == nil && !strings.Contains(deref(rc.StatusReason), `violates PodSecurity "baseline:latest": host namespaces`) {
			err = errors.New(deref(rc.StatusReason))
		}
		return err
	})
	// An object that somebody else has made is neither taken over nor overwritten.
	b.make("pod", sleeper("first"))
	namespace := b.namespaces()["p"]
	b.kube.Kubectl(t, "", "-n", namespace, "run", "foreign", "--image="+kubetest.Image, "--image-pull-policy=Never", "--", "sleep", "1000")
	refused("exists in namespace "+namespace+" of the cluster and is not magnum's", "pod", sleeper("foreign"))
	b.cli("pod-delete", "foreign", "-wait", "1m")
	// Of a service, what the cluster says is the answer, too: by an admission's refusal, and by a quota's.
	refused(`Service "broken" is invalid: spec.clusterIPs[0]: Invalid value: "nonsense"`, "service",
		"apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {clusterIP: nonsense, ports: [{port: 80}]}\n")
	b.kube.Kubectl(t, "", "-n", namespace, "create", "quota", "none", "--hard=services=0")
	kubetest.Await(t, b.kube, "/api/v1/namespaces/"+namespace+"/resourcequotas", "none", "counts", func(q *corev1.ResourceQuota) bool {
		return q != nil && len(q.Status.Used) > 0
	})
	refused(`services "many" is forbidden: exceeded quota: none, requested: services=1, used: services=0, limited: services=0`, "service",
		"apiVersion: v1\nkind: Service\nmetadata: {name: many}\nspec: {ports: [{port: 80}]}\n")
	b.kube.Kubectl(t, "", "-n", namespace, "delete", "pod", "foreign", "--grace-period=0", "--force") // it is still there

	// What servers know without the cluster.
	for want, args := range map[string][]string{
		"exclusive": {"-exclusive"}, "infra_image": {"-infra-image", "x"},
	} {
		refused(want, "pod", sleeper("never"), args...)
	}
	r := b.as(b.token["p"], "container-create", "-image", image, "-bay", "b")
	if r.code != 1 || !strings.Contains(r.stderr, "pod") {
		t.Errorf("a container: exit code %d, %s", r.code, r.stderr)
	}
}
