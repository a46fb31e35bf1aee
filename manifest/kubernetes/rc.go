package kubernetes

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/structs"
)

// ParseRC reads the manifest of a ReplicationController, as ParsePod does.
func ParseRC(text string) (*manifest.RC, error) {
	o, err := readRC(text)
	if err != nil {
		return nil, err
	}
	rc := &manifest.RC{Labels: o.Metadata.Labels, Annotations: o.Metadata.Annotations}
	if rc.Name, rc.GenerateName, err = names(&o.Metadata, manifest.CheckDomain); err != nil {
		return nil, err
	}
	rc.Spec, err = rcSpec(&o.Spec)
	return rc, err
}

// RC returns the ReplicationController to create with a name from a manifest, as Pod does.
// Its selector is set.
func RC(text, name string) (*corev1.ReplicationController, error) {
	o, err := readRC(text)
	if err != nil {
		return nil, err
	}
	fixName(&o.Metadata, name)
	return &corev1.ReplicationController{TypeMeta: types(kindRC), ObjectMeta: o.Metadata, Spec: o.Spec}, nil
}

// readRC reads a manifest, checks the metadata of the template and sets the selector.
func readRC(text string) (*object[corev1.ReplicationControllerSpec], error) {
	o, err := read[corev1.ReplicationControllerSpec](text, kindRC)
	if err != nil {
		return nil, err
	}
	template := o.Spec.Template
	if template == nil {
		return nil, manifest.Refuse("spec.template", "is missing: describe the pods")
	}
	if o.printed {
		maps.DeleteFunc(o.Spec.Selector, isReserved)
	}
	if err := checkMetadata(&template.ObjectMeta, "spec.template.metadata", o.printed); err != nil {
		return nil, err
	}
	o.Spec.Selector, err = manifest.RCSelector(o.Spec.Selector, template.Labels)
	return o, err
}

// rcSpec derives what servers keep of a replication controller.
func rcSpec(s *corev1.ReplicationControllerSpec) (structs.RCSpec, error) {
	out := structs.RCSpec{Replicas: 1, Selector: s.Selector, Labels: s.Template.Labels, Annotations: s.Template.Annotations}
	if n := s.Replicas; n != nil {
		if *n < 0 || *n > structs.MaxReplicas {
			return out, manifest.Refuse("spec.replicas", "%d not in 0..%d", *n, structs.MaxReplicas)
		}
		out.Replicas = int(*n)
	}
	var err error
	if out.Template, err = podSpec(&s.Template.Spec, "spec.template.spec"); err != nil {
		return out, err
	}
	if out.Template.RestartPolicy != structs.PodRestartAlways {
		return out, manifest.Refuse("spec.template.spec.restartPolicy", "%q must be Always: replicas are kept running",
			out.Template.RestartPolicy)
	}
	if out.Template.ActiveDeadline != 0 {
		return out, manifest.Refuse("spec.template.spec.activeDeadlineSeconds", "%d: replicas are kept running, leave it out",
			out.Template.ActiveDeadline)
	}
	return out, nil
}
