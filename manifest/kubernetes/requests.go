package kubernetes

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/stackforge/magnum/structs"
)

// counted is a resource that quotas count.
type counted struct {
	name  corev1.ResourceName
	most  int64 // larger amounts count as this one
	unit  int64 // how many of it are 1
	field func(*structs.Resources) *int64
}

var countedResources = []counted{
	{corev1.ResourceMemory, structs.MaxMemory, 1, func(r *structs.Resources) *int64 { return &r.Memory }},
	{corev1.ResourceCPU, structs.MaxMilliCPU, 1000, func(r *structs.Resources) *int64 { return &r.MilliCPU }},
}

// setRequests sets what quotas charge for a pod: see structs.PodContainer.Requests.
func setRequests(spec *corev1.PodSpec, out *structs.PodSpec) {
	for i := range countedResources {
		countedResources[i].set(spec, out)
	}
}

// set sets the requests of containers such that their sum, or the largest init container if
// that is more, is what a cluster reserves for the pod. The rules for that are those of the
// cluster's scheduler.
func (r *counted) set(spec *corev1.PodSpec, out *structs.PodSpec) {
	var sidecars, sum, largest int64 // init containers with restartPolicy Always run beside those after them
	for i := range spec.InitContainers {
		c, request := &spec.InitContainers[i], r.field(&out.InitContainers[i].Requests)
		*request = r.of(&c.Resources)
		switch {
		case c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways:
			sidecars += *request
		case *request > 0: // else it has none, and the quota's refusal names it
			*request += sidecars
		}
		largest = max(largest, *request)
	}
	first := -1 // of the containers that have a request
	for i := range spec.Containers {
		request := r.field(&out.Containers[i].Requests)
		*request = r.of(&spec.Containers[i].Resources)
		if sum += *request; first < 0 && *request > 0 {
			first = i
		}
	}
	whole := max(sum+sidecars, largest)
	if spec.Resources != nil { // of the pod as a whole
		whole = max(whole, r.of(spec.Resources))
	}
	whole += r.amount(spec.Overhead[r.name])
	if first < 0 && spec.Resources != nil {
		first = 0 // containers then need none of their own
	}
	if first >= 0 {
		*r.field(&out.Containers[first].Requests) += whole - sum
	}
}

// of returns the request, or the limit if there is no request.
func (r *counted) of(is *corev1.ResourceRequirements) int64 {
	if q, ok := is.Requests[r.name]; ok {
		return r.amount(q)
	}
	return r.amount(is.Limits[r.name])
}

// amount returns 0 for what a cluster refuses, which is less than 0.
func (r *counted) amount(q resource.Quantity) int64 {
	switch {
	case q.Sign() <= 0:
		return 0
	case q.CmpInt64(r.most/r.unit) > 0:
		return r.most
	case r.unit == 1:
		return q.Value()
	}
	return q.MilliValue()
}
