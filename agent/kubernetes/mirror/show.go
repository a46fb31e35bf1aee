package mirror

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// show reports a workload as it is. o is its object, nil if there is none. says is why it
// waits, "" if it doesn't.
func (w *workload) show(m *Mirror, o Object, says string) { w.showBarred(m, o, says, nil) }

// showBarred reports a workload that can't be carried out for a reason that isn't the
// answer of a call.
func (w *workload) showBarred(m *Mirror, o Object, says string, barred *refusal) {
	if !w.assigned && !w.found {
		return
	}
	if o == nil && !m.Listed() && (m.api.away == "" || w.existed || w.done > 0) {
		return // it may be there
	}
	r := w.begin()
	switch {
	case o == nil:
		r.Status = structs.ContainerCreating
	case w.kind == structs.WorkloadPod:
		w.showPod(m, o.(*corev1.Pod), &r)
	default:
		r.Status, r.EngineID = structs.ContainerRunning, string(o.GetUID())
		switch o := o.(type) {
		case *corev1.Service:
			r.Object = &structs.ObjectReport{Service: m.showService(o, m.conf.HostID)}
		case *corev1.ReplicationController:
			r.Object = &structs.ObjectReport{RC: m.showRC(w, o)}
		}
	}
	carriedOut := o != nil && (w.found || w.a.Desired != structs.DesiredAbsent && hashOfObject(o) == w.hash)
	switch {
	case w.a.Desired == structs.DesiredAbsent:
		says = orText(says, w.trouble)
	case barred == nil && w.refused != nil:
		barred = w.refused
	case !carriedOut:
		says = orText(says, w.trouble)
	}
	if barred != nil {
		r.Failed, r.Generation, r.Reason = true, w.a.Generation, barred.reason
		if o == nil {
			r.Status = structs.ContainerError
		}
		setCode(&r, barred.code)
	} else {
		if m.api.away != "" && !carriedOut {
			says = "it waits for the cluster's API, which does not answer: " + m.api.away
			if len(m.api.troubled) > 0 {
				says = "it waits until the agent may see all of the cluster that it has to: " + m.api.away
			}
		}
		r.Reason = orText(says, r.Reason)
	}
	w.report(m, r)
}

// setCode says of which kind a refusal is.
func setCode(r *structs.ContainerReport, code structs.Code) {
	if r.Kind == structs.WorkloadPod {
		if r.Pod == nil {
			r.Pod = &structs.PodReport{}
		}
		r.Pod.Code = code
		return
	}
	if r.Object == nil {
		r.Object = &structs.ObjectReport{}
	}
	r.Object.Code = code
}

// showGone reports that there is nothing of a workload, and that nothing is made again.
func (w *workload) showGone(m *Mirror, why string) {
	if !w.assigned && !w.found {
		w.forget(m)
		return
	}
	r := w.begin()
	r.Status, r.Reason = structs.ContainerGone, why
	if w.assigned {
		r.Generation = w.a.Generation
	}
	if w.a.Desired != structs.DesiredAbsent {
		w.gone = true
	}
	w.report(m, r)
}

// begin returns a report of a workload with nothing observed.
func (w *workload) begin() structs.ContainerReport {
	ref := structs.Ref{Kind: w.kind, ID: w.id, Epoch: max(w.a.Epoch, 1)}
	r := structs.ReportOf(ref)
	r.Generation = w.done
	if w.found && (!w.assigned || w.a.Desired != structs.DesiredAbsent) {
		r.Generation = max(w.a.Generation, 1)
	}
	return r
}

// report reports a workload, unless nothing has changed.
func (w *workload) report(m *Mirror, r structs.ContainerReport) {
	if w.last != nil && reflect.DeepEqual(*w.last, r) {
		return
	}
	m.serial++
	w.last, w.serial, w.taken = &r, m.serial, false
	m.out.Reports = append(m.out.Reports, Report{r, w.serial})
}
