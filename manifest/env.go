package manifest

import (
	"slices"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// fieldPaths are the fields of a pod that a variable may hold.
var fieldPaths = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

const fieldPathNote = "`metadata.name`, `metadata.namespace`, `metadata.uid`, `metadata.labels['KEY']`, `metadata.annotations['KEY']`, " +
	"`spec.nodeName`, `spec.serviceAccountName`, `status.hostIP`, `status.hostIPs`, `status.podIP` or `status.podIPs`"

// env derives the variables of a container.
func (b *builder) env(c *v1.Container, at string) ([]structs.EnvVar, error) {
	size := 0
	var out []structs.EnvVar
	for i := range c.Env {
		v, at := &c.Env[i], at+index(".env", i)
		if v.Name == "" {
			return nil, refuse(at+".name", "is missing")
		}
		if !isVariable(v.Name) {
			return nil, refuse(at+".name", "%.64q is not a variable's name: printable ASCII characters without =", v.Name)
		}
		e := structs.EnvVar{Name: v.Name, Value: v.Value}
		if from := v.ValueFrom; from != nil {
			if v.Value != "" {
				return nil, refuse(at+".valueFrom", "is given beside value: a variable has one of them")
			}
			var err error
			switch {
			case from.FieldRef != nil && from.ResourceFieldRef != nil:
				err = refuse(at+".valueFrom.resourceFieldRef", "is given beside fieldRef: a variable has one of them")
			case from.FieldRef != nil:
				e.Field, err = from.FieldRef.FieldPath, checkFieldPath(from.FieldRef.FieldPath, at+".valueFrom.fieldRef.fieldPath")
			case from.ResourceFieldRef != nil:
				e.Resource, err = b.resourceRef(from.ResourceFieldRef, c.Name, at+".valueFrom.resourceFieldRef")
			default:
				err = refuse(at+".valueFrom", "is empty: give fieldRef or resourceFieldRef")
			}
			if err != nil {
				return nil, err
			}
		}
		if n := len(v.Name) + len("=") + len(v.Value); n > structs.MaxVariable {
			return nil, refuse(at, "%d bytes of name and value are more than the %d that Linux lets a program have: put the value into a "+
				"file", n, structs.MaxVariable)
		}
		if size += len(v.Name) + len(v.Value) + 2; size > structs.MaxEnvironment {
			return nil, refuse(strings.TrimSuffix(at, index("", i)), "more than %d bytes", structs.MaxEnvironment)
		}
		out = append(out, e)
	}
	return out, nil
}

// checkFieldPath checks the name of a field of the pod.
func checkFieldPath(field, at string) error {
	if slices.Contains(fieldPaths, field) {
		return nil
	}
	for _, list := range []string{"metadata.labels['", "metadata.annotations['"} {
		if key, ok := strings.CutPrefix(field, list); ok {
			if key, ok = strings.CutSuffix(key, "']"); ok && isKey(strings.ToLower(key)) {
				return nil
			}
		}
	}
	return refuse(at, "%.64q is not one of %s", field, plain(fieldPathNote))
}

// resourceRef derives a reference to a request or limit of a container.
func (b *builder) resourceRef(ref *v1.ResourceFieldSelector, own, at string) (*structs.ResourceRef, error) {
	out := &structs.ResourceRef{Container: ref.ContainerName, Resource: ref.Resource}
	if out.Container == "" {
		out.Container = own
	}
	named := func(c v1.Container) bool { return c.Name == out.Container }
	if !slices.ContainsFunc(b.spec.Containers, named) && !slices.ContainsFunc(b.spec.InitContainers, named) {
		return nil, refuse(at+".containerName", "%.64q is not the name of a container of the pod", out.Container)
	}
	if ref.Resource == "" {
		return nil, refuse(at+".resource", "is missing: it must be %s", list(rules()["ResourceFieldSelector.resource"].values))
	}
	if ref.Divisor.Sign() < 0 || ref.Divisor.Beyond(structs.MaxMemory) {
		return nil, refuse(at+".divisor", "%s not in 0..%d", ref.Divisor, int64(structs.MaxMemory))
	}
	if strings.HasSuffix(ref.Resource, "cpu") {
		out.Divisor = ref.Divisor.Times(1000)
	} else {
		out.Divisor = ref.Divisor.Times(1)
	}
	return out, nil
}
