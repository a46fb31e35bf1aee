// Package manifest reads manifests of Kubernetes v1 and derives from them what Docker
// hosts need. What a Docker bay can't do is refused by the path of its field, never
// ignored: rules says for each field what becomes of it, and is the manual's table too.
//
// The REST API's servers call the package before anything is decided, and the command
// line to split files. Package kubernetes, which reads manifests for Kubernetes bays, has
// its limits from here. It is a function of texts: it reads no files, and knows no rows.
package manifest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// Pod is what a manifest says of a pod. Name or GenerateName is set, but not both; with
// a GenerateName the spec has no hostname, unless the manifest gives one.
type Pod struct {
	Name         string // a DNS label; a name of DNS for a Kubernetes bay
	GenerateName string // what the name begins with; 5 characters fit behind it
	Labels       map[string]string
	Annotations  map[string]string
	Spec         structs.PodSpec // without InfraImage and Exclusive, which aren't of the manifest
}

// ParsePod reads the manifest of a Pod, as YAML or JSON. Errors are CodeInvalid; their
// messages begin with the path of the field, such as spec.containers[0].image, or with
// "manifest" if they are about the text.
func ParsePod(text string) (*Pod, error) {
	doc, err := read[v1.PodSpec](text, kindPod)
	if err != nil {
		return nil, err
	}
	if doc.Metadata.UID != "" {
		doc.Spec.NodeName = "" // a server has chosen it
	}
	pod := &Pod{Labels: doc.Metadata.Labels}
	if pod.Annotations, err = metadata(&doc.Metadata, "metadata"); err != nil {
		return nil, err
	}
	if pod.Name, pod.GenerateName, err = names(&doc.Metadata); err != nil {
		return nil, err
	}
	if pod.Spec, err = podSpec(&doc.Spec, "spec"); err != nil {
		return nil, err
	}
	pod.Spec.Hostname = cmp.Or(pod.Spec.Hostname, pod.Name)
	return pod, nil
}

// lastApplied is the annotation in which kubectl keeps a copy of the manifest.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// metadata checks labels and annotations and returns the annotations that are kept.
func metadata(meta *v1.ObjectMeta, path string) (map[string]string, error) {
	if err := check(reflect.ValueOf(meta), path); err != nil {
		return nil, err
	}
	return CheckMetadata(meta.Labels, meta.Annotations, path)
}

// CheckMetadata checks the labels and annotations of metadata at a path, and returns the
// annotations that are kept. Errors are CodeInvalid.
func CheckMetadata(labels, given map[string]string, path string) (annotations map[string]string, err error) {
	if err := checkLabels(labels, join(path, "labels")); err != nil {
		return nil, err
	}
	annotations = maps.Clone(given)
	delete(annotations, lastApplied)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !isKey(strings.ToLower(key)) {
			return nil, refuse(join(path, "annotations"), notQualified, key)
		}
		size += len(key) + len(annotations[key])
	}
	for key, value := range labels {
		size += len(key) + len(value)
	}
	if size > structs.MaxRowLabels {
		return nil, refuse(join(path, "annotations"), "%d bytes with the labels are more than %d", size, structs.MaxRowLabels)
	}
	if n := len(annotations); n > structs.MaxLabels {
		return nil, refuse(join(path, "annotations"), "%d are more than %d", n, structs.MaxLabels)
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	return annotations, nil
}

const notQualified = "%.64q is not a key: up to 63 letters, digits, dots, hyphens and underscores, " +
	"the first and last a letter or digit, if need be after a domain name and /"

