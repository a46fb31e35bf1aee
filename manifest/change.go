package manifest

import (
	"reflect"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// podNames and containerNames are the names in manifests of what specs are made of. A
// field without a name isn't the manifest's.
var (
	podNames = map[string]string{
		"InitContainers": "initContainers", "Containers": "containers", "RestartPolicy": "restartPolicy",
		"GracePeriod": "terminationGracePeriodSeconds", "ActiveDeadline": "activeDeadlineSeconds", "Hostname": "hostname",
		"HostAliases": "hostAliases", "SharePID": "shareProcessNamespace", "NoServiceLinks": "enableServiceLinks",
		"NodeSelector": "nodeSelector", "Volumes": "volumes",
		"FSGroup": "securityContext.fsGroup", "InfraImage": "", "Exclusive": "", "Cluster": "",
	}
	containerNames = map[string]string{
		"Name": "name", "Image": "image", "PullPolicy": "imagePullPolicy", "Command": "command", "Args": "args",
		"Workdir": "workingDir", "Env": "env", "Ports": "ports", "Mounts": "volumeMounts", "Requests": "resources.requests",
		"Limits": "resources.limits", "Liveness": "livenessProbe", "Readiness": "readinessProbe", "Startup": "startupProbe",
		"PostStart": "lifecycle.postStart", "PreStop": "lifecycle.preStop", "TTY": "tty", "Stdin": "stdin",
		"StdinOnce": "stdinOnce", "Security": "securityContext",
	}
)

// Change checks that a pod may be changed from an old spec to another one in place: only
// images may differ, and ActiveDeadline, which can be set or lowered. InfraImage and
// Exclusive, which are not of the manifest, are not compared. Errors are CodeInvalid and
// begin with the path of the first field that may not differ.
func Change(old, changed *structs.PodSpec) error {
	was, is := reflect.ValueOf(old).Elem(), reflect.ValueOf(changed).Elem()
	for i := range was.NumField() {
		name := podNames[was.Type().Field(i).Name]
		switch name {
		case "":
		case "initContainers", "containers":
			a, b := was.Field(i), is.Field(i)
			if a.Len() != b.Len() {
				return unchangeable("spec."+name, "it has %d, not %d", a.Len(), b.Len())
			}
			for j := range a.Len() {
				path := index("spec."+name, j)
				if err := changeContainer(a.Index(j).Addr().Interface().(*structs.PodContainer),
					b.Index(j).Addr().Interface().(*structs.PodContainer), path); err != nil {
					return err
				}
			}
		case "activeDeadlineSeconds":
			if from, to := old.ActiveDeadline, changed.ActiveDeadline; from != 0 && (to == 0 || to > from) {
				return refuse("spec."+name, "can only be lowered: it is %d", from).With(structs.HintRecreate)
			}
		default:
			if !same(was.Field(i), is.Field(i)) {
				return unchangeable("spec."+name, "")
			}
		}
	}
	return nil
}

func changeContainer(old, changed *structs.PodContainer, path string) error {
	was, is := reflect.ValueOf(old).Elem(), reflect.ValueOf(changed).Elem()
	for i := range was.NumField() {
		name := containerNames[was.Type().Field(i).Name]
		switch {
		case name == "" || name == "image" || same(was.Field(i), is.Field(i)):
		case name == "imagePullPolicy" && byTag(old) && byTag(changed): // no manifest need have given it
		default:
			return unchangeable(path+"."+name, "")
		}
	}
	return nil
}

// byTag reports whether a container has the pull policy that its image has by default.
func byTag(c *structs.PodContainer) bool {
	return c.PullPolicy == strings.ToLower(defaultPull(c.Image))
}

// same reports whether two fields say the same. An empty list says the same as none.
func same(a, b reflect.Value) bool {
	if (a.Kind() == reflect.Slice || a.Kind() == reflect.Map) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func unchangeable(path, format string, args ...any) error {
	const only = "can't be changed while the pod exists, only images, labels, annotations and activeDeadlineSeconds can: " +
		"delete the pod and create it again"
	if format != "" {
		return refuse(path, format+": "+only, args...).With(structs.HintRecreate)
	}
	return refuse(path, only).With(structs.HintRecreate)
}
