package manifest

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/manifest/v1"
)

// roots are the types from which all fields of a manifest are reached, and their paths.
var roots = []struct {
	of   reflect.Type
	path string
}{
	{reflect.TypeFor[v1.ObjectMeta](), "metadata"},
	{reflect.TypeFor[v1.PodSpec](), "spec"},
	{reflect.TypeFor[v1.ServiceSpec](), "spec"},
	{reflect.TypeFor[v1.ReplicationControllerSpec](), "spec"},
}

// fieldsBelow lists all fields that the rules of a type's fields lead to.
func fieldsBelow(t *testing.T, of reflect.Type, path string, add func(path string, f field)) {
	t.Helper()
	for _, f := range fieldsOf(of) {
		at := join(path, f.name)
		add(at, f)
		r := rules()[f.rule]
		if r.verdict != yes || r.values != nil {
			continue
		}
		in, suffix := f.Type, ""
		for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
			if in.Kind() == reflect.Slice {
				suffix += "[]"
			}
			in = in.Elem()
		}
		if in.Kind() == reflect.Struct && !opaque(in) {
			fieldsBelow(t, in, at+suffix, add)
		}
	}
}

// opaque reports whether a type is read as one value.
func opaque(t reflect.Type) bool {
	_, own := reflect.New(t).Interface().(interface{ UnmarshalJSON([]byte) error })
	return own
}

// TestNoFieldIsSilent gives each field that isn't supported a value, in the first place
// where it can be, and checks that the manifest is refused by its path.
func TestNoFieldIsSilent(t *testing.T) {
	for _, root := range roots {
		fieldsBelow(t, root.of, root.path, func(path string, f field) {
			r := rules()[f.rule]
			if r.verdict == yes && r.values == nil || r.verdict == noEffect && r.values == nil {
				return
			}
			v := reflect.New(f.Type).Elem()
			fill(v, 0)
			if slices.Contains(r.values, "true") {
				reflect.Indirect(v).SetBool(false)
			}
			at := path
			if v.Kind() == reflect.Slice && r.values != nil {
				at += "[0]"
			}
			refuses(t, checkField(v, f.rule, path), at, "")
		})
	}
}

