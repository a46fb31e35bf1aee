package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestTextRefusals checks what is refused of the text and of the object as a whole.
func TestTextRefusals(t *testing.T) {
	head := "apiVersion: v1\nkind: Pod\n"
	for _, c := range []struct{ name, text, path, want string }{
		{"empty", "", "manifest", "is empty"},
		{"blank", " \n# nothing\n", "manifest", "is empty"},
		{"markers only", "---\n---\n", "manifest", "is empty"},
		{"NUL", head + "metadata: {name: a\x00b}", "manifest", "line 3: contains a NUL byte"},
		{"NUL in JSON", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},` +
			`"spec":{"containers":[{"name":"web","image":"busybox","args":["a\u0000"]}]}}`, "spec.containers[0].args[0]", "NUL"},
		{"not UTF-8", head + "metadata: {name: \xff}", "manifest", "line 3: contains a byte that is not UTF-8"},
		{"two objects", oneText("") + "---\n" + oneText(""), "manifest", "line 6: begins a second document"},
		{"a list", "- a\n- b\n", "manifest", "is not an object"},
		{"a word", "redis", "manifest", "is not an object"},
		{"a JSON list", `[{"kind": "Pod"}]`, "manifest", "is not an object"},
		{"broken YAML", head + "metadata: {name: web\n", "manifest", "is not YAML: line"},
		{"a tab", head + "metadata:\n\tname: web\n", "manifest", "is not YAML: line"},
		{"broken JSON", "{\"apiVersion\": \"v1\",\n\"kind\": \"Pod\",,}", "manifest", "line 2: is not JSON"},
		{"anchor", head + "metadata: &a {name: web}", "metadata", "line 3: anchors (&) and aliases (*) are not read"},
		{"anchor of text", head + "metadata: {name: &n web}", "metadata.name", "anchors"},
		{"anchor of a key", head + "&k metadata: {name: web}", "manifest", "line 3: a key is not plain text"},
		{"anchor of null", "&a\n", "manifest", "anchors"},
		{"merge key", head + "metadata: {<<: {name: web}}", "metadata", "the merge key << is not read"},
		{"key twice", head + "metadata: {name: web, name: web}", "metadata.name", "line 3: is given twice"},
		{"key twice in JSON", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"a","name":"b"}]}}`,
			"spec.containers[0].name", "is given twice"},
		{"key of two spellings", head + "metadata: {labels: {1: a, '1': b}}", "metadata.labels.1", "is given twice"},
		{"no kind", "apiVersion: v1\n", "kind", "is missing"},
		{"no version", "kind: Pod\n", "apiVersion", "is missing"},
		{"old version", "apiVersion: v1beta1\nkind: Pod\n", "apiVersion", `"v1beta1" must be v1`},
		{"no text as version", "apiVersion: 1\nkind: Pod\n", "apiVersion", "1 must be v1"},
		{"unknown kind", "apiVersion: v1\nkind: Widget\n", "kind", `"Widget" is not a Pod`},
		{"a list as kind", "apiVersion: v1\nkind: [Pod]\n", "kind", `["Pod"] is not a Pod`},
		{"no name", head + "spec: {containers: [{name: web, image: busybox}]}", "metadata.name", "is missing"},
		{"no spec", head + "metadata: {name: web}", "spec.containers", "is empty"},
		{"bad name", head + "metadata: {name: Web_1}\n", "metadata.name", `"Web_1" is not a DNS label`},
		{"dots in a name", head + "metadata: {name: web.1}\n", "metadata.name", "is not a DNS label"},
		{"long name", head + "metadata: {name: " + strings.Repeat("a", 64) + "}\n", "metadata.name", "is not a DNS label"},
		{"bad generateName", head + "metadata: {generateName: Web-}\n", "metadata.generateName", "is not a DNS label"},
		{"long generateName", head + "metadata: {generateName: " + strings.Repeat("a", 59) + "}\n", "metadata.generateName", "59"},
		{"label key", head + "metadata: {name: web, labels: {'a b': c}}\n", "metadata.labels", `"a b" is not a key`},
		{"label value", head + "metadata: {name: web, labels: {a: b c}}\n", "metadata.labels.a", `"b c" is not a label's value`},
		{"number as label", head + "metadata: {name: web, labels: {a: 1}}\n", "metadata.labels.a", "write it in quotes"},
		{"annotation key", head + "metadata: {name: web, annotations: {'a b': c}}\n", "metadata.annotations", `"a b" is not a key`},
		{"long annotation", head + "metadata: {name: web, annotations: {a: " + strings.Repeat("x", structs.MaxRowLabels) + "}}\n",
			"metadata.annotations", "bytes"},
		{"typo in metadata", head + "metadata: {nam: web}\n", "metadata.nam", "is not a field: is name meant?"},
		{"typo at the top", head + "metdata: {name: web}\n", "metdata", "is not a field: is metadata meant?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePod(c.text)
			refuses(t, err, c.path, c.want)
		})
	}
}

