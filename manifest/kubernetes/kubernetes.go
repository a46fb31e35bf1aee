// Package kubernetes reads manifests for Kubernetes bays.
package kubernetes

import "github.com/stackforge/magnum/manifest"

// ParsePod reads the manifest of a Pod. Errors are CodeInvalid.
func ParsePod(text string) (*manifest.Pod, error) {
	p, err := manifest.ParsePod(text)
	if err != nil {
		return nil, err
	}
	p.Spec.Cluster = true
	return p, nil
}

// ParseService reads the manifest of a Service. Errors are CodeInvalid.
func ParseService(text string) (*manifest.Service, error) { return manifest.ParseService(text) }

// ParseRC reads the manifest of a ReplicationController. Errors are CodeInvalid.
func ParseRC(text string) (*manifest.RC, error) {
	rc, err := manifest.ParseRC(text)
	if err != nil {
		return nil, err
	}
	rc.Spec.Template.Cluster = true
	return rc, nil
}
