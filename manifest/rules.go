package manifest

import (
	"fmt"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// verdict says what a Docker bay does with a field.
type verdict string

const (
	yes      verdict = "yes"
	no       verdict = "no"        // refused, unless it is empty
	noEffect verdict = "no effect" // accepted and dropped
)

// rule is what a Docker bay does with a field of a manifest.
type rule struct {
	verdict verdict
	values  []string // nil means any; a field that is absent or empty is accepted too
	note    string   // for the manual; of a refused field, what to use instead
}

func does(note string) rule { return rule{verdict: yes, note: note} }

func oneOf(note string, values ...string) rule { return rule{yes, values, note} }

func ignored(note string) rule { return rule{verdict: noEffect, note: note} }

// only is a field that has no effect with the values, and is refused with others.
func only(note string, values ...string) rule { return rule{noEffect, values, note} }

func refused(instead string) rule { return rule{verdict: no, note: instead} }

const (
	useValues = "write the values into `env` or `args`, or build the files into the image"
	useClaim  = "use `persistentVolumeClaim`, a volume of the project on one host, or `emptyDir`"
	useHosts  = "pods of a bay share its hosts; use `nodeSelector` to choose by labels of hosts"
	onlyOwn   = "only the pod's own address is called; reach other hosts from a command of `exec`"
	onlyDebug = "`kubectl debug` adds them; use `pod-execute`"
)

//go:generate go test . -run ^(TestTypes|TestPage|TestFixtures)$ -update

// rules has an entry for each field that a manifest can have, by type and name. Fields
// below a field that is refused or has no effect have none. TestRules checks that no
// field is missing: a new release of k8s.io/api can't add one that is ignored. Most
// processes never need the map.
var rules = sync.OnceValue(func() map[string]rule {
	return map[string]rule{
		"ObjectMeta.name":         does("a DNS label: up to 63 characters; unique among the bay's objects of the same kind"),
		"ObjectMeta.generateName": does("used if `name` is absent: five characters are appended"),
		"ObjectMeta.namespace":    ignored("the project takes its place"),
		"ObjectMeta.labels":       does(fmt.Sprintf("up to %d", structs.MaxLabels)),
		"ObjectMeta.annotations": does(fmt.Sprintf("up to %d; with the labels up to %d KiB. Without "+
			"`kubectl.kubernetes.io/last-applied-configuration`", structs.MaxLabels, structs.MaxRowLabels>>10)),
		"ObjectMeta.selfLink":                   ignored("set by servers"),
		"ObjectMeta.uid":                        ignored("set by servers"),
		"ObjectMeta.resourceVersion":            ignored("set by servers"),
		"ObjectMeta.generation":                 ignored("set by servers"),
		"ObjectMeta.creationTimestamp":          ignored("set by servers"),
		"ObjectMeta.deletionTimestamp":          ignored("set by servers"),
		"ObjectMeta.deletionGracePeriodSeconds": ignored("set by servers"),
		"ObjectMeta.ownerReferences":            ignored("set by servers"),
		"ObjectMeta.finalizers":                 ignored("set by servers"),
		"ObjectMeta.managedFields":              ignored("set by servers"),

		"PodSpec.volumes":                       does("up to 64"),
		"PodSpec.initContainers":                does("run one after the other, before the others"),
		"PodSpec.containers":                    does("up to 99, init containers included"),
		"PodSpec.ephemeralContainers":           refused(onlyDebug),
		"PodSpec.restartPolicy":                 oneOf("default `Always`", "Always", "OnFailure", "Never"),
		"PodSpec.terminationGracePeriodSeconds": does("0 to 3600, default 30"),
		"PodSpec.activeDeadlineSeconds":         does("at least 1"),
		"PodSpec.dnsPolicy":                     only("", "ClusterFirst", "ClusterFirstWithHostNet"),
		"PodSpec.nodeSelector":                  does("labels that the host must have; `kubernetes.io/os: linux` is true of every host"),
		"PodSpec.serviceAccountName":            only("containers get no credentials of magnum", "default"),
		"PodSpec.serviceAccount":                only("containers get no credentials of magnum", "default"),
		"PodSpec.automountServiceAccountToken":  ignored("containers get no credentials of magnum"),
		"PodSpec.nodeName": refused("use `nodeSelector`. In what `kubectl get` prints, " +
			"which has a `metadata.uid`, the field is dropped"),
		"PodSpec.hostNetwork":               refused("use `hostPort` of a port"),
		"PodSpec.hostPID":                   refused("use `shareProcessNamespace` to see the processes of the pod"),
		"PodSpec.hostIPC":                   refused("the containers of a pod share the pod's IPC namespace"),
		"PodSpec.shareProcessNamespace":     does(""),
		"PodSpec.securityContext":           does("containers take its values unless they have their own"),
		"PodSpec.imagePullSecrets":          refused("give the credentials in the field `registry` beside the manifest"),
		"PodSpec.hostname":                  does("a DNS label, default the pod's name"),
		"PodSpec.subdomain":                 refused("the pod is found by its name and address"),
		"PodSpec.affinity":                  refused(useHosts),
		"PodSpec.schedulerName":             ignored("there is one scheduler"),
		"PodSpec.tolerations":               ignored("hosts have no taints"),
		"PodSpec.hostAliases":               does(""),
		"PodSpec.priorityClassName":         refused("all pods have the same priority"),
		"PodSpec.priority":                  only("all pods have the same priority", "0"),
		"PodSpec.dnsConfig":                 refused("containers use the resolver of their host; `hostAliases` adds names"),
		"PodSpec.readinessGates":            refused("use a `readinessProbe`"),
		"PodSpec.runtimeClassName":          refused("containers run with the runtime of their host's engine"),
		"PodSpec.enableServiceLinks":        does("default true: the containers get variables of the project's services"),
		"PodSpec.preemptionPolicy":          ignored("no pod is stopped to make room for another"),
		"PodSpec.overhead":                  refused("add it to `resources.requests` of a container"),
		"PodSpec.topologySpreadConstraints": refused("the bay's `placement` spreads pods over its hosts"),
		"PodSpec.setHostnameAsFQDN":         only("", "false"),
		"PodSpec.os":                        does(""),
		"PodSpec.hostUsers":                 only("user namespaces are a matter of the host's engine", "true"),
		"PodSpec.schedulingGates":           refused("create the pod once it may run"),
		"PodSpec.resourceClaims":            refused("devices can't be asked for"),
		"PodSpec.resources":                 refused("give `resources` of the containers"),
		"PodSpec.hostnameOverride":          refused("use `hostname`"),
		"PodSpec.schedulingGroup":           refused("pods are placed one at a time"),
		"PodSpec.evictionResponders":        refused("a drain stops the pod by its grace period"),
		"PodOS.name":                        only("hosts run Linux", "linux"),
		"HostAlias.ip":                      does("an IPv4 or IPv6 address"),
		"HostAlias.hostnames":               does(""),

		"PodSecurityContext.seLinuxOptions":           refused("leave it out: the engine chooses the labels"),
		"PodSecurityContext.windowsOptions":           refused("hosts run Linux"),
		"PodSecurityContext.runAsUser":                does(""),
		"PodSecurityContext.runAsGroup":               does("needs a `runAsUser`"),
		"PodSecurityContext.runAsNonRoot":             does(""),
		"PodSecurityContext.supplementalGroups":       refused("use `fsGroup` or `runAsGroup`"),
		"PodSecurityContext.supplementalGroupsPolicy": only("", "Merge"),
		"PodSecurityContext.fsGroup":                  does(""),
		"PodSecurityContext.sysctls":                  refused("the host's values hold"),
		"PodSecurityContext.fsGroupChangePolicy":      ignored(""),
		"PodSecurityContext.seccompProfile":           does(""),
		"PodSecurityContext.appArmorProfile":          does(""),
		"PodSecurityContext.seLinuxChangePolicy":      ignored(""),
		"SecurityContext.capabilities":                does(""),
		"SecurityContext.privileged":                  only("no container is privileged", "false"),
		"SecurityContext.seLinuxOptions":              refused("leave it out: the engine chooses the labels"),
		"SecurityContext.windowsOptions":              refused("hosts run Linux"),
		"SecurityContext.runAsUser":                   does(""),
		"SecurityContext.runAsGroup":                  does("needs a `runAsUser`"),
		"SecurityContext.runAsNonRoot":                does(""),
		"SecurityContext.readOnlyRootFilesystem":      does(""),
		"SecurityContext.allowPrivilegeEscalation":    does("`false` sets no_new_privs"),
		"SecurityContext.procMount":                   only("", "Default"),
		"SecurityContext.seccompProfile":              does(""),
		"SecurityContext.appArmorProfile":             does(""),
		"Capabilities.add": does("only capabilities that the engine gives anyway, to keep " +
			"them when `drop` has `ALL`"),
		"Capabilities.drop":                does("with or without `CAP_`, or `ALL`"),
		"SeccompProfile.type":              only("the engine's own profile", "RuntimeDefault"),
		"SeccompProfile.localhostProfile":  refused("the engine's own profile holds"),
		"AppArmorProfile.type":             only("the engine's own profile", "RuntimeDefault"),
		"AppArmorProfile.localhostProfile": refused("the engine's own profile holds"),

		"Container.name":                     does("a DNS label, unique in the pod"),
		"Container.image":                    does(""),
		"Container.command":                  does(fmt.Sprintf("with `$(NAME)`; with `args` up to %d KiB", structs.MaxCommand>>10)),
		"Container.args":                     does("with `$(NAME)`"),
		"Container.workingDir":               does("an absolute path"),
		"Container.ports":                    does(fmt.Sprintf("up to %d, those of all containers of a pod together", structs.MaxPorts)),
		"Container.envFrom":                  refused("ConfigMaps and Secrets don't exist here: write the variables into `env`"),
		"Container.env":                      does(fmt.Sprintf("up to %d KiB, one variable up to 128 KiB", structs.MaxEnvironment>>10)),
		"Container.resources":                does(""),
		"Container.resizePolicy":             ignored("resources don't change while a pod runs"),
		"Container.restartPolicy":            refused("the pod's `restartPolicy` holds; a sidecar goes into `containers`"),
		"Container.restartPolicyRules":       refused("the pod's `restartPolicy` holds"),
		"Container.volumeMounts":             does(fmt.Sprintf("up to %d", structs.MaxVolumes)),
		"Container.volumeDevices":            refused("devices can't be asked for; use `volumeMounts`"),
		"Container.livenessProbe":            does("not of an init container"),
		"Container.readinessProbe":           does("not of an init container"),
		"Container.startupProbe":             does("not of an init container"),
		"Container.lifecycle":                does("not of an init container"),
		"Container.terminationMessagePath":   ignored("messages are not read from a file"),
		"Container.terminationMessagePolicy": ignored("messages are not read from a file"),
		"Container.imagePullPolicy": oneOf("default `Always` for the tag latest and for no tag, else `IfNotPresent`",
			"Always", "IfNotPresent", "Never"),
		"Container.securityContext": does(""),
		"Container.stdin":           does(""),
		"Container.stdinOnce":       does(""),
		"Container.tty":             does(""),

		"ContainerPort.name":            does("unique in the container"),
		"ContainerPort.hostPort":        does("not of an init container"),
		"ContainerPort.containerPort":   does("1 to 65535"),
		"ContainerPort.protocol":        oneOf("default `TCP`", "TCP", "UDP"),
		"ContainerPort.hostIP":          only("ports are published on all addresses of the host", "0.0.0.0"),
		"ResourceRequirements.limits":   does("`cpu` and `memory`; memory at least 6Mi"),
		"ResourceRequirements.requests": does("`cpu` and `memory`, reserved on the host; default the limits"),
		"ResourceRequirements.claims":   refused("devices can't be asked for"),
		"VolumeMount.name":              does(""),
		"VolumeMount.readOnly":          does(""),
		"VolumeMount.recursiveReadOnly": only("", "Disabled"),
		"VolumeMount.mountPath": does("an absolute path below /, but none of /proc, /sys, /dev and the devices in it, " +
			"/etc/hosts, /etc/hostname and /etc/resolv.conf"),
		"VolumeMount.subPath":          refused("use a volume for each path"),
		"VolumeMount.mountPropagation": only("", "None"),
		"VolumeMount.subPathExpr":      refused("use a volume for each path"),
		"VolumeMount.bindMountOptions": refused("leave it out"),

		"EnvVar.name":                         does(""),
		"EnvVar.value":                        does("with `$(NAME)`"),
		"EnvVar.valueFrom":                    does(""),
		"EnvVarSource.fieldRef":               does(""),
		"EnvVarSource.resourceFieldRef":       does(""),
		"EnvVarSource.configMapKeyRef":        refused("ConfigMaps don't exist here: write the value into `value`"),
		"EnvVarSource.secretKeyRef":           refused("Secrets don't exist here: write the value into `value`"),
		"EnvVarSource.fileKeyRef":             refused("write the value into `value`"),
		"ObjectFieldSelector.apiVersion":      only("", "v1"),
		"ObjectFieldSelector.fieldPath":       does(fieldPathNote),
		"ResourceFieldSelector.containerName": does("default the container itself"),
		"ResourceFieldSelector.resource":      oneOf("", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"),
		"ResourceFieldSelector.divisor":       does(""),

		"Volume.name":                        does("a DNS label, unique in the pod"),
		"VolumeSource.emptyDir":              does("goes with the pod"),
		"VolumeSource.persistentVolumeClaim": does("a pod with one isn't moved to another host"),
		"VolumeSource.hostPath":              refused(useClaim),
		"VolumeSource.gcePersistentDisk":     refused(useClaim),
		"VolumeSource.awsElasticBlockStore":  refused(useClaim),
		"VolumeSource.gitRepo":               refused("clone it in an init container into an `emptyDir`"),
		"VolumeSource.secret":                refused(useValues + ". The token that Kubernetes adds is dropped"),
		"VolumeSource.nfs":                   refused(useClaim),
		"VolumeSource.iscsi":                 refused(useClaim),
		"VolumeSource.glusterfs":             refused(useClaim),
		"VolumeSource.rbd":                   refused(useClaim),
		"VolumeSource.flexVolume":            refused(useClaim),
		"VolumeSource.cinder":                refused(useClaim),
		"VolumeSource.cephfs":                refused(useClaim),
		"VolumeSource.flocker":               refused(useClaim),
		"VolumeSource.downwardAPI":           refused("use `valueFrom.fieldRef` of an environment variable"),
		"VolumeSource.fc":                    refused(useClaim),
		"VolumeSource.azureFile":             refused(useClaim),
		"VolumeSource.configMap":             refused(useValues),
		"VolumeSource.vsphereVolume":         refused(useClaim),
		"VolumeSource.quobyte":               refused(useClaim),
		"VolumeSource.azureDisk":             refused(useClaim),
		"VolumeSource.photonPersistentDisk":  refused(useClaim),
		"VolumeSource.projected": refused(useValues + ". The token that Kubernetes adds, " +
			"`kube-api-access-...`, is dropped"),
		"VolumeSource.portworxVolume": refused(useClaim),
		"VolumeSource.scaleIO":        refused(useClaim),
		"VolumeSource.storageos":      refused(useClaim),
		"VolumeSource.csi":            refused(useClaim),
		"VolumeSource.ephemeral":      refused("use `emptyDir`"),
		"VolumeSource.image":          refused("copy the files in an init container into an `emptyDir`"),
		"EmptyDirVolumeSource.medium": oneOf("default the host's disk", "Memory"),
		"EmptyDirVolumeSource.sizeLimit": does("only with `medium: Memory`: the size of a directory on the " +
			"host's disk isn't limited. Default: the sum of the memory limits of the containers that mount the volume if each of them " +
			"has one, else 64Mi"),
		"EmptyDirVolumeSource.mode":                   refused("use `fsGroup`"),
		"PersistentVolumeClaimVolumeSource.claimName": does("name of a volume of the project; it is made at its first use"),
		"PersistentVolumeClaimVolumeSource.readOnly":  does(""),

		"ProbeHandler.exec":                   does(""),
		"ProbeHandler.httpGet":                does(""),
		"ProbeHandler.tcpSocket":              does(""),
		"ProbeHandler.grpc":                   refused("use `exec`, `httpGet` or `tcpSocket`"),
		"Probe.initialDelaySeconds":           does("default 0"),
		"Probe.timeoutSeconds":                does("default 1"),
		"Probe.periodSeconds":                 does("default 10"),
		"Probe.successThreshold":              does("default 1; of liveness and startup probes only 1"),
		"Probe.failureThreshold":              does("default 3"),
		"Probe.terminationGracePeriodSeconds": does("at least 1, default the pod's; not of a readiness probe"),
		"ExecAction.command":                  does(fmt.Sprintf("up to %d KiB", structs.MaxCommand>>10)),
		"HTTPGetAction.path":                  does("default /"),
		"HTTPGetAction.port":                  does("a number, or the name of a port of the container"),
		"HTTPGetAction.host":                  refused(onlyOwn),
		"HTTPGetAction.scheme":                oneOf("default `HTTP`; a certificate isn't checked", "HTTP", "HTTPS"),
		"HTTPGetAction.httpHeaders":           does(""),
		"HTTPGetAction.protocol":              only("", "HTTP1"),
		"HTTPHeader.name":                     does(""),
		"HTTPHeader.value":                    does(""),
		"TCPSocketAction.port":                does("a number, or the name of a port of the container"),
		"TCPSocketAction.host":                refused(onlyOwn),
		"Lifecycle.postStart":                 does(""),
		"Lifecycle.preStop":                   does(""),
		"Lifecycle.stopSignal":                refused("the image's own signal is sent, else SIGTERM"),
		"LifecycleHandler.exec":               does(""),
		"LifecycleHandler.httpGet":            does(""),
		"LifecycleHandler.tcpSocket":          refused("Kubernetes doesn't do it either: use `exec` or `httpGet`"),
		"LifecycleHandler.sleep":              does(""),
		"SleepAction.seconds":                 does("up to `terminationGracePeriodSeconds`"),

		"ServiceSpec.ports":    does("up to 256"),
		"ServiceSpec.selector": does("at least one label"),
		"ServiceSpec.clusterIP": oneOf("default an address that the servers choose. In what `kubectl get` "+
			"prints the address is dropped", "None"),
		"ServiceSpec.clusterIPs":                    oneOf("as `clusterIP`", "None"),
		"ServiceSpec.type":                          oneOf("default `ClusterIP`", "ClusterIP", "NodePort"),
		"ServiceSpec.externalIPs":                   refused("use `type: NodePort`"),
		"ServiceSpec.sessionAffinity":               oneOf("default `None`", "None", "ClientIP"),
		"ServiceSpec.loadBalancerIP":                refused("use `type: NodePort`"),
		"ServiceSpec.loadBalancerSourceRanges":      refused("use `type: NodePort`"),
		"ServiceSpec.externalName":                  refused("use `hostAliases` of the pods"),
		"ServiceSpec.externalTrafficPolicy":         only("every host leads to all pods", "Cluster"),
		"ServiceSpec.healthCheckNodePort":           refused("use `type: NodePort`"),
		"ServiceSpec.publishNotReadyAddresses":      refused("a pod that isn't ready gets no connections"),
		"ServiceSpec.sessionAffinityConfig":         does(""),
		"ServiceSpec.ipFamilies":                    only("addresses are IPv4", "IPv4"),
		"ServiceSpec.ipFamilyPolicy":                only("addresses are IPv4", "SingleStack", "PreferDualStack"),
		"ServiceSpec.allocateLoadBalancerNodePorts": ignored("there are no load balancers"),
		"ServiceSpec.loadBalancerClass":             refused("use `type: NodePort`"),
		"ServiceSpec.internalTrafficPolicy":         only("every host leads to all pods", "Cluster"),
		"ServiceSpec.trafficDistribution":           ignored("a wish only: every host leads to all pods"),
		"ServicePort.name":                          does("a DNS label; needed if there are several ports"),
		"ServicePort.protocol":                      oneOf("default `TCP`", "TCP", "UDP"),
		"ServicePort.appProtocol":                   ignored(""),
		"ServicePort.port":                          does("1 to 65535"),
		"ServicePort.targetPort":                    does("a number, or the name of a port of the pods; default `port`"),
		"ServicePort.nodePort":                      does("only with `type: NodePort`; default any free one"),
		"SessionAffinityConfig.clientIP":            does(""),
		"ClientIPConfig.timeoutSeconds":             does("1 to 86400, default 10800"),

		"ReplicationControllerSpec.replicas":        does("0 to 1000, default 1"),
		"ReplicationControllerSpec.minReadySeconds": refused("use a `readinessProbe`"),
		"ReplicationControllerSpec.selector":        does("default the labels of the template, which must have them"),
		"ReplicationControllerSpec.template":        does(""),
		"PodTemplateSpec.metadata":                  does("labels and annotations of the pods"),
		"PodTemplateSpec.spec": does("as the `spec` of a pod, with `restartPolicy: Always` and without " +
			"`activeDeadlineSeconds`"),
	}
})
