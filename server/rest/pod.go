package rest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// podBrief is the summary of a pod. The type's name is that of a schema in the OpenAPI
// document.
type podBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name, from the manifest's metadata; unique in the bay.
	Name string `json:"name"`
	//api:doc Always null. The client of 2015 expects the field.
	Desc *string `json:"desc"`
	//api:doc UUID of the pod's bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Images of the containers, in the order of the manifest.
	Images []string `json:"images"`
	//api:doc Labels, from the manifest's metadata.
	Labels map[string]string `json:"labels"`
	//api:doc Pending, Running, Succeeded, Failed, Unknown or Deleting.
	Status structs.PodPhase `json:"status"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

var pods = &web.Resource{
	Noun: "pods", Kind: structs.KindPod, Table: structs.TablePods,
	Sorts: map[string]func(a, b structs.Row) int{
		"name":     web.By(func(p *structs.Pod) string { return p.Name }),
		"status":   web.By(func(p *structs.Pod) string { return string(p.Status()) }),
		"bay_uuid": web.By(func(p *structs.Pod) string { return p.BayID }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string { return r.(*structs.Pod).Name }),
		"status": web.FilterStatus(func(r structs.Row) string { return string(r.(*structs.Pod).Status()) },
			structs.PodPending, structs.PodRunning, structs.PodSucceeded, structs.PodFailed, structs.PodUnknown,
			structs.PodPhase(structs.ContainerDeleting)),
		"label": web.FilterLabel(func(r structs.Row) map[string]string { return r.(*structs.Pod).Labels }),
		"bay":   web.FilterBay(func(r structs.Row) string { return r.(*structs.Pod).BayID }),
		"host":  filterPodHost,
	},
	Summary: func(v web.View, r structs.Row) any {
		p := r.(*structs.Pod)
		return podBrief{UUID: p.ID, Name: p.Name, BayUUID: p.BayID, Images: p.Images(), Labels: wire.Object(p.Labels), Status: p.Status(),
			Links: v.Links("pods", p.ID)}
	},
	Detail: func(v web.View, r structs.Row) any {
		body := podBody(v, r.(*structs.Pod))
		return &body
	},
	Whole: func(v web.View, r structs.Row) any {
		p := r.(*structs.Pod)
		body := podBody(v, p)
		if m := v.Snap.Manifest(p.Ref().BesideID()); m != nil {
			body.Manifest = &m.Text
		}
		return &body
	},
}

// podBody returns the detail of a pod without its manifest.
func podBody(v web.View, p *structs.Pod) structs.PodBody {
	body := structs.PodBody{
		UUID: p.ID, Name: p.Name, BayUUID: p.BayID, Images: p.Images(), Labels: wire.Object(p.Labels), Status: p.Status(),
		Links: v.Links("pods", p.ID), StatusReason: wire.OrNull(workloadReason(v, p)), ManifestURL: wire.OrNull(p.ManifestURL),
		CreatedAt: structs.Time{Time: p.CreatedAt}, UpdatedAt: structs.Time{Time: p.UpdatedAt}, Address: wire.OrNull(p.Observed.Address),
		Ready: p.Ready(), Conditions: podConditions(p), InitContainers: podContainers(p, p.Spec.InitContainers),
		Containers: podContainers(p, p.Spec.Containers), Annotations: wire.Object(p.Annotations), RestartPolicy: p.Spec.RestartPolicy,
		StartedAt: structs.Time{Time: p.Observed.StartedAt}, Epoch: p.Epoch, Exclusive: p.Spec.Exclusive,
		InfraImage: wire.OrNull(p.Spec.InfraImage), RCUUID: wire.OrNull(p.Owner), Host: wire.OrNull(nodeOf(v, p)),
	}
	return body
}

// podContainers returns the bodies of a pod's containers.
func podContainers(p *structs.Pod, specs []structs.PodContainer) []structs.PodContainerBody {
	bodies := make([]structs.PodContainerBody, 0, len(specs))
	for i := range specs {
		spec := &specs[i]
		body := structs.PodContainerBody{Name: spec.Name, Image: spec.Image, Ports: make([]structs.Port, 0, len(spec.Ports)),
			State: structs.PartStateBody{State: structs.PartWaiting}, TTY: spec.TTY, Stdin: spec.Stdin}
		for _, port := range spec.Ports {
			body.Ports = append(body.Ports, port.Port)
		}
		if seen := p.Part(spec.Name); seen != nil {
			body.Ready, body.RestartCount = seen.Ready, seen.Restarts
			body.State = partState(&seen.PartState)
			if seen.Last.State != "" {
				body.LastState = new(partState(&seen.Last))
			}
		}
		bodies = append(bodies, body)
	}
	return bodies
}

func partState(s *structs.PartState) structs.PartStateBody {
	return structs.PartStateBody{State: s.State, Reason: wire.OrNull(s.Reason), Message: wire.OrNull(s.Message), ExitCode: s.ExitCode,
		StartedAt: structs.Time{Time: s.StartedAt}, FinishedAt: structs.Time{Time: s.FinishedAt}}
}

// podConditions returns the conditions of a pod, in the words of Kubernetes. Those of a pod in
// a cluster are the cluster's.
func podConditions(p *structs.Pod) []structs.PodCondition {
	if p.Spec.Cluster && p.HostID != "" {
		all := []structs.PodCondition{} // none before the cluster has the pod
		for _, c := range p.Observed.Conditions {
			all = append(all, structs.PodCondition{Type: c.Type, Status: c.Status, Reason: wire.OrNull(c.Reason),
				Message: wire.OrNull(c.Message)})
		}
		return all
	}
	condition := func(kind string, met bool, reason, message string) structs.PodCondition {
		c := structs.PodCondition{Type: kind, Status: "True"}
		if !met {
			c.Status = "False"
		}
		c.Reason, c.Message = wire.OrNull(reason), wire.OrNull(message)
		return c
	}
	scheduled := condition("PodScheduled", p.HostID != "", "", "")
	if p.HostID == "" {
		scheduled = condition("PodScheduled", false, "Unschedulable", structs.StatusReasonOf(p))
	}
	waiting := notDone(p)
	initialized := condition("Initialized", true, "", "")
	if p.HostID == "" {
		initialized = condition("Initialized", false, "ContainersNotInitialized", "it has no host")
	} else if len(waiting) > 0 {
		initialized = condition("Initialized", false, "ContainersNotInitialized",
			"init containers that are not done: "+strings.Join(waiting, ", "))
	}
	ready := func(kind string) structs.PodCondition {
		switch {
		case p.Ready():
			return condition(kind, true, "", "")
		case p.Phase() == structs.PodSucceeded:
			return condition(kind, false, "PodCompleted", "")
		case p.Phase() == structs.PodFailed:
			return condition(kind, false, "PodFailed", structs.StatusReasonOf(p))
		case p.Phase() == structs.PodUnknown:
			return condition(kind, false, "HostLost", structs.StatusReasonOf(p))
		}
		why := "containers that are not ready: " + strings.Join(notReady(p), ", ")
		if !slices.ContainsFunc(p.Observed.Parts, func(o structs.PartObserved) bool { return o.Message != "" }) && p.Observed.Reason != "" {
			why += ": " + p.Observed.Reason // no container says why: it is about the pod as a whole
		}
		return condition(kind, false, "ContainersNotReady", why)
	}
	return []structs.PodCondition{scheduled, initialized, ready("ContainersReady"), ready("Ready")}
}

// notDone returns the names of the init containers that haven't ended with exit code 0.
func notDone(p *structs.Pod) (names []string) {
	for i := range p.Spec.InitContainers {
		name := p.Spec.InitContainers[i].Name
		if seen := p.Part(name); seen == nil || seen.State != structs.PartTerminated || seen.ExitCode == nil || *seen.ExitCode != 0 {
			names = append(names, name)
		}
	}
	return names
}

// notReady returns the names of the containers that are not ready.
func notReady(p *structs.Pod) (names []string) {
	for i := range p.Spec.Containers {
		if seen := p.Part(p.Spec.Containers[i].Name); seen == nil || !seen.Ready {
			names = append(names, p.Spec.Containers[i].Name)
		}
	}
	return names
}

var (
	podShape = wire.NewShape(structs.KindPod, structs.PodRequest{}, structs.PodBody{})
	podPatch = wire.NewPatchRules(podShape, structs.PodBody{}, []string{"name", "labels"}, []string{"bay_uuid", "manifest", "manifest_url"},
		[]string{"manifest", "manifest_url"})
)

func podRoutes() []*web.Route {
	get := web.Reading(pods, podBrief{}, structs.PodBody{}, identity.PodList, identity.PodDetail, identity.PodGet, web.FilterArgName,
		web.FilterArgStatus, web.FilterArgLabel, web.FilterArgBay, web.FilterArgHost)
	return append(get,
		&web.Route{Method: http.MethodPost, Path: "/pods", Action: identity.PodCreate, Handle: createPod, Args: []wire.Arg{web.Waits},
			Summary: "Create a pod from a manifest, and start it", Takes: structs.PodRequest{}, Manifest: true,
			Gives: web.Created(structs.PodBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/pods/:id", Action: identity.PodUpdate, Handle: patchPod, Args: []wire.Arg{web.Waits},
			Summary: "Replace a pod's manifest: images, labels, annotations and activeDeadlineSeconds may differ",
			Takes:   []structs.PatchOp{}, Manifest: true, Gives: web.Changed(structs.PodBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/pods/:id", Action: identity.PodDelete, Handle: deletePod,
			Args: []wire.Arg{
				web.Waits,
				{Name: "force", Kind: wire.ArgBool, Doc: "Kill it at once; forget it if its host is lost."},
			}, Summary: "Delete a pod", Gives: web.Deleted(structs.PodBody{})},
		&web.Route{Method: http.MethodGet, Path: "/pods/:id/actions", Action: identity.PodActions, Handle: podActions,
			Args:    web.Consistency,
			Summary: "The actions on a pod: who requested them and how they ended", Gives: web.OK(structs.ActionsBody{})},
	)
}

var createPod = web.Write(func(q *web.Request) (*structs.Pod, error) {
	var body structs.PodRequest
	once, err := q.Decode(podShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.Pods().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, p *structs.Pod) error {
	pods.Locate(q, p)
	return awaitPod(q, p, http.StatusCreated)
})

var patchPod = web.Write(func(q *web.Request) (*structs.Pod, error) {
	p, err := q.DecodePatch(podPatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	var body structs.PodRequest
	if err := p.Apply(&body); err != nil {
		return nil, err
	}
	return q.Service.Pods().Patch(q.Context(), &q.Call,
		service.PatchPod{Ident: q.Ident(), Manifest: body.Manifest, URL: body.ManifestURL})
}, func(q *web.Request, p *structs.Pod) error { return awaitPod(q, p, http.StatusOK) })

// awaitPod answers a create or PATCH of a pod. With ?wait= it first waits until the host has
// carried it out.
func awaitPod(q *web.Request, p *structs.Pod, status int) error {
	atMost, said := q.Patience()
	if !said {
		return pods.Written(q, status, p)
	}
	now, done, err := q.Service.Pods().AwaitDone(q.Context(), &q.Call, p, atMost, status == http.StatusCreated)
	switch {
	case err != nil:
		return err
	case now == nil:
		return service.ErrPodDeleted(p)
	case !done:
		status = http.StatusAccepted
	}
	return pods.Written(q, status, now)
}

var deletePod = web.Write(func(q *web.Request) (service.Removed[*structs.Pod], error) {
	return q.Service.Pods().Delete(q.Context(), &q.Call, service.DeletePod{
		Ident: q.Ident(), Force: q.Query.Bool("force", false),
	})
}, func(q *web.Request, p service.Removed[*structs.Pod]) error {
	if p.Gone {
		return q.NoContent()
	}
	atMost, said := q.Patience()
	now, _, err := q.Service.Pods().AwaitDone(q.Context(), &q.Call, p.Row, atMost, false)
	switch {
	case err != nil:
		return err
	case now != nil && said:
		return pods.Written(q, http.StatusAccepted, now)
	}
	return q.NoContent()
})
