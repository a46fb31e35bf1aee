package kubernetes

import (
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/manifest/manifesttest"
	"github.com/stackforge/magnum/structs"
)

const (
	podHead     = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"
	serviceHead = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
	rcHead      = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\n"
	container   = "containers: [{name: web, image: busybox}]"
)

// pod is a manifest of a pod with one container, and with fields of the container and of the
// spec, in flow style.
func pod(ofContainer, ofSpec string) string {
	return podHead + "spec: {containers: [{name: web, image: busybox" + comma(ofContainer) + "}]" + comma(ofSpec) + "}\n"
}

func rc(spec string) string { return rcHead + "spec: {" + spec + "}\n" }

// template is the template of a replication controller.
func template(ofSpec string) string {
	return "template: {metadata: {labels: {app: web}}, spec: {" + container + comma(ofSpec) + "}}"
}

func service(spec string) string { return serviceHead + "spec: {" + spec + "}\n" }

func comma(fields string) string {
	if fields == "" {
		return ""
	}
	return ", " + fields
}

// TestKept checks what servers keep.
func TestKept(t *testing.T) {
	got, err := ParsePod(podHead + `
spec:
  hostNetwork: true
  hostname: other
  terminationGracePeriodSeconds: 1099511627776
  activeDeadlineSeconds: 60
  restartPolicy: OnFailure
  nodeSelector: {disk: ssd}
  initContainers:
  - {name: init, image: "busybox:1.36", restartPolicy: Always, command: [true-ish], resources: {requests: {memory: 1Mi}}}
  containers:
  - name: web
    image: busybox
    tty: true
    stdin: true
    stdinOnce: true
    securityContext: {privileged: true}
    ports: [{containerPort: 80, name: http}, {containerPort: 53, hostPort: 53, protocol: UDP}, {containerPort: 9, protocol: SCTP}]
  volumes: [{name: etc, hostPath: {path: /etc}}, {name: s, secret: {secretName: s}}]
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &manifest.Pod{Name: "web", Spec: structs.PodSpec{Cluster: true, RestartPolicy: "OnFailure", GracePeriod: 1<<31 - 1,
		ActiveDeadline: 60,
		InitContainers: []structs.PodContainer{{Name: "init", Image: "busybox:1.36", Requests: structs.Resources{Memory: 1 << 20}}},
		Containers: []structs.PodContainer{{Name: "web", Image: "busybox", TTY: true, Stdin: true, StdinOnce: true,
			Ports: []structs.PodPort{
				{Name: "http", Port: structs.Port{ContainerPort: 80, Protocol: "tcp"}},
				{Port: structs.Port{ContainerPort: 53, HostPort: 53, Protocol: "udp"}},
				{Port: structs.Port{ContainerPort: 9, Protocol: "sctp"}}}}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nwant %s", asJSON(t, got), asJSON(t, want))
	}
}

// TestKeptOfServices checks what servers keep of services.
func TestKeptOfServices(t *testing.T) {
	for _, c := range []struct {
		spec string
		want structs.ServiceSpec
	}{
		{"ports: [{port: 80}]", structs.ServiceSpec{Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}}},
		{"selector: {app: web}, clusterIP: None", structs.ServiceSpec{Selector: map[string]string{"app": "web"}, Headless: true}},
		{"clusterIPs: [None]", structs.ServiceSpec{Headless: true}},
		{"type: ExternalName, externalName: example.com", structs.ServiceSpec{Headless: true}},
		{"type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.0.0.1, " +
			"ports: [{name: a, port: 80, targetPort: http, nodePort: 30080}, " +
			"{name: b, port: 80, protocol: SCTP, targetPort: 81}]",
			structs.ServiceSpec{NodePorts: true, Ports: []structs.ServicePort{{Name: "a", Port: 80, TargetName: "http",
				NodePort: 30080, Protocol: "tcp"},
				{Name: "b", Port: 80, TargetPort: 81, Protocol: "sctp"}}}},
		{"type: LoadBalancer, loadBalancerClass: a/b, ports: [{port: 80}], sessionAffinity: ClientIP",
			structs.ServiceSpec{NodePorts: true, ClientIPTimeout: structs.DefaultClientIPTimeout,
				Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}}},
		{"type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}], sessionAffinity: ClientIP, " +
			"sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}",
			structs.ServiceSpec{ClientIPTimeout: 5, Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}}},
	} {
		got, err := ParseService(service(c.spec))
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
		} else if !reflect.DeepEqual(got.Spec, c.want) {
			t.Errorf("%s: %s\nwant %s", c.spec, asJSON(t, got.Spec), asJSON(t, c.want))
		}
	}
}

// TestKeptOfRCs checks what servers keep of replication controllers.
func TestKeptOfRCs(t *testing.T) {
	got, err := ParseRC(rc("minReadySeconds: 5, " + template("hostPID: true")))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "web"}
	want := structs.RCSpec{Replicas: 1, Selector: labels, Labels: labels, Template: structs.PodSpec{Cluster: true, RestartPolicy: "Always",
		GracePeriod: 30, Containers: []structs.PodContainer{{Name: "web", Image: "busybox"}}}}
	if !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("%s\nwant %s", asJSON(t, got.Spec), asJSON(t, want))
	}
	made, err := RC(rc("minReadySeconds: 5, "+template("")), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(made.Spec.Selector, labels) || made.Name != "web-1" || made.Spec.MinReadySeconds != 5 {
		t.Errorf("the object is %s", asJSON(t, made))
	}
	made.Spec.Template.Labels["more"] = "x" // an agent adds labels of its own
	if !reflect.DeepEqual(made.Spec.Selector, labels) {
		t.Errorf("the selector follows the labels: %v", made.Spec.Selector)
	}
}

// TestNames checks that names are those that Kubernetes takes, and which one counts.
func TestNames(t *testing.T) {
	meta := func(head, meta string) string { return strings.Replace(head, "{name: web}", meta, 1) }
	spec := "spec: {" + container + "}"
	for _, c := range []struct{ meta, name, generate string }{
		{"{name: web}", "web", ""}, {"{name: web.example.com}", "web.example.com", ""}, {"{name: 1a, generateName: x-}", "1a", ""},
		{"{name: " + strings.Repeat("a", 253) + "}", strings.Repeat("a", 253), ""}, {"{generateName: web-}", "", "web-"},
		{"{generateName: web.a-}", "", "web.a-"},
	} {
		got, err := ParsePod(meta(podHead, c.meta) + spec)
		if err != nil || got.Name != c.name || got.GenerateName != c.generate {
			t.Errorf("%s: %+v, %v", c.meta, got, err)
		}
		made, err := Pod(meta(podHead, c.meta)+spec, "given")
		if err != nil || made.Name != "given" || made.GenerateName != "" {
			t.Errorf("%s: %+v, %v", c.meta, made, err)
		}
	}
	_, err := ParseService(meta(serviceHead, "{name: web.a}") + "spec: {ports: [{port: 80}]}")
	refuses(t, err, "metadata.name", "is not a DNS label")
}

// TestPrinted checks that an object as kubectl get prints it can be created again.
func TestPrinted(t *testing.T) {
	const meta = "{name: web, namespace: magnum-a, uid: 7, resourceVersion: '1', generation: 3, " +
		"creationTimestamp: '2026-01-01T00:00:00Z', " +
		"finalizers: [a/b], ownerReferences: [{apiVersion: v1, kind: Pod, name: x, uid: '1'}], " +
		"deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 1, selfLink: x, " +
		"managedFields: [{manager: kubectl, fieldsV1: {f:metadata: {}}}], labels: {app: web, magnum.id: '1', magnum.example.com/a: b}, " +
		"annotations: {magnum/template: x, a: b, kubectl.kubernetes.io/last-applied-configuration: '{}'}}"
	kubectl := func(head string) string {
		return strings.Replace(head, "{name: web}", strings.Replace(meta, "uid: 7", "uid: '7'", 1), 1)
	}
	checkMeta := func(name string, got any) {
		t.Helper()
		const want = `{"name":"web","labels":{"app":"web","magnum.example.com/a":"b"},"annotations":{"a":"b"}}`
		if s := strings.Join(strings.Fields(asJSON(t, got)), ""); s != want {
			t.Errorf("%s: %s, want %s", name, s, want)
		}
	}

	made, err := Pod(kubectl(podHead)+"spec: {nodeName: n1, "+container+"}\nstatus: {phase: Running, aFieldOfANewerServer: 1}", "web")
	if err != nil {
		t.Fatal(err)
	}
	checkMeta("pod", made.ObjectMeta)
	if made.Spec.NodeName != "" || made.Status.Phase != "" {
		t.Errorf("%s", asJSON(t, made))
	}
	s, err := Service(kubectl(serviceHead)+"spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], "+
		"ports: [{port: 80, nodePort: 30080}]}", "web")
	if err != nil {
		t.Fatal(err)
	}
	checkMeta("service", s.ObjectMeta)
	if s.Spec.ClusterIP != "" || s.Spec.ClusterIPs != nil || s.Spec.Ports[0].NodePort != 30080 {
		t.Errorf("%s", asJSON(t, s))
	}
	if s, err = Service(kubectl(serviceHead)+"spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}", "web"); err != nil {
		t.Fatal(err)
	}
	if !isHeadless(&s.Spec) {
		t.Errorf("%s", asJSON(t, s))
	}
	r, err := RC(kubectl(rcHead)+"spec: {selector: {app: web, magnum.id: '1'}, template: {metadata: {creationTimestamp: null, "+
		"labels: {app: web, magnum.id: '1', magnum.owner: '1'}, annotations: {magnum/template: x}}, spec: {"+container+"}}}", "web")
	if err != nil {
		t.Fatal(err)
	}
	checkMeta("rc", r.ObjectMeta)
	want := map[string]string{"app": "web"}
	if of := r.Spec.Template; !reflect.DeepEqual(r.Spec.Selector, want) || !reflect.DeepEqual(of.Labels, want) || len(of.Annotations) > 0 {
		t.Errorf("%s", asJSON(t, r))
	}
}

// TestPassedOn checks that objects get what a user sets, even what Docker bays refuse.
func TestPassedOn(t *testing.T) {
	made, err := Pod("apiVersion: v1beta3\nkind: Pod\nmetadata: {name: web}\nspec: {nodeName: n1, hostNetwork: true, "+container+
		", volumes: [{name: v, hostPath: {path: /}}]}", "web")
	if err != nil {
		t.Fatal(err)
	}
	if made.APIVersion != "v1" || made.Kind != "Pod" || made.Spec.NodeName != "n1" || !made.Spec.HostNetwork ||
		made.Spec.Volumes[0].HostPath.Path != "/" {
		t.Errorf("%s", asJSON(t, made))
	}
	s, err := Service(service("type: ExternalName, externalName: example.com"), "web")
	if err != nil || s.Spec.Type != corev1.ServiceTypeExternalName || s.Spec.ExternalName != "example.com" {
		t.Errorf("%s, %v", asJSON(t, s), err)
	}
}

// TestFixtures checks that manifests which Docker bays take are taken.
func TestFixtures(t *testing.T) {
	for _, name := range []string{"kubectl", "podman", "redis-master"} {
		text, err := os.ReadFile("../testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		pod, err := ParsePod(string(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		docker, err := manifest.ParsePod(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if pod.Name != docker.Name || !reflect.DeepEqual(pod.Labels, docker.Labels) || !reflect.DeepEqual(pod.Annotations,
			docker.Annotations) ||
			pod.Spec.RestartPolicy != docker.Spec.RestartPolicy || pod.Spec.GracePeriod != docker.Spec.GracePeriod {
			t.Errorf("%s: %s\nfor Docker bays %s", name, asJSON(t, pod), asJSON(t, docker))
		}
		if _, err := Pod(string(text), pod.Name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func refuses(t *testing.T, err error, path, text string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("not refused, want %s: ...%s", path, text)
	case structs.CodeOf(err) != structs.CodeInvalid:
		t.Errorf("%v has code %s", err, structs.CodeOf(err))
	case !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), text):
		t.Errorf("refused with %q, want %s: ...%s", err, path, text)
	}
}

// TestRefusals checks what is refused, and by which path.
func TestRefusals(t *testing.T) {
	parsePod := func(text string) error { _, err := ParsePod(text); return err }
	parseService := func(text string) error { _, err := ParseService(text); return err }
	parseRC := func(text string) error { _, err := ParseRC(text); return err }
	many := "containers: [" + strings.Repeat("{name: a, image: b}, ", 100) + "]"
	port := func(fields string) string { return service("ports: [{" + fields + "}]") }
	for _, c := range []struct {
		parse            func(string) error
		text, path, want string
	}{
		{parsePod, "", "manifest", "is empty"},
		{parsePod, "- a", "manifest", "is not an object"},
		{parsePod, pod("", "") + "---\n" + pod("", ""), "manifest", "begins a second document"},
		{parsePod, podHead + "spec: {a: &a b}", "spec.a", "anchors"},
		{parsePod, pod("args: [\"a\\0b\"]", ""), "spec.containers[0].args[0]", "NUL"},
		{parsePod, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"nodeSelector":{"a\u0000":"b"}}}`,
			"spec.nodeSelector", "NUL"},
		{parsePod, pod("", "")[:40] + "\x00", "manifest", "NUL"},
		{parsePod, service("ports: [{port: 80}]"), "kind", "a Service is created by service-create"},
		{parseService, pod("", ""), "kind", "a Pod is created by pod-create"},
		{parseRC, pod("", ""), "kind", "a Pod is created by pod-create"},
		{parsePod, "apiVersion: v1\nkind: Secret\n", "kind", "create it with kubectl"},
		{parsePod, "apiVersion: v1\nkind: PersistentVolumeClaim\n", "kind", "create it with kubectl"},
		{parsePod, "apiVersion: apps/v1\nkind: Deployment\n", "kind", "use a ReplicationController"},
		{parsePod, "apiVersion: v1\nkind: Widget\n", "kind", `"Widget" is not a Pod`},
		{parsePod, "apiVersion: v2\nkind: Pod\n", "apiVersion", "must be v1"},

		{parsePod, "apiVersion: v1\nkind: Pod\nspec: {" + container + "}", "metadata.name", "is missing"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {name: Web}", "metadata.name", "is not a DNS name"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {generateName: -}", "metadata.generateName", "is missing"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {a b: c}}", "metadata.labels", "is not a key"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {magnum.id: c}}", "metadata.labels", "is set by magnum"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {magnum/x: c}}", "metadata.annotations",
			"is set by magnum"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, finalizers: [a/b]}", "metadata.finalizers", "is not supported"},
		{parsePod, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: " + strings.Repeat("x", 9999) + "}",
			"metadata.creationTimestamp", "parsing time"},
		{parsePod, pod("imagee: a", ""), "spec.containers[0].imagee", "is image meant?"},
		{parsePod, pod("", "hostNetwrk: true"), "spec.hostNetwrk", "is hostNetwork meant?"},
		{parsePod, pod("name: other", ""), "spec.containers[0].name", "is given twice"},
		{parsePod, pod("", "hostNetwork: 'true'"), "spec.hostNetwork", "must be true or false"},
		{parsePod, pod("ports: [{containerPort: 99999999999}]", ""), "spec.containers[0].ports[0].containerPort",
			"must be at most 2147483647"},
		{parsePod, pod("ports: [{containerPort: 80}, {containerPort: 65536}]", ""),
			"spec.containers[0].ports[1].containerPort", "65536 not in 1..65535"},
		{parsePod, pod("ports: [{containerPort: 80, hostPort: -1}]", ""), "spec.containers[0].ports[0].hostPort", "-1 not in"},
		{parsePod, pod("ports: [{containerPort: 80, protocol: tcp}]", ""), "spec.containers[0].ports[0].protocol",
			"must be TCP, UDP or SCTP"},
		{parsePod, pod("resources: {limits: {cpu: 1e1000000000}}", ""), "spec.containers[0].resources.limits.cpu", "is not an amount"},
		{parsePod, pod("resources: {limits: {cpu: much}}", ""), "spec.containers[0].resources.limits.cpu", "is not an amount"},
		{parsePod, pod("livenessProbe: {httpGet: {port: [1]}}", ""), "spec.containers[0].livenessProbe.httpGet.port",
			"must be a number or a name"},
		{parsePod, podHead + "spec: {}", "spec.containers", "is empty"},
		{parsePod, podHead + "spec: {containers: {name: web}}", "spec.containers", "must be a list"},
		{parsePod, podHead + "spec: {containers: [{name: Web, image: a}]}", "spec.containers[0].name", "is not a DNS label"},
		{parsePod, podHead + "spec: {containers: [{name: web}]}", "spec.containers[0].image", "is missing"},
		{parsePod, podHead + "spec: {" + many + "}", "spec.containers", "100 with the init containers are more than 99"},
		{parsePod, pod("", "initContainers: [{name: web, image: a}]"), "spec.containers[0].name",
			"is the name of spec.initContainers[0] too"},
		{parsePod, pod("", "restartPolicy: Sometimes"), "spec.restartPolicy", "must be Always"},
		{parsePod, pod("", "terminationGracePeriodSeconds: -1"), "spec.terminationGracePeriodSeconds", "-1"},
		{parsePod, pod("", "activeDeadlineSeconds: 0"), "spec.activeDeadlineSeconds", "0 not in"},
		{parsePod, podHead + "spec: {containers: [{name: web, image: " + strings.Repeat("a", 400<<10) + "}]}", "spec", "are more than"},

		{parseService, serviceHead, "spec.ports", "is empty"},
		{parseService, service("type: LoadBalancer"), "spec.ports", "is empty"},
		{parseService, port("port: 0"), "spec.ports[0].port", "0 not in"},
		{parseService, port("port: 80, targetPort: 70000"), "spec.ports[0].targetPort", "70000 not in"},
		{parseService, port("port: 80, nodePort: 70000"), "spec.ports[0].nodePort", "70000 not in"},
		{parseService, port("port: 80, protocol: HTTP"), "spec.ports[0].protocol", "must be TCP"},
		{parseService, port("port: 80}, {port: 81"), "spec.ports[0].name", "is missing"},
		{parseService, port("port: 80, name: a}, {port: 81, name: a"), "spec.ports[1].name", "is the name of another port too"},
		{parseService, port("port: 80, name: a}, {port: 80, name: b"), "spec.ports[1].port", "80/tcp is given twice"},
		{parseService, port("port: 80, name: A_"), "spec.ports[0].name", "is not a DNS label"},
		{parseService, port(strings.Repeat("port: 80}, {", 256) + "port: 81"), "spec.ports", "257 are more than 256"},
		{parseService, service("ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}"),
			"spec.sessionAffinityConfig.clientIP.timeoutSeconds", "0 not in"},

		{parseRC, rcHead, "spec.template", "is missing"},
		{parseRC, rc("template: {spec: {" + container + "}}"), "spec.template.metadata.labels", "is empty"},
		{parseRC, rc("selector: {app: other}, " + template("")), "spec.selector", "don't have app=other"},
		{parseRC, rc("replicas: 1001, " + template("")), "spec.replicas", "1001 not in 0..1000"},
		{parseRC, rc("replicas: -1, " + template("")), "spec.replicas", "-1 not in"},
		{parseRC, rc(template("restartPolicy: Never")), "spec.template.spec.restartPolicy", "must be Always"},
		{parseRC, rc(template("activeDeadlineSeconds: 5")), "spec.template.spec.activeDeadlineSeconds", "leave it out"},
		{parseRC, rc("template: {metadata: {labels: {a: b}, finalizers: [a/b]}}"), "spec.template.metadata.finalizers", "is not supported"},
		{parseRC, rc("template: {metadata: {labels: {magnum.owner: b}}}"), "spec.template.metadata.labels", "is set by magnum"},
		{parseRC, rc(template("hostNetwrk: true")), "spec.template.spec.hostNetwrk", "is hostNetwork meant?"},
	} {
		err := c.parse(c.text)
		refuses(t, err, c.path, c.want)
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("the message has %d bytes: %.200s", len(err.Error()), err)
		}
	}
}

