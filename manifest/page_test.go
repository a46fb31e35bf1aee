package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// roots are the types from which all fields of a manifest are reached, and their paths.
var roots = []struct {
	of   reflect.Type
	path string
}{
	{reflect.TypeFor[metav1.ObjectMeta](), "metadata"},
	{reflect.TypeFor[corev1.PodSpec](), "spec"},
}

// fieldsBelow lists all fields that the rules of a type's fields lead to.
func fieldsBelow(t *testing.T, of reflect.Type, path string, add func(path string, f field)) {
	t.Helper()
	for _, f := range fieldsOf(of) {
		at := join(path, f.name)
		add(at, f)
		r := rules[f.rule]
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

// TestRules checks that each field has a rule and each rule a field. A field that a new
// release of k8s.io/api brings would be ignored otherwise.
func TestRules(t *testing.T) {
	seen := make(map[string]bool)
	for _, root := range roots {
		fieldsBelow(t, root.of, root.path, func(path string, f field) {
			seen[f.rule] = true
			if _, ok := rules[f.rule]; !ok {
				t.Errorf("%s has no rule: decide what becomes of it, and add %q to rules", path, f.rule)
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if !seen[name] {
			t.Errorf("the rule for %s is of no field", name)
		}
		if r := rules[name]; r.verdict == no && (r.note == "" || r.values != nil) {
			t.Errorf("the rule for %s doesn't say what to use instead", name)
		}
	}
}

// TestNoFieldIsSilent gives each field that isn't supported a value, in the first place
// where it can be, and checks that the manifest is refused by its path.
func TestNoFieldIsSilent(t *testing.T) {
	for _, root := range roots {
		fieldsBelow(t, root.of, root.path, func(path string, f field) {
			r := rules[f.rule]
			if r.verdict == yes && r.values == nil || r.verdict == noEffect && r.values == nil {
				return
			}
			v := reflect.New(f.Type).Elem()
			fill(v, 0)
			if slices.Contains(r.values, "true") {
				reflect.Indirect(v).SetBool(false)
			}
			refuses(t, checkField(v, f.rule, path), path, "")
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
	b.WriteString(pageHead)
	for _, part := range pageParts {
		fmt.Fprintf(&b, "\n## %s\n\n%s", part.title, part.text)
		b.WriteString("| Field | Supported | Values and notes |\n|---|---|---|\n")
		fieldsBelow(t, part.of, part.path, func(path string, f field) {
			if part.skip != nil && part.skip(path) {
				return
			}
			r := rules[f.rule]
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

// pageParts are the tables of the page.
var pageParts = []struct {
	title, text string
	of          reflect.Type
	path        string
	skip        func(path string) bool // a path that another table has
}{
	{"Metadata", "", reflect.TypeFor[metav1.ObjectMeta](), "metadata", nil},
	{"Pods", "Containers and volumes have tables of their own.\n\n", reflect.TypeFor[corev1.PodSpec](), "spec", func(path string) bool {
		return strings.HasPrefix(path, "spec.containers[].") || strings.HasPrefix(path, "spec.initContainers[].") ||
			strings.HasPrefix(path, "spec.volumes[].")
	}},
	{"Containers", "These are the fields of `spec.containers[]` and of `spec.initContainers[]`.\n\n",
		reflect.TypeFor[corev1.Container](), "", nil},
	{"Volumes", "These are the fields of `spec.volumes[]`. A volume without any other field is an `emptyDir`.\n\n",
		reflect.TypeFor[corev1.Volume](), "", nil},
}

const pageHead = `# Manifests

Pods are created from manifests of Kubernetes v1, as YAML or JSON. A bay of
Docker hosts does what these tables say. **yes** means that the field has
Kubernetes' meaning and default. **no effect** means that the field is accepted
and dropped, so that files from ` + "`kubectl get -o yaml`" + ` and
` + "`podman kube generate`" + ` can be used. **no** means that the manifest is
refused with the path of the field, unless the field is empty. A field that is
not in the tables is a typing error, and is refused too.

A manifest is one document of at most 512 KiB, nested at most 64 levels deep.
Anchors, aliases and merge keys of YAML are not read. ` + "`apiVersion`" + ` is
` + "`v1`" + `; manifests with ` + "`v1beta3`" + `, of 2015, are read as if they
were v1. ` + "`status`" + ` is dropped. The manifest is kept and shown as it was
sent.

` + "`$(NAME)`" + ` in a command, in arguments and in variables stands for the
value of a variable that is defined before it, as in Kubernetes. ConfigMaps,
Secrets and Deployments don't exist; the refusal says what to use instead.

This page is generated from the code: go generate ./manifest.
`