// TestOtherKinds checks that a manifest of another kind says what to use instead.
func TestOtherKinds(t *testing.T) {
	for kind, want := range map[string]string{
		"ConfigMap": "env", "Secret": "registry", "Deployment": "ReplicationController", "StatefulSet": "persistentVolumeClaim",
		"DaemonSet": "nodeSelector", "Job": "restartPolicy", "Service": "service-create", "ReplicationController": "rc-create",
		"List": "one at a time",
	} {
		_, err := ParsePod("apiVersion: apps/v1\nkind: " + kind + "\nspec: {replicas: 3}\n")
		refuses(t, err, "kind", want)
	}
}

// TestFieldRefusals checks refusals of fields of the pod and of its container.
func TestFieldRefusals(t *testing.T) {
	for _, c := range []struct{ spec, path, want string }{
		{"restartPolicy: always", "restartPolicy", `"always" must be Always, OnFailure or Never`},
		{"terminationGracePeriodSeconds: -1", "terminationGracePeriodSeconds", "-1 not in 0..3600"},
		{"terminationGracePeriodSeconds: 3601", "terminationGracePeriodSeconds", "not in"},
		{"activeDeadlineSeconds: 0", "activeDeadlineSeconds", "0 not in 1.."},
		{"dnsPolicy: Default", "dnsPolicy", "must be ClusterFirst"},
		{"dnsConfig: {nameservers: [8.8.8.8]}", "dnsConfig", "is not supported"},
		{"serviceAccountName: robot", "serviceAccountName", "must be default"},
		{"nodeName: host1", "nodeName", "use nodeSelector"},
		{"hostNetwork: true", "hostNetwork", "is not supported: use hostPort"},
		{"hostPID: true", "hostPID", "is not supported"},
		{"hostIPC: true", "hostIPC", "is not supported"},
		{"hostUsers: false", "hostUsers", `"false" must be true`},
		{"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}}", "affinity",
			"nodeSelector"},
		{"runtimeClassName: kata", "runtimeClassName", "is not supported"},
		{"priority: 1000", "priority", `"1000" must be 0`},
		{"priorityClassName: high", "priorityClassName", "is not supported"},
		{"imagePullSecrets: [{name: s}]", "imagePullSecrets", "registry beside the manifest"},
		{"ephemeralContainers: [{name: debug, image: busybox}]", "ephemeralContainers", "pod-execute"},
		{"topologySpreadConstraints: [{maxSkew: 1}]", "topologySpreadConstraints", "placement"},
		{"resources: {limits: {cpu: 1}}", "resources", "resources of the containers"},
		{"os: {name: windows}", "os.name", "must be linux"},
		{"hostname: A_B", "hostname", "is not a DNS label"},
		{"subdomain: web", "subdomain", "is not supported"},
		{"nodeSelector: {a: 'b c'}", "nodeSelector.a", "is not a label's value"},
		{"hostAliases: [{ip: 1.2.3, hostnames: [a]}]", "hostAliases[0].ip", "is not an IP address"},
		{"hostAliases: [{ip: 1.2.3.4, hostnames: [a, 'b c']}]", "hostAliases[0].hostnames[1]", "is not a host name"},
		{"securityContext: {runAsUser: -1}", "securityContext.runAsUser", "-1 not in 0.."},
		{"securityContext: {fsGroup: 4294967296}", "securityContext.fsGroup", "not in 0.."},
		{"securityContext: {sysctls: [{name: a, value: b}]}", "securityContext.sysctls", "is not supported"},
		{"securityContext: {supplementalGroups: [1]}", "securityContext.supplementalGroups", "fsGroup"},
		{"securityContext: {seccompProfile: {type: Unconfined}}", "securityContext.seccompProfile.type", "must be RuntimeDefault"},
		{"volumes: [{name: v, hostPath: {path: /}}]", "volumes[0].hostPath", "persistentVolumeClaim"},
		{"volumes: [{name: v, hostPath: {}}]", "volumes[0].hostPath", "is not supported"},
		{"volumes: [{name: v, configMap: {name: c}}]", "volumes[0].configMap", "env or args"},
		{"volumes: [{name: v, secret: {secretName: s}}]", "volumes[0].secret", "env or args"},
		{"volumes: [{name: v, projected: {sources: [{configMap: {name: c}}]}}]", "volumes[0].projected", "env or args"},
		{"volumes: [{name: v, nfs: {server: s, path: /}}]", "volumes[0].nfs", "is not supported"},
		{"volumes: [{name: v, image: {reference: busybox}}]", "volumes[0].image", "init container"},
		{"volumes: [{emptyDir: {}}]", "volumes[0].name", "is missing"},
		{"volumes: [{name: v}, {name: v}]", "volumes[1].name", "another volume"},
		{"volumes: [{name: v, emptyDir: {medium: HugePages}}]", "volumes[0].emptyDir.medium", "must be Memory"},
		{"volumes: [{name: v, emptyDir: {sizeLimit: 1Gi}}]", "volumes[0].emptyDir.sizeLimit", "only with medium: Memory"},
		{"volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: -1}}]", "volumes[0].emptyDir.sizeLimit", "not in 1.."},
		{"volumes: [{name: v, emptyDir: {}, persistentVolumeClaim: {claimName: c}}]", "volumes[0].persistentVolumeClaim",
			"beside emptyDir"},
		{"volumes: [{name: v, persistentVolumeClaim: {claimName: ../c}}]", "volumes[0].persistentVolumeClaim.claimName",
			"is not a volume name"},
		{"initContainers: [{name: web, image: busybox}]", "containers[0].name", "is the name of spec.initContainers[0] too"},
		{"initContainers: [{name: i, image: busybox, restartPolicy: Always}]", "initContainers[0].restartPolicy", "goes into containers"},
		{"initContainers: [{name: i, image: busybox, livenessProbe: {exec: {command: [a]}}}]", "initContainers[0].livenessProbe", "ends"},
		{"initContainers: [{name: i, image: busybox, lifecycle: {preStop: {exec: {command: [a]}}}}]", "initContainers[0].lifecycle",
			"ends"},
		{"initContainers: [{name: i, image: busybox, ports: [{containerPort: 80, hostPort: 80}]}]",
			"initContainers[0].ports[0].hostPort", "aren't published"},
		{"initContainers: {name: i}", "initContainers", `must be a list, but is {"name":"i"}`},
		{"volumes: [web]", "volumes[0]", `must be an object, but is the text "web"`},
	} {
		t.Run(c.spec, func(t *testing.T) {
			_, err := ParsePod(podText("containers: [{name: web, image: 'busybox:1.36'}], " + c.spec))
			refuses(t, err, "spec."+c.path, c.want)
		})
	}
}