// TestBombs checks that no text takes much time or memory.
func TestBombs(t *testing.T) {
	manifesttest.Bombs(t, func(text string) error {
		_, err := ParsePod(text)
		return err
	}, "large amount")
}

// TestLists checks what lists of many small items take, which are large in memory: as many as
// are read, and more.
func TestLists(t *testing.T) {
	for list, size := range map[string]uintptr{
		"containers": reflect.TypeFor[corev1.Container]().Size(), "initContainers": reflect.TypeFor[corev1.Container]().Size(),
		"ephemeralContainers": reflect.TypeFor[corev1.EphemeralContainer]().Size(), "volumes": reflect.TypeFor[corev1.Volume]().Size(),
		"tolerations": reflect.TypeFor[corev1.Toleration]().Size(),
	} {
		t.Run(list, func(t *testing.T) {
			const most = 8 << 20 // bytes
			for _, n := range []int{most / int(size), most/int(size) + 1, 16_000} {
				n = min(n, 16_000) // the most values that a manifest has
				text := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"` + list + `":[{}` +
					strings.Repeat(",{}", n-1) + `]}}`
				err := manifesttest.Cheap(t, text, func(text string) error { _, err := ParsePod(text); return err })
				if tooMany := n*int(size) > most; tooMany {
					refuses(t, err, "spec."+list, "has too many items")
				} else if structs.CodeOf(err) != structs.CodeInvalid || strings.Contains(err.Error(), "items") {
					t.Errorf("%d of %d bytes: %v", n, size, err)
				}
			}
		})
	}
}

// FuzzParse checks that no text makes a parser panic, that refusals are CodeInvalid with a
// path, and that servers and agents read the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{pod("", ""), pod("resources: {limits: {cpu: 1e3, memory: 64Mi}}", "hostNetwork: true"),
		service("ports: [{port: 80, targetPort: http}]"), service("clusterIP: None"), rc(template("")),
		rc("selector: {app: web}, " + template("")),
		"a: &a [*a]", "{", "[[",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","uid":"1"},"spec":{"containers":[{"name":"a","image":"b"}]}}`,
		podHead + "spec: {volumes: [{name: v, hostPath: {path: /}}]}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pod, err := ParsePod(text)
		if checkRefusal(t, err) {
			readsAgain(t, text, pod.Name, Pod)
			if n := len(pod.Spec.Containers) + len(pod.Spec.InitContainers); !pod.Spec.Cluster || n == 0 || n >= structs.MaxParts {
				t.Errorf("%d containers", n)
			}
		}
		service, err := ParseService(text)
		if checkRefusal(t, err) {
			readsAgain(t, text, service.Name, Service)
		}
		rc, err := ParseRC(text)
		if checkRefusal(t, err) {
			readsAgain(t, text, rc.Name, RC)
		}
	})
}

// checkRefusal reports whether a text was taken.
func checkRefusal(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	if path, _, ok := strings.Cut(err.Error(), ": "); structs.CodeOf(err) != structs.CodeInvalid || !ok || path == "" {
		t.Errorf("refused with %q", err)
	}
	return false
}

// readsAgain checks that what servers have taken is an object, and that the object is
// read as itself.
func readsAgain[T any](t *testing.T, text, name string, read func(text, name string) (*T, error)) {
	t.Helper()
	if name == "" {
		name = "generated"
	}
	made, err := read(text, name)
	if err != nil {
		t.Errorf("servers take it, agents don't: %v", err)
		return
	}
	readsBack(t, made, made, name, read)
}
