package manifest

import (
	"maps"
	"reflect"
	"slices"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// RC is what a manifest says of a replication controller. Name or GenerateName is set,
// but not both.
type RC struct {
	Name         string // a DNS label; a name of DNS for a Kubernetes bay
	GenerateName string // what the name begins with; 5 characters fit behind it
	Labels       map[string]string
	Annotations  map[string]string
	Spec         structs.RCSpec
}

// ParseRC reads the manifest of a ReplicationController, as ParsePod does.
func ParseRC(text string) (*RC, error) {
	doc, err := read[v1.ReplicationControllerSpec](text, kindRC)
	if err != nil {
		return nil, err
	}
	out := &RC{Labels: doc.Metadata.Labels}
	if out.Annotations, err = metadata(&doc.Metadata, "metadata"); err != nil {
		return nil, err
	}
	if out.Name, out.GenerateName, err = names(&doc.Metadata); err != nil {
		return nil, err
	}
	out.Spec, err = rcSpec(&doc.Spec)
	return out, err
}

// rcSpec derives what a bay needs of a replication controller.
func rcSpec(s *v1.ReplicationControllerSpec) (structs.RCSpec, error) {
	var out structs.RCSpec
	template := s.Template
	if template == nil {
		return out, refuse("spec.template", "is missing: describe the pods")
	}
	var err error
	if out.Template, err = podSpec(&template.Spec, "spec.template.spec"); err != nil {
		return out, err
	}
	s.Template = nil // it is checked
	if err := check(reflect.ValueOf(s), "spec"); err != nil {
		return out, err
	}
	out.Replicas = 1
	if n := s.Replicas; n != nil {
		if *n < 0 || *n > structs.MaxReplicas {
			return out, refuse("spec.replicas", "%d not in 0..%d", *n, structs.MaxReplicas)
		}
		out.Replicas = int(*n)
	}
	if out.Template.RestartPolicy != structs.PodRestartAlways {
		return out, refuse("spec.template.spec.restartPolicy", "%q must be Always: replicas are kept running", out.Template.RestartPolicy)
	}
	if out.Template.ActiveDeadline != 0 {
		return out, refuse("spec.template.spec.activeDeadlineSeconds", "%d: replicas are kept running, leave it out",
			out.Template.ActiveDeadline)
	}
	if out.Annotations, err = metadata(&template.ObjectMeta, "spec.template.metadata"); err != nil {
		return out, err
	}
	out.Labels = template.ObjectMeta.Labels
	out.Selector, err = RCSelector(s.Selector, out.Labels)
	return out, err
}

// RCSelector returns the selector of a replication controller: the labels of its template if
// none is given. Those must have it. Errors are CodeInvalid.
func RCSelector(selector, labels map[string]string) (map[string]string, error) {
	if len(labels) == 0 {
		return nil, refuse("spec.template.metadata.labels", "is empty: the pods are found by their labels")
	}
	if len(selector) == 0 {
		selector = maps.Clone(labels)
	}
	if err := checkLabels(selector, "spec.selector"); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if value, ok := labels[key]; !ok || value != selector[key] {
			return nil, refuse("spec.selector", "the template's labels don't have %s=%s: its pods would not be found", key, selector[key])
		}
	}
	return selector, nil
}
