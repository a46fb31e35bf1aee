package structs

// ServiceRequest is the body of POST /v1/services. Absent and null mean the same.
//
//api:doc A service to create from a manifest. Absent and null mean the same.
type ServiceRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc UUID or name of the bay. It can be left out if only one bay fits.
	BayUUID string `json:"bay_uuid,omitempty"`
	//api:doc Alias of bay_uuid.
	Bay string `json:"bay,omitempty"`
	//api:doc Manifest of a Service of Kubernetes v1, as YAML or JSON.
	Manifest string `json:"manifest,omitempty"`
	//api:doc Where to fetch the manifest instead, by http or https.
	ManifestURL string `json:"manifest_url,omitempty"`
}

// Check checks the request against its limits; what the manifest says is checked when it is
// read. Errors are CodeInvalid.
func (r *ServiceRequest) Check() error {
	return (&PodRequest{Bay: r.Bay, BayUUID: r.BayUUID, Manifest: r.Manifest, ManifestURL: r.ManifestURL}).Check()
}

// ServiceStatus says how far the last change of a service is.
type ServiceStatus string

// The statuses of services. One of a Docker bay is always active.
const (
	ServicePending ServiceStatus = "Pending" // the bay's cluster has not carried out the change yet
	ServiceActive  ServiceStatus = "Active"
	ServiceRefused ServiceStatus = "Refused" // by the bay's cluster; the reason has its words
)

// ServiceBody is a service as the API shows it. Lists show a summary: the fields up to Links,
// unless the path ends in /detail.
//
//api:doc A service: its manifest, its address, and the pods that it leads to.
type ServiceBody struct {
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
	//api:doc As address. The client of 2015 expects the field.
	IP *string `json:"ip"`
	//api:doc Ports, as in the manifest, with what was left out.
	Ports []ServicePortBody `json:"ports"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Address in the project's networks, the same on all hosts of the bay; null if the service is headless.
	Address *string `json:"address"`
	//api:doc Ports open on each host of the bay, in the order of ports; empty if the manifest asks for none.
	NodePorts []int `json:"node_ports"`
	//api:doc Whether the service has no address, and its name leads to the pods.
	Headless bool `json:"headless"`
	//api:doc For how many seconds a client keeps its pod after its last connection; 0 means that each connection may go to another.
	ClientIPTimeout int `json:"client_ip_timeout"`
	//api:doc Pods among its endpoints that get connections.
	Ready int `json:"ready"`
	//api:doc Pods that the service leads to, ready or not.
	Total int `json:"total"`
	//api:doc Pods that the service leads to, in the order of their creation, at most 1000. Lists don't have it.
	Endpoints *[]EndpointBody `json:"endpoints"`
	//api:doc Pending while the bay's cluster has not carried out the last change, Refused if it refuses it, else Active.
	Status ServiceStatus `json:"status"`
	//api:doc Why no pod, or not each port of each pod, gets connections; null if all is well.
	StatusReason *string `json:"status_reason"`
	// Problems are those that the bay's hosts have reported. A blocking read doesn't wait
	// for a change of them. Lists don't have them.
	//api:doc What hosts of the bay don't serve of it, and pairs of hosts that can't reach each other.
	Problems *[]HostProblemBody `json:"problems"`
	//api:doc Annotations, from the manifest's metadata.
	Annotations map[string]string `json:"annotations"`
	//api:doc Where the manifest was fetched; null if it was sent.
	ManifestURL *string `json:"manifest_url"`
	//api:doc The manifest as it was sent or fetched. Lists don't have it.
	Manifest *string `json:"manifest"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
}

// ServicePortBody is a port of a service, with the names that manifests have.
//
//api:doc A port of a service, with the names that manifests have.
type ServicePortBody struct {
	//api:doc Name; null if it is the only port and has none.
	Name *string `json:"name"`
	//api:doc TCP or UDP.
	Protocol string `json:"protocol"`
	//api:doc Port of the service, at its address.
	Port int `json:"port"`
	//api:doc Port of the pods: a number, or the name of one of a pod's ports.
	TargetPort any `json:"targetPort"`
	//api:doc Port that is open on each host of the bay; null if there is none.
	NodePort *int `json:"nodePort"`
}

// HostProblemBody is what a host doesn't serve of a service.
//
//api:doc What a host doesn't serve of a service.
type HostProblemBody struct {
	//api:doc Name of the host.
	Host string `json:"host"`
	//api:doc Name of another host that it can't reach; null if it isn't about one.
	Peer *string `json:"peer"`
	//api:doc What happened, and what to do.
	Reason string `json:"reason"`
}

// EndpointBody is a pod that a service leads to.
//
//api:doc A pod that a service leads to.
type EndpointBody struct {
	//api:doc Name of the pod.
	Pod string `json:"pod"`
	//api:doc UUID of the pod.
	PodUUID string `json:"pod_uuid"`
	//api:doc Name of the pod's host, in a Kubernetes bay of its node; null if it is not known.
	Host *string `json:"host"`
	//api:doc Address of the pod, in the project's network on its host.
	Address string `json:"address"`
	//api:doc The pod's port for each of the service's ports; 0 where the pod has no port of that name.
	Ports []int `json:"ports"`
	//api:doc Whether the pod is ready. Only then it gets new connections.
	Ready bool `json:"ready"`
}