// checkLabels checks labels as Kubernetes does.
func checkLabels(labels map[string]string, path string) error {
	if n := len(labels); n > structs.MaxLabels {
		return refuse(path, "%d are more than %d", n, structs.MaxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !isKey(key) {
			return refuse(path, notQualified, key)
		}
		if !isValue(labels[key]) {
			return refuse(join(path, key), "%.64q is not a label's value: up to 63 letters, digits, dots, hyphens and underscores, "+
				"the first and last a letter or digit", labels[key])
		}
	}
	return nil
}

// maxGenerate is the length of the longest generateName, in characters.
const maxGenerate = 63 - 5

// names returns the name, or what the name is to begin with.
func names(meta *v1.ObjectMeta) (name, generate string, err error) {
	switch {
	case meta.Name != "":
		return meta.Name, "", checkLabel("metadata.name", meta.Name)
	case meta.GenerateName == "":
		return "", "", refuse("metadata.name", "is missing: give a name of up to 63 lower-case letters, digits and hyphens")
	case len(meta.GenerateName) > maxGenerate:
		return "", "", refuse("metadata.generateName", "%d characters are more than %d",
			len(meta.GenerateName), maxGenerate)
	}
	return "", meta.GenerateName, checkLabel("metadata.generateName", strings.TrimRight(meta.GenerateName, "-"))
}

// CheckLabel checks that a name at a path is a DNS label. Errors are CodeInvalid.
func CheckLabel(path, name string) error { return checkLabel(path, name) }

// CheckDomain checks that a name at a path is a name of DNS, as most names of Kubernetes
// are. Errors are CodeInvalid.
func CheckDomain(path, name string) error {
	if name == "" {
		return refuse(path, "is missing")
	}
	if !isDomain(name) {
		return refuse(path, "%.64q is not a DNS name: up to 253 lower-case letters, digits, hyphens and dots, "+
			"the first and last of each part not a hyphen", name)
	}
	return nil
}

// checkLabel checks a DNS label.
func checkLabel(path, name string) error {
	if name == "" {
		return refuse(path, "is missing")
	}
	if !isLabel(name) {
		return refuse(path, "%.64q is not a DNS label: up to 63 lower-case letters, digits and hyphens, "+
			"the first and last not a hyphen", name)
	}
	return nil
}

// podSpec derives what hosts need of a pod from its manifest.
func podSpec(spec *v1.PodSpec, path string) (structs.PodSpec, error) {
	dropToken(spec)
	if err := check(reflect.ValueOf(spec), path); err != nil {
		return structs.PodSpec{}, err
	}
	out := structs.PodSpec{
		RestartPolicy:  cmp.Or(spec.RestartPolicy, structs.PodRestartAlways),
		Hostname:       spec.Hostname,
		SharePID:       spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace,
		NodeSelector:   hostLabels(spec.NodeSelector),
		NoServiceLinks: spec.EnableServiceLinks != nil && !*spec.EnableServiceLinks,
	}
	b := builder{spec: spec, out: &out, path: path}
	for _, step := range []func() error{b.scalars, b.aliases, b.volumes, b.names, b.containers, b.memoryVolumes, b.size} {
		if err := step(); err != nil {
			return structs.PodSpec{}, err
		}
	}
	return out, nil
}

// builder derives a PodSpec.
type builder struct {
	spec *v1.PodSpec
	out  *structs.PodSpec
	path string
}

// defaultGrace is Kubernetes' grace period, in seconds.
const defaultGrace = 30

// scalars derives what isn't a list.
func (b *builder) scalars() error {
	b.out.GracePeriod = defaultGrace
	if grace := b.spec.TerminationGracePeriodSeconds; grace != nil {
		if *grace < 0 || *grace > structs.MaxStopTimeout {
			return refuse(b.path+".terminationGracePeriodSeconds", "%d not in 0..%d seconds", *grace, structs.MaxStopTimeout)
		}
		b.out.GracePeriod = int(*grace)
	}
	if deadline := b.spec.ActiveDeadlineSeconds; deadline != nil {
		if *deadline < 1 || *deadline > 1<<31-1 {
			return refuse(b.path+".activeDeadlineSeconds", "%d not in 1..%d seconds", *deadline, 1<<31-1)
		}
		b.out.ActiveDeadline = *deadline
	}
	if b.spec.Hostname != "" {
		if err := checkLabel(b.path+".hostname", b.spec.Hostname); err != nil {
			return err
		}
	}
	if err := checkLabels(b.spec.NodeSelector, b.path+".nodeSelector"); err != nil {
		return err
	}
	if s := b.spec.SecurityContext; s != nil {
		if err := checkIDs(b.path+".securityContext", s.RunAsUser, s.RunAsGroup); err != nil {
			return err
		}
		if err := checkID(b.path+".securityContext.fsGroup", s.FSGroup); err != nil {
			return err
		}
		b.out.FSGroup = s.FSGroup
	}
	return nil
}

// hostLabels returns the labels that a host must have, without those that all have.
func hostLabels(selector map[string]string) map[string]string {
	labels := maps.Clone(selector)
	for _, key := range []string{"kubernetes.io/os", "beta.kubernetes.io/os"} {
		if labels[key] == "linux" {
			delete(labels, key)
		}
	}
	if len(labels) == 0 {
		return nil
	}
	return labels
}

// aliases derives the lines for /etc/hosts.
func (b *builder) aliases() error {
	for i, alias := range b.spec.HostAliases {
		path := b.item("hostAliases", i)
		if ip, err := netip.ParseAddr(alias.IP); err != nil || ip.Zone() != "" {
			return refuse(path+".ip", "%.64q is not an IP address", alias.IP)
		}
		for j, name := range alias.Hostnames {
			if !isDomain(name) {
				return refuse(path+index(".hostnames", j), "%.64q is not a host name in lower case", name)
			}
		}
		b.out.HostAliases = append(b.out.HostAliases, structs.HostAlias{IP: alias.IP, Names: alias.Hostnames})
	}
	return nil
}

// names checks that each container has a name of its own.
func (b *builder) names() error {
	if len(b.spec.Containers) == 0 {
		return refuse(b.path+".containers", "is empty: a pod has at least one container")
	}
	if n := len(b.spec.Containers) + len(b.spec.InitContainers); n > structs.MaxParts-1 {
		return refuse(b.path+".containers", "%d with the init containers are more than %d", n, structs.MaxParts-1)
	}
	seen := make(map[string]string)
	for _, list := range []struct {
		name string
		of   []v1.Container
	}{{"initContainers", b.spec.InitContainers}, {"containers", b.spec.Containers}} {
		for i := range list.of {
			path, name := b.item(list.name, i)+".name", list.of[i].Name
			if err := checkLabel(path, name); err != nil {
				return err
			}
			if seen[name] != "" {
				return refuse(path, "%q is the name of %s too: give each container a name of its own", name, seen[name])
			}
			seen[name] = b.item(list.name, i)
		}
	}
	return nil
}

// containers derives the containers.
func (b *builder) containers() error {
	for i := range b.spec.InitContainers {
		c, err := b.container(&b.spec.InitContainers[i], b.item("initContainers", i), true)
		if err != nil {
			return err
		}
		b.out.InitContainers = append(b.out.InitContainers, c)
	}
	for i := range b.spec.Containers {
		c, err := b.container(&b.spec.Containers[i], b.item("containers", i), false)
		if err != nil {
			return err
		}
		b.out.Containers = append(b.out.Containers, c)
	}
	return b.ports()
}

// size checks what the whole takes of an entry of the log.
func (b *builder) size() error { return CheckSize(b.out, b.path) }

// CheckSize checks that a spec which was derived from the fields at a path doesn't take too
// much of an entry of the log. Errors are CodeInvalid.
func CheckSize(spec any, path string) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if len(text) > structs.MaxSpec {
		return refuse(path, "%d bytes of fields are more than %d: leave out long texts, or build them into the image",
			len(text), structs.MaxSpec)
	}
	return nil
}

// item returns the path of an item of a list of the spec.
func (b *builder) item(list string, i int) string { return b.path + index("."+list, i) }
