// Package quotas decides whether a project may have what its user asks for. The conductor
// calls it after each request of a user, in the scratch view of the batch: so requests of one
// batch see each other, and no number of them at the same time takes more than the quota has.
//
// It never looks at where workloads run, and it isn't asked by the leader's steps: what has to
// be moved, or is lost with its host, is charged already.
package quotas

import (
	"fmt"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Check refuses what the request has written if a project would use more of a resource than
// before, and more than its quota has. What gives back is never refused, even while a quota
// is exceeded because it was lowered. Errors: CodeQuota; CodeInvalid for a container or pod
// that doesn't say what it needs of a limited resource.
func Check(t *scratch.Tx) error {
	for project, before := range t.Charged() {
		limits, now := t.Limits(project), t.Uses(project)
		if limits[structs.ResourceMemory] != structs.Unlimited || limits[structs.ResourceCPU] != structs.Unlimited {
			if err := checkRequests(t, project, limits); err != nil {
				return err
			}
		}
		for i, limit := range limits {
			if more := now[i] - before[i]; limit != structs.Unlimited && more > 0 && now[i] > limit {
				return structs.QuotaExceeded(structs.Resource(i), before[i], limit, more)
			}
		}
	}
	return nil
}

// Short returns why a project's quota has no room for a new pod of a replication controller;
// "" if it has. spared is what doesn't count of what the project uses.
func Short(t *scratch.Tx, p *structs.Pod, spared *structs.Amounts) string {
	limits := t.Limits(p.ProjectID)
	if *limits == structs.UnlimitedAmounts() {
		return ""
	}
	if field := missing(podRequests(&p.Spec, "spec.template.spec"), limits); field != "" {
		return fmt.Sprintf("the project has a quota of %s, and the template has no %s", resourceOf(field), field)
	}
	uses, takes := t.Uses(p.ProjectID), t.Takes(p)
	for i, limit := range limits {
		if r := structs.Resource(i); limit != structs.Unlimited && takes[i] > 0 && uses[i]-spared[i]+takes[i] > limit {
			return fmt.Sprintf("quota exceeded for %s: the project uses %s of %s%s, and a pod takes %s more", r, r.Text(uses[i]),
				r.Text(limit), r.Unit(), r.Text(takes[i]))
		}
	}
	return ""
}

// request is what one container asks for.
type request struct {
	memory, milliCPU           int64
	memoryField, milliCPUField string
}

// missing returns the field of the first request that lacks a limited resource; "" if none does.
func missing(requests []request, limits *structs.Amounts) (field string) {
	for _, r := range requests {
		switch {
		case limits[structs.ResourceMemory] != structs.Unlimited && r.memory == 0:
			return r.memoryField
		case limits[structs.ResourceCPU] != structs.Unlimited && r.milliCPU == 0:
			return r.milliCPUField
		}
	}
	return ""
}

// resourceOf returns the word for the resource that a field is about.
func resourceOf(field string) string {
	if cpu := structs.ResourceCPU.String(); len(field) >= len(cpu) && field[len(field)-len(cpu):] == cpu {
		return cpu
	}
	return structs.ResourceMemory.String()
}

// requestsOf returns what a row's containers ask for, none for one that is not charged for
// that.
func requestsOf(row structs.Row) (requests []request, kind string) {
	switch r := row.(type) {
	case *structs.Container:
		return []request{{int64(r.Spec.Memory), int64(r.Spec.MilliCPU), "memory", "cpu"}}, structs.KindContainer
	case *structs.Pod:
		if !r.Found() && r.Owner == "" { // else the replication controller is asked
			return podRequests(&r.Spec, "spec"), structs.KindPod
		}
	case *structs.Manifest:
		if r.RC != nil {
			return podRequests(&r.RC.Template, "spec.template.spec"), structs.KindRC
		}
	}
	return nil, ""
}

func podRequests(s *structs.PodSpec, at string) (requests []request) {
	for _, list := range []struct {
		name       string
		containers []structs.PodContainer
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range list.containers {
			field := fmt.Sprintf("%s.%s[%d].resources.requests.", at, list.name, i)
			r := &list.containers[i].Requests
			requests = append(requests, request{r.Memory, r.MilliCPU, field + "memory", field + "cpu"})
		}
	}
	return requests
}

// checkRequests refuses containers, pods and templates that lack a limited resource. One that
// lacked it before, because there was no such quota yet, may be changed.
func checkRequests(t *scratch.Tx, project string, limits *structs.Amounts) error {
	for was, now := range t.Written() {
		if now == nil || now.Base().ProjectID != project {
			continue
		}
		requests, kind := requestsOf(now)
		field := missing(requests, limits)
		if field == "" {
			continue
		}
		if was != nil {
			if before, _ := requestsOf(was); missing(before, limits) != "" {
				continue
			}
		}
		return structs.Errorf(structs.CodeInvalid, "%s is missing: the project has a quota of %s, so each container has to say how much it "+
			"needs", field, resourceOf(field)).About(kind)
	}
	return nil
}
