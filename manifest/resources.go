package manifest

import (
	"maps"
	"slices"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// resources derives requests and limits. Absent requests are the limits.
func resources(r *v1.ResourceRequirements, path string) (requests, limits structs.Resources, err error) {
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
		name           string
		request, limit *int64
	}{{"cpu", &requests.MilliCPU, &limits.MilliCPU}, {"memory", &requests.Memory, &limits.Memory}} {
		if _, ok := r.Requests[f.name]; !ok {
			*f.request = *f.limit
		}
		if *f.limit != 0 && *f.request > *f.limit {
			err = refuse(path+".requests."+f.name, "%s is more than the limit of %s", r.Requests[f.name], r.Limits[f.name])
			return
		}
	}
	return
}

// amounts reads a list of resources.
func amounts(list map[string]v1.Quantity, path string) (r structs.Resources, err error) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		at := path + "." + name
		if name != "cpu" && name != "memory" {
			return r, refuse(path+"["+name+"]", "is not supported: only cpu and memory can be reserved and limited")
		}
		if q.Sign() < 0 {
			return r, refuse(at, "%s is negative", q)
		}
		if name == "cpu" {
			if q.Beyond(structs.MaxMilliCPU / 1000) {
				return r, refuse(at, "%s is more than %d cores", q, structs.MaxMilliCPU/1000)
			}
			r.MilliCPU = q.Times(1000)
			continue
		}
		if q.Beyond(structs.MaxMemory) {
			return r, refuse(at, "%s is more than %d bytes", q, int64(structs.MaxMemory))
		}
		r.Memory = q.Times(1)
	}
	return r, nil
}