// TestContainerRefusals checks refusals of fields of a container.
func TestContainerRefusals(t *testing.T) {
	for _, c := range []struct{ fields, path, want string }{
		{"imagePolicy: Always", "imagePolicy", "is not a field: is imagePullPolicy meant?"},
		{"Command: [a]", "Command", "is not a field: is command meant?"},
		{"imagePullPolicy: always", "imagePullPolicy", `"always" must be Always, IfNotPresent or Never`},
		{"command: ls", "command", `must be a list, but is the text "ls"`},
		{"command: [sleep, 100]", "command[1]", "must be text, but is 100: write it in quotes"},
		{"command: ['']", "command[0]", "is empty"},
		{"command: ['', a]", "command[0]", "is empty"},
		{"workingDir: data", "workingDir", "is not an absolute path"},
		{"tty: 'yes'", "tty", "must be true or false"},
		{"ports: [{containerPort: 0}]", "ports[0].containerPort", "0 not in 1..65535"},
		{"ports: [{containerPort: 65536}]", "ports[0].containerPort", "65536 not in"},
		{"ports: [{containerPort: 99999999999}]", "ports[0].containerPort", "must be at most 2147483647"},
		{"ports: [{containerPort: '80'}]", "ports[0].containerPort", `must be a whole number, but is the text "80"`},
		{"ports: [{containerPort: 80.5}]", "ports[0].containerPort", "must be a whole number"},
		{"ports: [{containerPort: 80, hostPort: -1}]", "ports[0].hostPort", "-1 not in"},
		{"ports: [{containerPort: 80, protocol: SCTP}]", "ports[0].protocol", `"SCTP" must be TCP or UDP`},
		{"ports: [{containerPort: 80, hostIP: 127.0.0.1}]", "ports[0].hostIP", "all addresses"},
		{"ports: [{containerPort: 80, name: Web}]", "ports[0].name", "is not a port's name"},
		{"ports: [{containerPort: 80, name: web}, {containerPort: 81, name: web}]", "ports[1].name", "another port"},
		{"ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80}]", "ports[1].hostPort",
			"80/tcp is published by spec.containers[0].ports[0] too"},
		{"envFrom: [{configMapRef: {name: c}}]", "envFrom", "write the variables into env"},
		{"env: [{value: a}]", "env[0].name", "is missing"},
		{"env: [{name: A=B, value: a}]", "env[0].name", "is not a variable's name"},
		{"env: [{name: A, value: 1}]", "env[0].value", "must be text, but is 1: write it in quotes"},
		{"env: [{name: A, value: yes}]", "env[0].value", "must be text, but is true: write it in quotes"},
		{"env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", "env[0].valueFrom", "beside value"},
		{"env: [{name: A, valueFrom: {}}]", "env[0].valueFrom", "is empty"},
		{"env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]", "env[0].valueFrom.secretKeyRef", "Secrets don't exist"},
		{"env: [{name: A, valueFrom: {configMapKeyRef: {}}}]", "env[0].valueFrom.configMapKeyRef", "ConfigMaps don't exist"},
		{"env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]", "env[0].valueFrom.fieldRef.fieldPath",
			"is not one of metadata.name"},
		{"env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]", "env[0].valueFrom.fieldRef.fieldPath", "is not one of"},
		{"env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name, apiVersion: v2}}}]", "env[0].valueFrom.fieldRef.apiVersion",
			"v1"},
		{"env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]", "env[0].valueFrom.resourceFieldRef.resource",
			"limits.cpu"},
		{"env: [{name: A, valueFrom: {resourceFieldRef: {divisor: 1}}}]", "env[0].valueFrom.resourceFieldRef.resource", "is missing"},
		{"env: [{name: A, valueFrom: {resourceFieldRef: {containerName: x, resource: limits.cpu}}}]",
			"env[0].valueFrom.resourceFieldRef.containerName", `"x" is not the name of a container`},
		{"resources: {limits: {cpu: much}}", "resources.limits.cpu", "is not an amount"},
		{"resources: {limits: {cpu: -1}}", "resources.limits.cpu", "-1 is negative"},
		{"resources: {limits: {cpu: 1e9}}", "resources.limits.cpu", "is more than 1048 cores"},
		{"resources: {limits: {memory: 1Mi}}", "resources.limits.memory", "the engine's least"},
		{"resources: {limits: {memory: 1e18}}", "resources.limits.memory", "is more than"},
		{"resources: {limits: {memory: 8Mi}, requests: {memory: 9Mi}}", "resources.requests.memory", "9Mi is more than the limit of 8Mi"},
		{"resources: {limits: {cpu: 100m}, requests: {cpu: 1}}", "resources.requests.cpu", "1 is more than the limit of 100m"},
		{"resources: {limits: {nvidia.com/gpu: 1}}", "resources.limits[nvidia.com/gpu]", "only cpu and memory"},
		{"resources: {requests: {ephemeral-storage: 1Gi}}", "resources.requests[ephemeral-storage]", "only cpu and memory"},
		{"resources: {claims: [{name: a}]}", "resources.claims", "is not supported"},
		{"volumeMounts: [{name: v, mountPath: /v}]", "volumeMounts[0].name", `"v" is not the name of a volume`},
		{"volumeDevices: [{name: v, devicePath: /dev/x}]", "volumeDevices", "is not supported"},
		{"securityContext: {privileged: true}", "securityContext.privileged", `"true" must be false: no container is privileged`},
		{"securityContext: {capabilities: {add: [KILL, SYS_ADMIN]}}", "securityContext.capabilities.add[1]",
			`"SYS_ADMIN" is not supported`},
		{"securityContext: {capabilities: {add: [ALL]}}", "securityContext.capabilities.add[0]", "is not supported"},
		{"securityContext: {capabilities: {drop: ['net raw']}}", "securityContext.capabilities.drop[0]", "is not the name of a capability"},
		{"securityContext: {procMount: Unmasked}", "securityContext.procMount", "must be Default"},
		{"securityContext: {seLinuxOptions: {type: spc_t}}", "securityContext.seLinuxOptions", "is not supported"},
		{"securityContext: {runAsGroup: 5}", "securityContext.runAsGroup", "give runAsUser too"},
		{"securityContext: {runAsUser: 0, runAsNonRoot: true}", "securityContext.runAsUser", "0 is root"},
		{"livenessProbe: {periodSeconds: 5}", "livenessProbe", "give exec, httpGet or tcpSocket"},
		{"livenessProbe: {}", "livenessProbe", "give exec, httpGet or tcpSocket"},
		{"livenessProbe: {grpc: {port: 1}}", "livenessProbe.grpc", "is not supported"},
		{"livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}", "livenessProbe.tcpSocket", "beside exec"},
		{"livenessProbe: {exec: {}}", "livenessProbe.exec.command", "is empty"},
		{"livenessProbe: {exec: {command: ['']}}", "livenessProbe.exec.command[0]", "is empty"},
		{"lifecycle: {postStart: {exec: {command: ['']}}}", "lifecycle.postStart.exec.command[0]", "is empty"},
		{"livenessProbe: {exec: {command: [a]}, periodSeconds: -1}", "livenessProbe.periodSeconds", "-1 is negative"},
		{"livenessProbe: {exec: {command: [a]}, successThreshold: 2}", "livenessProbe.successThreshold", "2 must be 1"},
		{"startupProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 0}", "startupProbe.terminationGracePeriodSeconds",
			"0 not in 1.."},
		{"readinessProbe: {exec: {command: [a]}, terminationGracePeriodSeconds: 5}", "readinessProbe.terminationGracePeriodSeconds",
			"leave it out"},
		{"readinessProbe: {httpGet: {port: web}}", "readinessProbe.httpGet.port", `"web" is not the name of a port`},
		{"readinessProbe: {httpGet: {}}", "readinessProbe.httpGet.port", "0 not in 1..65535"},
		{"readinessProbe: {httpGet: {port: 80, scheme: FTP}}", "readinessProbe.httpGet.scheme", "must be HTTP or HTTPS"},
		{"readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b', value: c}]}}", "readinessProbe.httpGet.httpHeaders[0].name",
			"header"},
		{"readinessProbe: {httpGet: {port: 80, host: 'a/b'}}", "readinessProbe.httpGet.host", "only the pod's own address"},
		{"readinessProbe: {tcpSocket: {port: 70000}}", "readinessProbe.tcpSocket.port", "70000 not in"},
		{"readinessProbe: {tcpSocket: {port: [1]}}", "readinessProbe.tcpSocket.port", "[1]"},
		{"lifecycle: {postStart: {}}", "lifecycle.postStart", "does nothing: give exec, httpGet or sleep"},
		{"lifecycle: {preStop: {}}", "lifecycle.preStop", "does nothing: give exec, httpGet or sleep"},
		{"startupProbe: {}", "startupProbe", "does nothing: give exec, httpGet or tcpSocket"},
		{"lifecycle: {preStop: {tcpSocket: {port: 1}}}", "lifecycle.preStop.tcpSocket", "is not supported"},
		{"lifecycle: {preStop: {sleep: {seconds: 31}}}", "lifecycle.preStop.sleep.seconds", "31 not in 0..30"},
		{"securityContext: {capabilities: {drop: [NET_RAW, NET_RAWW]}}", "securityContext.capabilities.drop[1]",
			"\"NET_RAWW\" is not the name of a capability of Linux: write one such as NET_RAW, or ALL"},
		{"securityContext: {capabilities: {drop: [CAP_]}}", "securityContext.capabilities.drop[0]", "is not the name of a capability"},
		{"lifecycle: {stopSignal: SIGINT}", "lifecycle.stopSignal", "is not supported"},
	} {
		t.Run(c.fields, func(t *testing.T) {
			_, err := ParsePod(oneText(c.fields))
			refuses(t, err, "spec.containers[0]."+c.path, c.want)
		})
	}
	for image, want := range map[string]string{"''": "is missing", "Busybox": "is not an image name", "'a b'": "contains white space"} {
		_, err := ParsePod(podText("containers: [{name: web, image: " + image + "}]"))
		refuses(t, err, "spec.containers[0].image", want)
	}
	for name, want := range map[string]string{"''": "is missing", "_infra": "is not a DNS label"} {
		_, err := ParsePod(podText("containers: [{image: busybox, name: " + name + "}]"))
		refuses(t, err, "spec.containers[0].name", want)
	}
}

