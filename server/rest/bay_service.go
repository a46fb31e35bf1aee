package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// serviceBrief is the summary of a service. The type's name is that of a schema in the
// OpenAPI document.
type serviceBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name, from the manifest's metadata; unique in the bay.
	Name string `json:"name"`
	//api:doc UUID of the bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Labels, from the manifest's metadata.
	Labels map[string]string `json:"labels"`
	//api:doc Labels of the pods that the service leads to.
	Selector map[string]string `json:"selector"`
	//api:doc Address in the project's networks; null if the service is headless.
	IP *string `json:"ip"`
	//api:doc Ports, as in the manifest, with what was left out.
	Ports []structs.ServicePortBody `json:"ports"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

var bayServices = &web.Resource{
	Noun: "services", Kind: structs.KindService, Table: structs.TableServices,
	Beside: []structs.Table{structs.TableEndpoints, structs.TableObjects},
	Sorts: map[string]func(a, b structs.Row) int{
		"name":     web.By(func(s *structs.Service) string { return s.Name }),
		"bay_uuid": web.By(func(s *structs.Service) string { return s.BayID }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name":  web.FilterName(func(r structs.Row) string { return r.(*structs.Service).Name }),
		"label": web.FilterLabel(func(r structs.Row) map[string]string { return r.(*structs.Service).Labels }),
		"bay":   web.FilterBay(func(r structs.Row) string { return r.(*structs.Service).BayID }),
	},
	Summary: func(v web.View, row structs.Row) any {
		s := row.(*structs.Service)
		return serviceBrief{UUID: s.ID, Name: s.Name, BayUUID: s.BayID, Labels: wire.Object(s.Labels),
			Selector: wire.Object(s.Spec.Selector), IP: wire.OrNull(s.Address), Ports: servicePorts(&s.Spec),
			Links: v.Links("services", s.ID)}
	},
	Detail: func(v web.View, row structs.Row) any {
		body := serviceBody(v, row.(*structs.Service))
		return &body
	},
	Whole: func(v web.View, row structs.Row) any {
		s := row.(*structs.Service)
		body := serviceBody(v, s)
		endpoints := endpointBodies(v, v.Snap.Endpoints(s.ID))
		problems := hostProblems(v, s)
		body.Endpoints, body.Problems = &endpoints, &problems
		if m := v.Snap.Manifest(s.BesideID()); m != nil {
			body.Manifest = &m.Text
		}
		return &body
	},
}

// serviceBody returns the detail of a service without its manifest and its endpoints.
func serviceBody(v web.View, s *structs.Service) structs.ServiceBody {
	body := structs.ServiceBody{
		UUID: s.ID, Name: s.Name, BayUUID: s.BayID, Labels: wire.Object(s.Labels), Selector: wire.Object(s.Spec.Selector),
		IP: wire.OrNull(s.Address), Ports: servicePorts(&s.Spec), Links: v.Links("services", s.ID), Address: wire.OrNull(s.Address),
		NodePorts: []int{}, Headless: s.Spec.Headless, ClientIPTimeout: s.Spec.ClientIPTimeout,
		Annotations: wire.Object(s.Annotations), ManifestURL: wire.OrNull(s.ManifestURL), CreatedAt: structs.Time{Time: s.CreatedAt},
		UpdatedAt: structs.Time{Time: s.UpdatedAt},
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			body.NodePorts = append(body.NodePorts, p.NodePort)
		}
	}
	endpoints := v.Snap.Endpoints(s.ID)
	if endpoints == nil {
		endpoints = &structs.Endpoints{}
	}
	body.Total = len(endpoints.Pods)
	for i := range endpoints.Pods {
		if endpoints.Pods[i].Ready {
			body.Ready++
		}
	}
	o, _ := v.Snap.Get(structs.TableObjects, s.BesideID()).(*structs.Object) // nil on a Docker bay
	body.Status = o.ServiceStatus()
	reason := objectReason(v, s.BesideID())
	switch {
	case reason != "":
	case body.Status == structs.ServicePending: // its endpoints are those of before
		reason = "the bay's cluster has not carried out the last change yet"
	default:
		reason = serviceReason(s, endpoints, body.Ready)
	}
	body.StatusReason = wire.OrNull(reason)
	return body
}

func servicePorts(spec *structs.ServiceSpec) []structs.ServicePortBody {
	all := make([]structs.ServicePortBody, len(spec.Ports))
	for i, p := range spec.Ports {
		all[i] = structs.ServicePortBody{Name: wire.OrNull(p.Name), Protocol: strings.ToUpper(p.Protocol), Port: p.Port,
			TargetPort: p.TargetPort}
		if p.TargetName != "" {
			all[i].TargetPort = p.TargetName
		}
		if p.NodePort != 0 {
			all[i].NodePort = &p.NodePort
		}
	}
	return all
}

// endpointBodies returns the endpoints of a service, which may have none.
func endpointBodies(v web.View, endpoints *structs.Endpoints) []structs.EndpointBody {
	if endpoints == nil {
		return []structs.EndpointBody{}
	}
	all := make([]structs.EndpointBody, len(endpoints.Pods))
	for i := range endpoints.Pods {
		e := &endpoints.Pods[i]
		all[i] = structs.EndpointBody{Pod: e.Name, PodUUID: e.PodID, Address: e.Address, Ports: wire.List(e.Ports), Ready: e.Ready}
		if p := v.Snap.Pod(e.PodID); p != nil && p.Spec.Cluster {
			all[i].Host = wire.OrNull(p.Observed.Node)
		} else if h := v.Snap.Host(e.HostID); h != nil {
			all[i].Host = wire.OrNull(h.Name)
		}
	}
	return all
}

// problemReason returns the reason of a problem, in which a peer has its name instead of its
// UUID, which is all that its host has said of it. peer is that name; "" if there is none.
func problemReason(v web.View, p *structs.ServiceProblem) (reason, peer string) {
	h := v.Snap.Host(p.HostID)
	if h == nil {
		return p.Reason, ""
	}
	return strings.ReplaceAll(p.Reason, h.ID, h.Name), h.Name
}

// hostProblems returns what hosts of the bay don't serve of a service.
func hostProblems(v web.View, s *structs.Service) []structs.HostProblemBody {
	all := []structs.HostProblemBody{}
	for h := range v.Snap.HostsInBay(s.BayID) {
		for _, p := range h.Problems {
			if p.ServiceID != "" && p.ServiceID != s.ID {
				continue
			}
			reason, peer := problemReason(v, &p)
			all = append(all, structs.HostProblemBody{Host: h.Name, Peer: wire.OrNull(peer), Reason: reason})
		}
	}
	return all
}

// serviceReason says why a service has no endpoint that gets connections, or which of them
// lack a port; "" if all is well. It depends on the service and its endpoints only, which are
// what a blocking read waits for.
func serviceReason(s *structs.Service, endpoints *structs.Endpoints, ready int) string {
	total := len(endpoints.Pods)
	switch {
	case len(s.Spec.Selector) == 0:
		return "" // only in a cluster: what it leads to is somebody's own matter
	case endpoints.Matched == 0:
		return "no pod of the project in the bay has the labels of the selector, " + selectorText(s.Spec.Selector)
	case total == 0:
		return fmt.Sprintf("%d of the project's pods in the bay have the labels of the selector, and none of them runs on a host yet",
			endpoints.Matched)
	case ready == 0:
		return fmt.Sprintf("none of %d pods is ready, such as %s: its pod-show says why", total, endpoints.Pods[0].Name)
	}
	for i, p := range s.Spec.Ports {
		for j := range endpoints.Pods {
			if e := &endpoints.Pods[j]; p.TargetName != "" && i < len(e.Ports) && e.Ports[i] == 0 {
				return fmt.Sprintf("pod %s has no %s port with the name %s, the targetPort of port %d, and gets no connections for it: "+
					"name the port in its manifest", e.Name, strings.ToUpper(p.Protocol), p.TargetName, p.Port)
			}
		}
	}
	if endpoints.Matched > total && total == structs.MaxEndpoints {
		return fmt.Sprintf("only %d of %d pods get connections: a service leads to no more", total, endpoints.Matched)
	}
	return ""
}

func selectorText(selector map[string]string) string {
	var pairs []string
	for key, value := range selector {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

var (
	serviceShape = wire.NewShape(structs.KindService, structs.ServiceRequest{}, structs.ServiceBody{})
	servicePatch = wire.NewPatchRules(serviceShape, structs.ServiceBody{}, []string{"name", "labels", "selector", "ports", "ip"},
		[]string{"bay_uuid", "manifest", "manifest_url"}, []string{"manifest", "manifest_url"})
)

func bayServiceRoutes() []*web.Route {
	get := web.Reading(bayServices, serviceBrief{}, structs.ServiceBody{}, identity.ServiceList, identity.ServiceDetail,
		identity.ServiceGet, web.FilterArgName, web.FilterArgLabel, web.FilterArgBay)
	return append(get,
		&web.Route{Method: http.MethodPost, Path: "/services", Action: identity.ServiceCreate, Handle: createService,
			Args: []wire.Arg{web.Waits}, Summary: "Create a service from a manifest", Takes: structs.ServiceRequest{}, Manifest: true,
			Gives: web.Created(structs.ServiceBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/services/:id", Action: identity.ServiceUpdate, Handle: patchService,
			Args:    []wire.Arg{web.Waits},
			Summary: "Replace a service's manifest; it keeps its address, and the node ports that the manifest leaves open",
			Takes:   []structs.PatchOp{}, Manifest: true, Gives: web.Changed(structs.ServiceBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/services/:id", Action: identity.ServiceDelete, Handle: deleteService,
			Summary: "Delete a service; its pods stay", Gives: web.DeletedNow()},
	)
}

var createService = web.Write(func(q *web.Request) (*structs.Service, error) {
	var body structs.ServiceRequest
	once, err := q.Decode(serviceShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.BayServices().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, s *structs.Service) error {
	bayServices.Locate(q, s)
	return awaitService(q, s, http.StatusCreated)
})

// awaitService answers a create or PATCH of a service. With ?wait= it first waits until the
// cluster of a Kubernetes bay has carried it out.
func awaitService(q *web.Request, s *structs.Service, status int) error {
	atMost, said := q.Patience()
	if !said {
		return bayServices.Written(q, status, s)
	}
	now, done, err := q.Service.BayServices().AwaitDone(q.Context(), &q.Call, s, atMost)
	switch {
	case err != nil:
		return err
	case now == nil:
		return service.ErrServiceDeleted(s)
	case !done:
		status = http.StatusAccepted
	}
	return bayServices.Written(q, status, now)
}

var patchService = web.Write(func(q *web.Request) (*structs.Service, error) {
	p, err := q.DecodePatch(servicePatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	var body structs.ServiceRequest
	if err := p.Apply(&body); err != nil {
		return nil, err
	}
	return q.Service.BayServices().Patch(q.Context(), &q.Call,
		service.PatchService{Ident: q.Ident(), Manifest: body.Manifest, URL: body.ManifestURL})
}, func(q *web.Request, s *structs.Service) error { return awaitService(q, s, http.StatusOK) })

var deleteService = web.Write(func(q *web.Request) (service.Removed[*structs.Service], error) {
	return q.Service.BayServices().Delete(q.Context(), &q.Call, service.DeleteService{Ident: q.Ident()})
}, func(q *web.Request, _ service.Removed[*structs.Service]) error { return q.NoContent() })