// fill sets a value, and what it is made of, to something that isn't empty.
func fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && depth < 8 {
				fill(v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[v1.Raw]() {
			v.SetBytes([]byte(`{"x":1}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth+1)
		fill(value, depth+1)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	}
}

// TestPage checks that the manual's page has the rules.
func TestPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(pageHead, "KUBERNETES", linkedKubernetes(t)))
	for _, part := range pageParts {
		fmt.Fprintf(&b, "\n## %s\n\n%s", part.title, part.text)
		b.WriteString("| Field | Supported | Values and notes |\n|---|---|---|\n")
		fieldsBelow(t, part.of, part.path, func(path string, f field) {
			if part.skip != nil && part.skip(path) {
				return
			}
			r := rules()[f.rule]
			verdict, note := string(r.verdict), r.note
			if r.values != nil {
				values := "`" + strings.Join(r.values, "`, `") + "`"
				if r.verdict == noEffect {
					values = "only " + values
				}
				note = strings.TrimSuffix(values+"; "+note, "; ")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", path, verdict, note)
		})
	}
	golden(t, "../website/docs/manifests.md", b.String())
}

// linkedKubernetes returns the release of Kubernetes whose types are linked, such as 1.37.
func linkedKubernetes(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(b), "k8s.io/api v0.")
	minor, _, found := strings.Cut(version, ".")
	if !found {
		t.Fatal("go.mod names no release of k8s.io/api")
	}
	return "1." + minor
}

// pageParts are the tables of the page.
var pageParts = []struct {
	title, text string
	of          reflect.Type
	path        string
	skip        func(path string) bool // a path that another table has
}{
	{"Metadata", "", reflect.TypeFor[v1.ObjectMeta](), "metadata", nil},
	{"Pods", "Containers and volumes have tables of their own.\n\n", reflect.TypeFor[v1.PodSpec](), "spec", func(path string) bool {
		return strings.HasPrefix(path, "spec.containers[].") || strings.HasPrefix(path, "spec.initContainers[].") ||
			strings.HasPrefix(path, "spec.volumes[].")
	}},
	{"Containers", "These are the fields of `spec.containers[]` and of `spec.initContainers[]`.\n\n",
		reflect.TypeFor[v1.Container](), "", nil},
	{"Volumes", "These are the fields of `spec.volumes[]`. A volume without any other field is an `emptyDir`.\n\n",
		reflect.TypeFor[v1.Volume](), "", nil},
	{"Services", "Which node ports may be given is the operator's to say.\n\n", reflect.TypeFor[v1.ServiceSpec](), "spec", nil},
	{"Replication controllers", "The template is that of a pod; its fields are those of the tables above.\n\n",
		reflect.TypeFor[v1.ReplicationControllerSpec](), "spec", func(path string) bool {
			return strings.HasPrefix(path, "spec.template.metadata.") || strings.HasPrefix(path, "spec.template.spec.")
		}},
}

const pageHead = `# Manifests

Pods, services and replication controllers are created from manifests of
Kubernetes v1, as YAML or JSON. A bay of Docker hosts does what these tables
say. **yes** means that the field has
Kubernetes' meaning and default. **no effect** means that the field is accepted
and dropped, so that files from ` + "`kubectl get -o yaml`" + ` and
` + "`podman kube generate`" + ` can be used. **no** means that the manifest is
refused with the path of the field, unless the field is empty. A field that is
not in the tables is a typing error, and is refused too.

A manifest is one document of at most 512 KiB, nested at most 64 levels deep. What is
kept of the spec of a pod has at most 384 KiB.
Anchors, aliases and merge keys of YAML are not read. ` + "`apiVersion`" + ` is
` + "`v1`" + `; manifests with ` + "`v1beta3`" + `, of 2015, are read as if they
were v1. ` + "`status`" + ` is dropped. The manifest is kept and shown as it was
sent.

` + "`$(NAME)`" + ` in a command, in arguments and in variables stands for the
value of a variable that is defined before it, as in Kubernetes. ConfigMaps,
Secrets and Deployments don't exist; the refusal says what to use instead.

This page is generated from the code: go generate ./manifest.

## Kubernetes bays

The tables below are of bays of Docker hosts. A Kubernetes bay is a cluster, and what
the cluster takes is passed on to it: ` + "`hostNetwork`, `affinity`, `envFrom`" + `,
Secrets as volumes, ` + "`type: LoadBalancer`" + ` and all the rest. What it refuses comes
back with its own words, as the error of a create that waits and as
` + "`status_reason`" + `. A field that Kubernetes KUBERNETES doesn't have, and a value of the
wrong type, is refused with its path.

- The kinds are the same: Pod, Service and ReplicationController. Create other
  objects with kubectl.
- The limits of the text above hold, and those of the tables for labels and
  annotations, the number of containers, of ports of a service, and of replicas. All
  lists together have as many items as fit into 8 MiB of memory.
- Names are those that Kubernetes takes: for a pod or a replication controller a name
  of DNS of up to 253 characters, for a service a DNS label.
- ` + "`metadata.finalizers`" + ` is refused, and so are labels and annotations whose key begins
  with ` + "`magnum/`, or with `magnum.` and has no `/`" + `: those are magnum's own.
- A replication controller must have a template with labels, which have those of
  ` + "`spec.selector`" + ` if it is given, with ` + "`restartPolicy: Always`" + ` and without
  ` + "`activeDeadlineSeconds`" + `.
- Fields of ` + "`metadata`" + ` that servers set are dropped. In what ` + "`kubectl get`" + ` prints,
  which has a ` + "`metadata.uid`" + `, finalizers, magnum's own keys, ` + "`spec.nodeName`" + ` of a
  pod, and the address of a service unless it is ` + "`None`" + `, are dropped too.
- ` + "`metadata.namespace`" + ` has no effect: the project has a namespace in the cluster.
`
