package manifests

import "github.com/stackforge/magnum/structs"

// one returns the spec of a pod with one container, main, that runs a script, and more fields
// of the container.
func one(policy, script, more string) string {
	return "  restartPolicy: " + policy + "\n  terminationGracePeriodSeconds: 1\n  containers:\n" + container("main", script, more)
}

// container returns an entry of a list of containers.
func container(name, script, more string) string {
	text := "  - name: " + name + "\n    image: IMAGE\n    imagePullPolicy: IfNotPresent\n"
	if script != "" {
		text += "    command: [sh, -c, '" + script + "']\n"
	}
	return text + more
}

// sleeps runs until SIGTERM.
const sleeps = `trap "exit 0" TERM; while :; do sleep 1 & wait $!; done`

// The words of what a process has ended with.
const (
	endedWith3  = "main: its process has ended with exit code 3; its logs may say why"
	outOfMemory = "main: its process was killed because it needed more than its memory limit; raise resources.limits.memory"
)

// table are the pods of the suite. What it can't show differs by nature, too: a cluster has more
// conditions, and its own words for the images that it can't pull.
var table = []test{
	{name: "runs", spec: one("Always", sleeps, ""),
		outcome: outcome{view: "Running, ready; main: running, ready"}},
	{name: "completes", spec: one("Never", "exit 0", ""),
		outcome: outcome{view: "Succeeded; main: terminated Completed 0"}},
	{name: "fails", spec: one("Never", "exit 3", ""),
		outcome: outcome{view: "Failed; main: terminated Error 3", says: endedWith3}},
	{name: "ends-by-signal", spec: one("Never", "exit 137", ""),
		outcome: outcome{view: "Failed; main: terminated Error 137",
			says: "main: its process was ended by signal 9 (exit code 137), not by magnum"}},
	{name: "out-of-memory", spec: one("Never", "head -c 64m /dev/zero | tail", "    resources: {limits: {memory: 16Mi}}\n"),
		outcome: outcome{view: "Failed; main: terminated OOMKilled 137", says: outOfMemory}},
	{name: "second-try", spec: one("OnFailure", "[ -e /data/tried ] || { touch /data/tried; exit 3; }",
		"    volumeMounts: [{name: data, mountPath: /data}]\n") + "  volumes: [{name: data, emptyDir: {}}]\n",
		outcome: outcome{view: "Succeeded; main: terminated Completed 0, before terminated Error 3"},
		differs: []difference{{on: structs.BackendKubernetes,
			outcome: outcome{view: "Succeeded; main: terminated Completed 0*"},
			why:     "a kubelet removes earlier containers of a pod that has ended, and no longer reports them"}}},
	{name: "crashes", spec: one("Always", "exit 4", ""),
		outcome: outcome{view: "Running; main: waiting CrashLoopBackOff, before terminated Error 4", says: "main: CrashLoopBackOff: "}},
	{name: "completes-again", spec: one("Always", "exit 0", ""),
		outcome: outcome{view: "Running; main: waiting CrashLoopBackOff, before terminated Completed 0", says: "main: CrashLoopBackOff: "}},
	{name: "no-program", spec: one("Never", "", "    command: [/no/such/program]\n"),
		outcome: outcome{view: "Failed; main: terminated StartError 128", says: "/no/such/program"}},
	{name: "no-program-again", spec: one("Always", "", "    command: [/no/such/program]\n"),
		outcome: outcome{view: "Running; main: waiting CrashLoopBackOff, before terminated StartError 128",
			says: "main: CrashLoopBackOff: "}},
	{name: "no-image", spec: "  containers: [{name: main, image: '127.0.0.1:1/none:1'}]\n",
		outcome: outcome{view: "Pending; main: waiting ErrImagePull", says: "127.0.0.1:1"}},
	{name: "no-image-again", spec: "  containers: [{name: main, image: '127.0.0.1:1/none:1'}]\n",
		outcome: outcome{view: "Pending; main: waiting ImagePullBackOff", says: "127.0.0.1:1/none:1"}},
	{name: "no-image-never", spec: "  containers: [{name: main, image: 'magnum-test/none:1', imagePullPolicy: Never}]\n",
		outcome: outcome{view: "Pending; main: waiting ErrImageNeverPull", says: "magnum-test/none:1"}},
	{name: "runs-as-root", spec: one("Always", sleeps, "    securityContext: {runAsNonRoot: true}\n"),
		outcome: outcome{view: "Pending; main: waiting CreateContainerConfigError", says: "runAsNonRoot"}},
	{name: "two", spec: one("Never", sleeps, "") + container("other", "exit 3", ""),
		outcome: outcome{view: "Running; main: running, ready; other: terminated Error 3",
			says: "other: its process has ended with exit code 3; its logs may say why"}},
	{name: "initialized", spec: one("Always", "[ -e /data/f ] || exit 1; "+sleeps, "    volumeMounts: [{name: data, mountPath: /data}]\n") +
		"  initContainers:\n" + container("first", "touch /data/f", "    volumeMounts: [{name: data, mountPath: /data}]\n") +
		"  volumes: [{name: data, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]\n",
		outcome: outcome{view: "Running, ready; first: terminated Completed 0*; main: running, ready"}},
	{name: "waits-for-init", spec: one("Always", sleeps, "") + "  initContainers:\n" + container("first", sleeps, ""),
		outcome: outcome{view: "Pending; first: running*; main: waiting PodInitializing"}},
	{name: "init-fails", spec: one("Never", sleeps, "") + "  initContainers:\n" + container("first", "exit 3", ""),
		outcome: outcome{view: "Failed; first: terminated Error 3; main: waiting PodInitializing",
			says: "first: its process has ended with exit code 3; its logs may say why"}},
	{name: "init-fails-again", spec: one("Always", sleeps, "") + "  initContainers:\n" + container("first", "exit 3", ""),
		outcome: outcome{view: "Pending; first: waiting CrashLoopBackOff, before terminated Error 3; main: waiting PodInitializing",
			says: "first: CrashLoopBackOff: "}},
	{name: "not-ready", spec: one("Always", sleeps, "    readinessProbe: {exec: {command: [\"false\"]}, periodSeconds: 1}\n"),
		outcome: outcome{view: "Running; main: running"}},
	{name: "gets-ready", spec: one("Always", "sleep 2; touch /tmp/f; "+sleeps,
		"    readinessProbe: {exec: {command: [cat, /tmp/f]}, periodSeconds: 1}\n"),
		outcome: outcome{view: "Running, ready; main: running, ready"}},
	{name: "not-alive", spec: one("Always", "while :; do sleep 1; done",
		"    livenessProbe: {exec: {command: [\"false\"]}, periodSeconds: 1, failureThreshold: 1}\n"),
		outcome: outcome{view: "Running*; main: running*, before terminated Error 137"}},
	{name: "never-starts", spec: one("Never", sleeps,
		"    startupProbe: {exec: {command: [\"false\"]}, periodSeconds: 1, failureThreshold: 1}\n"),
		outcome: outcome{view: "Succeeded; main: terminated Completed 0"}},
	{name: "post-start-fails", spec: one("Never", "while :; do sleep 1; done",
		"    lifecycle: {postStart: {exec: {command: [\"false\"]}}}\n"),
		outcome: outcome{view: "Failed; main: terminated Error 137"}},
	{name: "deadline", spec: one("Always", "while :; do sleep 1; done", "") + "  activeDeadlineSeconds: 5\n",
		outcome: outcome{view: "Failed; main: terminated Error 137", says: "DeadlineExceeded"},
		differs: []difference{{on: structs.BackendDocker,
			outcome: outcome{view: "Failed; main: terminated DeadlineExceeded 137", says: "activeDeadlineSeconds"},
			why:     "a kubelet gives the reason to the pod; a Docker host reports containers only, so they have it"}}},
	{name: "variables", spec: one("Never", "", "    env: [{name: A, value: \"4\"}, {name: B, value: \"$(A)2\"}, "+
		"{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n"+
		"    command: [sh, -c, '[ \"$NAME\" = variables ] && exit $(B)']\n"),
		outcome: outcome{view: "Failed; main: terminated Error 42"}},
	{name: "identity", spec: one("Never", "[ \"$(id -u):$(id -g):$(hostname)\" = 1000:2000:name ] && ! touch /f && exit 3",
		"    securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}\n") +
		"  hostname: name\n",
		outcome: outcome{view: "Failed; main: terminated Error 3", says: endedWith3}},
	{name: "shared-processes", spec: one("Never", "until ps | grep -q \"[s]leep 61111\"; do sleep 1; done; exit 3", "") +
		container("other", "sleep 61111", "") + "  shareProcessNamespace: true\n",
		outcome: outcome{view: "Running; main: terminated Error 3; other: running, ready", says: endedWith3}},
}
