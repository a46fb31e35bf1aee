package manifest

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

var update = flag.Bool("update", false, "write the expected files")

// TestFixtures reads files as tools write them. The specs that are derived from them are
// beside them.
func TestFixtures(t *testing.T) {
	for _, name := range []string{"kubectl", "podman", "redis-master"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			pod, err := ParsePod(string(text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(pod, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/"+name+".json", string(got)+"\n")
		})
	}
}

// golden compares a text with a file. With -update it writes the file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go generate ./manifest writes it\ngot:\n%s", path, got)
	}
}

// pod returns a manifest with a spec given as a flow mapping without its braces.
func podText(spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {" + spec + "}\n"
}

// oneText returns a manifest whose only container, web, has more fields.
func oneText(fields string) string {
	return podText("containers: [{name: web, image: 'busybox:1.36', " + fields + "}]")
}

func mustParse(t *testing.T, text string) *Pod {
	t.Helper()
	pod, err := ParsePod(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return pod
}

// refuses checks that a text is refused with CodeInvalid and a message that begins with
// a path and has a text in it.
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

// TestDefaults checks that what a manifest leaves out has Kubernetes' default.
func TestDefaults(t *testing.T) {
	pod := mustParse(t, podText("containers: [{name: web, image: busybox, ports: [{containerPort: 80}], "+
		"livenessProbe: {httpGet: {port: 80}}, resources: {limits: {cpu: 1500m, memory: 64Mi}}}], volumes: [{name: scratch}]"))
	want := structs.PodSpec{
		RestartPolicy: structs.PodRestartAlways, GracePeriod: 30, Hostname: "web", Volumes: []structs.PodVolume{{Name: "scratch"}},
		Containers: []structs.PodContainer{{
			Name: "web", Image: "busybox", PullPolicy: structs.PullAlways,
			Ports:    []structs.PodPort{{Port: structs.Port{ContainerPort: 80, Protocol: "tcp"}}},
			Requests: structs.Resources{Memory: 64 << 20, MilliCPU: 1500}, Limits: structs.Resources{Memory: 64 << 20, MilliCPU: 1500},
			Liveness: &structs.Probe{Handler: structs.Handler{HTTP: &structs.HTTPGet{Port: 80, Path: "/"}},
				Period: 10, Timeout: 1, Success: 1, Failure: 3},
		}},
	}
	if got, want := asJSON(t, pod.Spec), asJSON(t, want); got != want {
		t.Errorf("spec:\n%s\nwant:\n%s", got, want)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPullPolicyByTag(t *testing.T) {
	const digest = "@sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for image, want := range map[string]string{
		"busybox": structs.PullAlways, "busybox:latest": structs.PullAlways, "busybox:1.36": structs.PullIfNotPresent,
		"localhost:5000/busybox": structs.PullAlways, "localhost:5000/busybox:1": structs.PullIfNotPresent,
		"busybox" + digest: structs.PullIfNotPresent, "busybox:latest" + digest: structs.PullAlways,
	} {
		pod := mustParse(t, podText("containers: [{name: web, image: '"+image+"'}]"))
		if got := pod.Spec.Containers[0].PullPolicy; got != want {
			t.Errorf("%s is pulled %s, want %s", image, got, want)
		}
	}
	pod := mustParse(t, podText("containers: [{name: web, image: busybox, imagePullPolicy: Never}]"))
	if got := pod.Spec.Containers[0].PullPolicy; got != structs.PullNever {
		t.Errorf("a policy of Never became %s", got)
	}
}

// TestFormats checks the forms in which the same manifest may be sent.
func TestFormats(t *testing.T) {
	want := asJSON(t, mustParse(t, oneText("")))
	for name, text := range map[string]string{
		"JSON": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},
			"spec":{"containers":[{"name":"web","image":"busybox:1.36"}]}}`,
		"flow YAML":     `{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: 'busybox:1.36'}]}}`,
		"v1beta3":       strings.Replace(oneText(""), "v1", "v1beta3", 1),
		"markers":       "---\n" + oneText("") + "---\n",
		"empty before":  "# nothing\n---\n---\n" + oneText("") + "...\n",
		"byte order":    "\ufeff" + oneText(""),
		"carriage ends": strings.ReplaceAll(oneText(""), "\n", "\r\n"),
		"status":        oneText("") + "status: {phase: Running, anything: [1]}\n",
		"nulls":         oneText("env: null, lifecycle: null, resources: null") + "status: null\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := asJSON(t, mustParse(t, text)); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	pod := mustParse(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","annotations":{"a":"\ud83d\ude00\t\/"}},
		"spec":{"containers":[{"name":"web","image":"busybox"}]}}`)
	if got := pod.Annotations["a"]; got != "\U0001F600\t/" {
		t.Errorf("a JSON string was read as %q", got)
	}
}