// TestMountRefusals checks refusals of mounts of a volume that exists.
func TestMountRefusals(t *testing.T) {
	for fields, want := range map[string]string{
		"mountPath: data":                                     "[0].mountPath: is not an absolute path",
		"mountPath: /":                                        "[0].mountPath: is not an absolute path",
		"mountPath: '/a:b'":                                   "[0].mountPath: is not an absolute path",
		"mountPath: /proc":                                    `[0].mountPath: "/proc" can't be mounted`,
		"mountPath: /x/../proc/self/":                         `[0].mountPath: "/x/../proc/self/" can't be mounted`,
		"mountPath: /etc/resolv.conf":                         `[0].mountPath: "/etc/resolv.conf" can't be mounted`,
		"mountPath: /d, subPath: x":                           "[0].subPath: is not supported",
		"mountPath: /d, subPathExpr: x":                       "[0].subPathExpr: is not supported",
		"mountPath: /d, mountPropagation: Bidirectional":      "[0].mountPropagation: must be None",
		"mountPath: /d, recursiveReadOnly: Enabled":           "[0].recursiveReadOnly: must be Disabled",
		"mountPath: /d}, {name: v, mountPath: /d/":            "[1].mountPath: is mounted twice",
		"mountPath: /var/run/secrets/kubernetes.io, name: no": ".name: is given twice",
	} {
		_, err := ParsePod(podText("volumes: [{name: v}], containers: [{name: web, image: busybox, volumeMounts: [{name: v, " + fields +
			"}]}]"))
		path, text, _ := strings.Cut(want, ": ")
		if path[0] == '.' {
			path = "[0]" + path
		}
		refuses(t, err, "spec.containers[0].volumeMounts"+path, text)
	}
}

