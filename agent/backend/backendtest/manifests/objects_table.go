package manifests

import (
	"fmt"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// rc returns the spec of a replication controller of pods with the label app=NAME. pod is their
// spec, as one gives it.
func rc(name string, replicas int, pod string) string {
	return fmt.Sprintf("  replicas: %d\n  selector: {app: %[2]s}\n", replicas, name) +
		fmt.Sprintf("  template:\n    metadata: {labels: {app: %s}}\n    spec:\n    ", name) +
		strings.TrimSuffix(strings.ReplaceAll(pod, "\n", "\n    "), "    ")
}

// service returns the spec of a service of the pods with the label app=APP, and more fields.
func service(app, ports, more string) string {
	return fmt.Sprintf("  selector: {app: %s}\n  ports: [%s]\n%s", app, ports, more)
}

// What is seen of pods.
const (
	runs    = " | Running, ready; main: running, ready"
	crashed = " | Running; main: waiting CrashLoopBackOff, before terminated Error 4"
	failed1 = " | Pending; main: waiting *ImagePull*"
)

// What is seen of replication controllers.
const (
	bothRun  = "2 wanted, 2 there, 2 ready, 2 updated" + runs + runs
	oneRuns  = "1 wanted, 1 there, 1 ready, 1 updated" + runs
	oneWaits = "1 wanted, 1 there, 0 ready, 1 updated: waits for pod POD to be ready: "
)

// noPods is the reason of a service whose selector no pod has.
const noPods = ": no pod of the project in the bay has the labels of the selector, "

// noneReady is the reason of a service with one pod.
const noneReady = ": none of 1 pods is ready, such as POD: its pod-show says why"

// port8080 is a port with a name, of a container.
const port8080 = "    ports: [{name: http, containerPort: 8080}]\n"

// otherSleeps does as sleeps, and is another template.
const otherSleeps = ": other; " + sleeps

// objects are the services and replication controllers of the suite. All are created at once, and
// the services lead to pods of the replication controllers. Beyond what is listed here, a rolling
// update differs by nature: on a Docker bay there is one pod too many meanwhile, in a cluster one
// too few, because its own controllers count the pods. And a cluster adds its own words on images.
var objects = []objectTest{
	{structs.KindRC, "web", []step{
		{what: "create", spec: rc("web", 2, one("Always", sleeps, port8080)), view: bothRun},
		{what: "to zero", spec: rc("web", 0, one("Always", sleeps, port8080)), view: "0 wanted, 0 there, 0 ready, 0 updated"},
		{what: "and back", spec: rc("web", 2, one("Always", sleeps, port8080)), view: bothRun},
	}},
	{structs.KindRC, "rolls", []step{
		{what: "create", spec: rc("rolls", 2, one("Always", sleeps, "")), view: bothRun},
		{what: "to another template", spec: rc("rolls", 2, one("Always", otherSleeps, "")),
			view: bothRun},
		{what: "to fewer, of a third one", spec: rc("rolls", 1, one("Always", ": third; "+sleeps, "")),
			view: oneRuns},
	}},
	{structs.KindRC, "rolls-badly", []step{
		{what: "create", spec: rc("rolls-badly", 2, one("Always", sleeps, "")), view: bothRun},
		// Without the probe a pod may be taken for ready before it crashes, and another old one goes.
		{what: "to pods that crash",
			spec: rc("rolls-badly", 2, one("Always", "exit 4", "    readinessProbe: {exec: {command: [\"false\"]}, periodSeconds: 1}\n")),
			view: "2 wanted, 3 there, 2 ready, 1 updated: rolling update: 1 of 2 pods are of the new template; " +
				"waits for pod POD to be ready: container main is waiting: CrashLoopBackOff" + runs + runs + crashed,
			differs: []objectDifference{{on: structs.BackendKubernetes,
				view: "2 wanted, 2 there, 1 ready, 1 updated: rolling update: 1 of 2 pods are of the new template; " +
					"waits for pod POD to be ready: container main is waiting: CrashLoopBackOff" + runs + crashed,
				why: "the cluster's own controller keeps the number of pods: there is none to spare for an update"}}},
		{what: "and back", spec: rc("rolls-badly", 2, one("Always", sleeps, "")), view: bothRun},
	}},
	{structs.KindRC, "crashes", []step{
		{what: "create", spec: rc("crashes", 1, one("Always", "exit 4", "")),
			view: oneWaits + "container main is waiting: CrashLoopBackOff" + crashed},
		{what: "mended", spec: rc("crashes", 1, one("Always", sleeps, "")), view: oneRuns},
	}},
	{structs.KindRC, "no-image", []step{
		{what: "create", spec: rc("no-image", 1, "  containers: [{name: main, image: '127.0.0.1:1/none:1'}]\n"),
			view: oneWaits + "container main is waiting: *ImagePull*" + failed1},
		{what: "mended", spec: rc("no-image", 1, one("Always", sleeps, "")), view: oneRuns},
	}},
	{structs.KindRC, "init-fails", []step{
		{what: "create", spec: rc("init-fails", 1, one("Always", sleeps, "")+"  initContainers:\n"+container("first", "exit 3", "")),
			view: oneWaits + "init container first is waiting: CrashLoopBackOff" +
				" | Pending; first: waiting CrashLoopBackOff, before terminated Error 3; main: waiting PodInitializing"},
	}},
	{structs.KindRC, "not-ready", []step{
		{what: "create",
			spec: rc("not-ready", 1, one("Always", sleeps, "    readinessProbe: {exec: {command: [\"false\"]}, periodSeconds: 1}\n")),
			view: oneWaits + "container main runs and is not ready | Running; main: running"},
		{what: "mended", spec: rc("not-ready", 1, one("Always", sleeps, "")), view: oneRuns},
	}},
	{structs.KindRC, "no-room", []step{
		{what: "create", spec: rc("no-room", 1, one("Always", sleeps, "    resources: {requests: {memory: 1Pi}}\n")),
			view: oneWaits + "waits for a host with room for memory * | Pending; main: waiting",
			differs: []objectDifference{{on: structs.BackendKubernetes,
				view: oneWaits + "Unschedulable: 0/*nodes are available: * | Pending; main: waiting",
				why:  "who finds no host says so: the scheduler of the cluster has its own words"}}},
		{what: "to zero", spec: rc("no-room", 0, one("Always", sleeps, "    resources: {requests: {memory: 1Pi}}\n")),
			view: "0 wanted, 0 there, 0 ready, 0 updated"},
	}},
	{structs.KindRC, "none", []step{
		{what: "create", spec: rc("none", 0, one("Always", sleeps, "")), view: "0 wanted, 0 there, 0 ready, 0 updated"},
		{what: "to one", spec: rc("none", 1, one("Always", sleeps, "")), view: oneRuns},
	}},
	{structs.KindRC, "never", []step{
		{what: "create", spec: rc("never", 1, one("Never", sleeps, "")),
			view: `refused, invalid: *spec.template.spec.restartPolicy: "Never" must be Always: replicas are kept running*`},
	}},
	{structs.KindRC, "overlaps", []step{
		{what: "create", spec: rc("web", 1, one("Always", sleeps, "")),
			view: "refused, invalid: *spec.selector: a pod could match it and that of replication controller web too, *"},
	}},

	{structs.KindService, "to-number", []step{
		{what: "create", spec: service("web", "{port: 80, targetPort: 81}", ""),
			view: "Active, address, 80/TCP to 81, 2 of 2 ready | [81] ready | [81] ready"},
		{what: "without pods", view: "Active, address, 80/TCP to 81, 0 of 0 ready" + noPods + "app=web"},
		{what: "with pods again", view: "Active, address, 80/TCP to 81, 2 of 2 ready | [81] ready | [81] ready"},
	}},
	{structs.KindService, "to-name", []step{
		{what: "create", spec: service("web", "{port: 80, targetPort: http}", ""),
			view: "Active, address, 80/TCP to http, 2 of 2 ready | [8080] ready | [8080] ready"},
		{what: "without pods", view: "Active, address, 80/TCP to http, 0 of 0 ready" + noPods + "app=web"},
		{what: "to one name of two",
			spec: service("web", "{name: a, port: 80, targetPort: http}, {name: b, port: 81, targetPort: none}", ""),
			view: "Active, address, 80/TCP to http, 81/TCP to none, 2 of 2 ready: pod POD has no TCP port with the name none, " +
				"the targetPort of port 81, and gets no connections for it: name the port in its manifest" +
				" | [8080 0] ready | [8080 0] ready"},
	}},
	{structs.KindService, "node-ports", []step{
		{what: "create", spec: service("web", "{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}", "  type: NodePort\n"),
			view: "Active, address, 80/TCP to 80 with node port, 53/UDP to 53 with node port, 2 of 2 ready" +
				" | [80 53] ready | [80 53] ready"},
		{what: "closed", spec: service("web", "{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}", ""),
			view: "Active, address, 80/TCP to 80, 53/UDP to 53, 0 of 0 ready" + noPods + "app=web"},
	}},
	{structs.KindService, "headless", []step{
		{what: "create", spec: service("web", "{port: 80, targetPort: http}", "  clusterIP: None\n"),
			view: "Active, headless, 80/TCP to http, 2 of 2 ready | [8080] ready | [8080] ready"},
	}},
	{structs.KindService, "one-client", []step{
		{what: "create", spec: service("web", "{port: 80}", "  sessionAffinity: ClientIP\n"),
			view: "Active, address, clients stay for 10800 s, 80/TCP to 80, 2 of 2 ready | [80] ready | [80] ready"},
	}},
	{structs.KindService, "to-nobody", []step{
		{what: "create", spec: service("nobody", "{port: 80}", ""),
			view: "Active, address, 80/TCP to 80, 0 of 0 ready" + noPods + "app=nobody"},
		{what: "to the unready", spec: service("init-fails", "{port: 80}", ""),
			view: "Active, address, 80/TCP to 80, 0 of 1 ready" + noneReady + " | [80]"},
		{what: "to the ready", spec: service("rolls", "{port: 80}", ""), view: "Active, address, 80/TCP to 80, 1 of 1 ready | [80] ready"},
	}},
	{structs.KindService, "to-unready", []step{
		{what: "create", spec: service("not-ready", "{port: 80}", ""),
			view: "Active, address, 80/TCP to 80, 0 of 1 ready" + noneReady + " | [80]"},
		{what: "ready", view: "Active, address, 80/TCP to 80, 1 of 1 ready | [80] ready"},
	}},
	{structs.KindService, "to-crashing", []step{
		{what: "create", spec: service("crashes", "{port: 80}", ""),
			view: "Active, address, 80/TCP to 80, 0 of 1 ready" + noneReady + " | [80]"},
		{what: "mended", view: "Active, address, 80/TCP to 80, 1 of 1 ready | [80] ready"},
	}},
	{structs.KindService, "low-node-port", []step{
		{what: "create", spec: service("web", "{port: 80, nodePort: 80}", "  type: NodePort\n"),
			view: "refused, invalid: *spec.ports[0].nodePort: 80 not in *, the operator's -node-port-range: " +
				"use one of these, or leave it out*",
			differs: []objectDifference{{on: structs.BackendKubernetes,
				view: "Refused, 80/TCP to 80 with node port, 0 of 0 ready: Service \"low-node-port\" is invalid: " +
					"spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. *",
				why: "the node ports are the cluster's: it answers when it is asked to open one"}}},
	}},
	{structs.KindService, "balanced", []step{
		{what: "create", spec: service("web", "{port: 80}", "  type: LoadBalancer\n"),
			view: `refused, invalid: *spec.type: "LoadBalancer" must be ClusterIP or NodePort*`,
			differs: []objectDifference{{on: structs.BackendKubernetes,
				view: "Active, address, 80/TCP to 80 with node port, 2 of 2 ready | [80] ready | [80] ready",
				why:  "what a Docker bay doesn't know is passed on: a cluster may have load balancers"}}},
	}},
	{structs.KindService, "without-ports", []step{
		{what: "create", spec: service("web", "", ""), view: "refused, invalid: *spec.ports: is empty: a service has at least one port*"},
	}},
}
