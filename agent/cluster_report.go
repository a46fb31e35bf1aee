package agent

import (
	"slices"

	"github.com/stackforge/magnum/structs"
)

// maxConditionTexts bounds the texts of the conditions of a pod, in bytes, each.
const maxConditionText = 1 << 10

// boundReport shortens the texts and lists of a report to what servers take. They refuse a
// report as a whole if one of them is too long, and texts have what a cluster says. The
// report's own lists aren't changed.
func boundReport(r structs.ContainerReport) structs.ContainerReport {
	r.Reason = clip(r.Reason, structs.MaxText)
	r.Parts = slices.Clone(r.Parts)
	for i := range r.Parts {
		boundPart(&r.Parts[i], len(r.Parts))
	}
	if p := r.Pod; p != nil {
		p = new(*p)
		p.Conditions = slices.Clone(p.Conditions[:min(len(p.Conditions), structs.MaxConditions)])
		for i := range p.Conditions {
			condition := &p.Conditions[i]
			condition.Reason, condition.Message = clip(condition.Reason, maxConditionText), clip(condition.Message, maxConditionText)
		}
		r.Pod = p
	}
	if o := r.Object; o != nil && o.Service != nil && len(o.Service.Endpoints) > structs.MaxEndpoints {
		o, o.Service = new(*o), new(*o.Service)
		o.Service.Endpoints = o.Service.Endpoints[:structs.MaxEndpoints]
		r.Object = o
	}
	return r
}

// boundPart shortens the texts of one of n parts. The more parts a workload has, the shorter
// they are.
func boundPart(part *structs.PartReport, n int) {
	texts := []*string{&part.Reason, &part.State.Message, &part.Last.Message}
	for _, text := range texts {
		*text = clip(*text, min(maxPartText, maxPartTexts/escapedByte/len(texts)/n))
	}
}
