package manifest

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/stackforge/magnum/structs"
)

// resources derives requests and limits. Absent requests are the limits.
func resources(r *corev1.ResourceRequirements, path string) (requests, limits structs.Resources, err error) {
	if limits, err = amounts(r.Limits, path+".limits"); err != nil {
		return
	}
	if requests, err = amounts(r.Requests, path+".requests"); err != nil {
		return
	}
	if limits.Memory != 0 && limits.Memory < structs.MinMemory {
		err = refuse(path+".limits.memory", "%d bytes are less than %d, the engine's least", limits.Memory, structs.MinMemory)
		return
	}
	for _, f := range []struct {
		name           corev1.ResourceName
		request, limit *int64
	}{
		{corev1.ResourceCPU, &requests.MilliCPU, &limits.MilliCPU},
		{corev1.ResourceMemory, &requests.Memory, &limits.Memory},
	} {
		given, limit := r.Requests[f.name], r.Limits[f.name]
		if _, ok := r.Requests[f.name]; !ok {
			*f.request = *f.limit
		}
		if *f.limit != 0 && *f.request > *f.limit {
			err = refuse(path+".requests."+string(f.name), "%s is more than the limit of %s", &given, &limit)
			return
		}
	}
	return
}

// amounts reads a list of resources.
func amounts(list corev1.ResourceList, path string) (r structs.Resources, err error) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		at := path + "." + string(name)
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
			return r, refuse(path+"["+string(name)+"]", "is not supported: only cpu and memory can be reserved and limited")
		}
		if q.Sign() < 0 {
			return r, refuse(at, "%s is negative", &q)
		}
		if name == corev1.ResourceCPU {
			if beyond(q, structs.MaxMilliCPU/1000) {
				return r, refuse(at, "%s is more than %d cores", &q, structs.MaxMilliCPU/1000)
			}
			r.MilliCPU = q.MilliValue()
			continue
		}
		if beyond(q, structs.MaxMemory) {
			return r, refuse(at, "%s is more than %d bytes", &q, int64(structs.MaxMemory))
		}
		r.Memory = q.Value()
	}
	return r, nil
}

// beyond reports whether an amount is more than most. Its Value can overflow.
func beyond(q resource.Quantity, most int64) bool {
	return q.CmpInt64(most) > 0
}