func TestGenerateName(t *testing.T) {
	pod := mustParse(t, strings.Replace(oneText(""), "{name: web}", "{generateName: web-}", 1))
	if pod.Name != "" || pod.GenerateName != "web-" || pod.Spec.Hostname != "" {
		t.Errorf("name %q, generateName %q, hostname %q", pod.Name, pod.GenerateName, pod.Spec.Hostname)
	}
	pod = mustParse(t, strings.Replace(oneText(""), "{name: web}", "{generateName: web-, name: web-1}", 1))
	if pod.Name != "web-1" || pod.GenerateName != "" || pod.Spec.Hostname != "web-1" {
		t.Errorf("name %q, generateName %q, hostname %q", pod.Name, pod.GenerateName, pod.Spec.Hostname)
	}
}

func TestServiceLinks(t *testing.T) {
	text := podText("containers: [{name: web, image: 'busybox:1.36'}], enableServiceLinks: false")
	without := mustParse(t, text).Spec
	if !without.NoServiceLinks {
		t.Error("enableServiceLinks: false is dropped")
	}
	with := mustParse(t, oneText("")).Spec
	refuses(t, Change(&with, &without), "spec.enableServiceLinks", "can't be changed")
}

// TestAccepted checks fields that say nothing here: the spec is the same without them.
func TestAccepted(t *testing.T) {
	want := asJSON(t, mustParse(t, oneText("")).Spec)
	for _, fields := range []string{
		"dnsPolicy: ClusterFirst", "dnsPolicy: ''", "schedulerName: default-scheduler", "serviceAccountName: default",
		"serviceAccount: default", "securityContext: {}", "affinity: {}", "affinity: {nodeAffinity: {}}",
		"tolerations: [{operator: Exists}]",
		"enableServiceLinks: true", "automountServiceAccountToken: true", "priority: 0", "preemptionPolicy: Never", "hostUsers: true",
		"hostNetwork: false", "hostPID: false", "hostIPC: false", "imagePullSecrets: []", "topologySpreadConstraints: []",
		"os: {name: linux}", "setHostnameAsFQDN: false", "nodeSelector: {kubernetes.io/os: linux}", "shareProcessNamespace: false",
		"terminationGracePeriodSeconds: 30", "restartPolicy: Always", "overhead: {}", "readinessGates: []", "hostAliases: []",
		"securityContext: {seccompProfile: {type: RuntimeDefault}, fsGroupChangePolicy: Always, supplementalGroups: []}",
		"ephemeralContainers: []", "volumes: []", "initContainers: []",
	} {
		got := asJSON(t, mustParse(t, podText("containers: [{name: web, image: 'busybox:1.36'}], "+fields)).Spec)
		if got != want {
			t.Errorf("with %s:\n%s", fields, got)
		}
	}
	for _, fields := range []string{
		"terminationMessagePath: /dev/log, terminationMessagePolicy: FallbackToLogsOnError", "imagePullPolicy: IfNotPresent",
		"resources: {limits: {}, requests: {}}", "securityContext: {}", "securityContext: {privileged: false, procMount: Default}",
		"securityContext: {capabilities: {}, seLinuxOptions: {}, allowPrivilegeEscalation: true}", "envFrom: []", "volumeDevices: []",
		"resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]", "tty: false", "lifecycle: {}",
		"securityContext: {capabilities: {add: [CHOWN, CAP_KILL]}}",
	} {
		if got := asJSON(t, mustParse(t, oneText(fields)).Spec); got != want {
			t.Errorf("with %s:\n%s", fields, got)
		}
	}
}

func TestDroppedCapabilities(t *testing.T) {
	for fields, want := range map[string]string{
		"drop: [ALL]":                "ALL",
		"drop: [cap_net_raw, chown]": "CHOWN NET_RAW",
		"drop: [KILL], add: [KILL]":  "",
		"drop: [ALL], add: [CAP_KILL, CHOWN, SETUID, SETGID, SETPCAP, SETFCAP, FOWNER, FSETID, MKNOD]": "AUDIT_WRITE DAC_OVERRIDE " +
			"NET_BIND_SERVICE NET_RAW SYS_CHROOT",
	} {
		pod := mustParse(t, oneText("securityContext: {capabilities: {"+fields+"}}"))
		if got := strings.Join(pod.Spec.Containers[0].Security.DropCaps, " "); got != want {
			t.Errorf("{%s} drops %q, want %q", fields, got, want)
		}
	}
}

// TestPodSecurity checks that containers take the pod's values unless they have their
// own.
func TestPodSecurity(t *testing.T) {
	pod := mustParse(t, podText("securityContext: {runAsUser: 1, runAsGroup: 2, runAsNonRoot: true}, containers: ["+
		"{name: a, image: busybox}, {name: b, image: busybox, securityContext: {runAsUser: 0, runAsNonRoot: false}}]"))
	a, b := pod.Spec.Containers[0].Security, pod.Spec.Containers[1].Security
	if *a.RunAsUser != 1 || *a.RunAsGroup != 2 || !a.RunAsNonRoot {
		t.Errorf("a has %s", asJSON(t, a))
	}
	if *b.RunAsUser != 0 || *b.RunAsGroup != 2 || b.RunAsNonRoot {
		t.Errorf("b has %s", asJSON(t, b))
	}
}