// TestTokenVolume checks that only the volume that servers add is dropped.
func TestTokenVolume(t *testing.T) {
	const token = "{name: kube-api-access-x, projected: {sources: [{serviceAccountToken: {path: token}}]}}"
	text := func(volume, path string) string {
		return podText("volumes: [" + volume +
			"], containers: [{name: web, image: busybox, volumeMounts: [{name: kube-api-access-x, mountPath: " +
			path + "}]}]")
	}
	for _, volume := range []string{token, "{name: kube-api-access-x, secret: {secretName: default-token-x7k2p}}"} {
		spec := mustParse(t, text(volume, tokenPath)).Spec
		if len(spec.Volumes) != 0 || len(spec.Containers[0].Mounts) != 0 {
			t.Errorf("the token is kept: %s", asJSON(t, spec))
		}
	}
	_, err := ParsePod(text(token, "/token"))
	refuses(t, err, "spec.volumes[0].projected", "is not supported")
	_, err = ParsePod(text("{name: kube-api-access-x, secret: {secretName: password}}", tokenPath))
	refuses(t, err, "spec.volumes[0].secret", "is not supported")
}

// TestLimits checks limits of number and size.
func TestLimits(t *testing.T) {
	repeat := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, format, i)
		}
		return s.String()
	}
	containers := func(n int) string { return "containers: [" + repeat(n, "{name: c%d, image: busybox},") + "]" }
	mustParse(t, podText(containers(structs.MaxParts-1)))
	mustParse(t, oneText("env: [{name: A, value: "+strings.Repeat("a", structs.MaxVariable-len("A="))+"}]"))
	for _, c := range []struct{ name, text, path, want string }{
		{"containers", podText(containers(structs.MaxParts)), "spec.containers", "100 with the init containers are more than 99"},
		{"volumes", podText("volumes: [" + repeat(65, "{name: v%d},") + "]"), "spec.volumes", "65 are more than 64"},
		{"ports", oneText("ports: [" + repeat(257, "{containerPort: 1%d},") + "]"), "spec.containers[0].ports", "257 are more than 256"},
		{"labels", strings.Replace(oneText(""), "{name: web}", "{name: web, labels: {"+repeat(257, "a%d: b,")+"}}", 1),
			"metadata.labels", "257"},
		{"args", oneText("args: [" + strings.Repeat("a", structs.MaxCommand+1) + "]"), "spec.containers[0].command", "bytes with args"},
		{"env", oneText("env: [" + repeat(3, "{name: A%d, value: "+strings.Repeat("a", structs.MaxEnvironment/3)+"},") + "]"),
			"spec.containers[0].env", "more than"},
		{"variable", oneText("env: [{name: A, value: b}, {name: AB, value: " + strings.Repeat("a", structs.MaxVariable-len("A=")) + "}]"),
			"spec.containers[0].env[1]", "131072 bytes of name and value are more than the 131071"},
		{"spec", podText("containers: [" + repeat(4, "{name: c%d, image: busybox, env: [{name: A, value: "+
			strings.Repeat("a", 100<<10)+"}]},") + "]"), "spec", "bytes of fields"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePod(c.text)
			refuses(t, err, c.path, c.want)
		})
	}
}
