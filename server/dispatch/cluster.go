package dispatch

import (
	"cmp"

	"github.com/stackforge/magnum/structs"
)

// cutCluster cuts what the agent of a Kubernetes cluster reports to the limits of rows. Such
// text is the cluster's, so a report is not refused for it. The report is the caller's own.
func cutCluster(r *structs.ContainerReport) {
	if p := r.Pod; p != nil {
		switch p.Phase {
		case structs.PodPending, structs.PodRunning, structs.PodSucceeded, structs.PodFailed, structs.PodUnknown:
		default:
			p.Phase = ""
		}
		p.Node, p.NodeIP = structs.CutLine(p.Node, structs.MaxName), structs.CutLine(p.NodeIP, structs.MaxName)
		p.Conditions = p.Conditions[:min(len(p.Conditions), structs.MaxConditions)]
		for i := range p.Conditions {
			c := &p.Conditions[i]
			c.Type, c.Status = structs.CutLine(c.Type, structs.MaxName), structs.CutLine(c.Status, structs.MaxName)
			c.Reason, c.Message = structs.CutLine(c.Reason, structs.MaxName), structs.Cut(c.Message, structs.MaxText)
		}
		if f := p.Found; f != nil && f.Spec != nil {
			cutContainers(f.Spec.InitContainers)
			cutContainers(f.Spec.Containers)
		}
	}
	o := cmp.Or(r.Object, &structs.ObjectReport{})
	if s := o.Service; s != nil {
		s.Address = structs.CutLine(s.Address, structs.MaxName)
		s.Ports = s.Ports[:min(len(s.Ports), structs.MaxPorts)]
		s.Endpoints = s.Endpoints[:min(len(s.Endpoints), structs.MaxEndpoints)]
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			e.Name, e.Address, e.PodID = structs.CutLine(e.Name, structs.MaxName), structs.CutLine(e.Address, structs.MaxName),
				structs.CutLine(e.PodID, structs.MaxName)
			e.Ports = e.Ports[:min(len(e.Ports), structs.MaxPorts)]
		}
	}
	if rc := o.RC; rc != nil {
		rc.Reason = structs.Cut(rc.Reason, structs.MaxText)
	}
}

func cutContainers(list []structs.PodContainer) {
	for i := range list {
		list[i].Name, list[i].Image = structs.CutLine(list[i].Name, structs.MaxName), structs.CutLine(list[i].Image, structs.MaxText)
	}
}
