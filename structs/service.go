package structs

import "time"

// TableServices and TableEndpoints are the tables of services and of their endpoints.
const (
	TableServices  Table = "services"
	TableEndpoints Table = "endpoints" // Endpoints
)

// KindService names services in URLs, error codes and messages.
const KindService = "service"

// Service leads connections to the ready pods of a bay that carry the labels of its
// selector. The conductor writes it; only a user's request changes it.
type Service struct {
	Meta
	BayID       string
	Name        string // a DNS label that begins with a letter, unique among the services of a project in a bay
	Labels      map[string]string
	Annotations map[string]string
	Spec        ServiceSpec // every NodePort is set if Spec.NodePorts is
	Address     string      // of the service in its project, the same on all hosts; "" if it is headless
	ManifestURL string      // where the manifest was fetched; "" if it was sent
	Request     string      // ID of the HTTP request that created it
}

// Table says which table the row belongs to.
func (*Service) Table() Table { return TableServices }

// RowName returns the service's name.
func (s *Service) RowName() string { return s.Name }

// BesideID returns the ID of the Manifest of the service.
func (s *Service) BesideID() string { return KindService + "/" + s.ID }

// Matches reports whether the pod has the labels of the selector. It doesn't look at the
// project and the bay. An empty selector matches no pod.
func (s *Service) Matches(p *Pod) bool {
	for key, value := range s.Spec.Selector {
		if got, ok := p.Labels[key]; !ok || got != value {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}

// Endpoints are the pods that a service leads to. The leader derives them from the pods; its
// ID, Seq and ProjectID are the service's. The row is written in the entry of the service,
// and deleted with it.
type Endpoints struct {
	Meta
	BayID string
	// Pods holds the pods of the selector that have an address and are not to go, in
	// creation order: at most MaxEndpoints.
	Pods    []Endpoint
	Matched int // pods of the selector, those too that are not in Pods
}

// Table says which table the row belongs to.
func (*Endpoints) Table() Table { return TableEndpoints }

// MaxEndpoints bounds the pods of one service. Further pods get no connections.
const MaxEndpoints = 1000

// Endpoint is one pod of a service.
type Endpoint struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	PodID   string `json:"pod_id"`
	Name    string `json:"name"`    // of the pod
	HostID  string `json:"host_id"` // where the pod runs
	Address string `json:"address"` // of the pod, in the project's network on its host
	// Ports holds the pod's port for each port of the service, in its order; 0 where the
	// pod has no port of that name.
	Ports []int `json:"ports"`
	Ready bool  `json:"ready,omitempty"` // only a ready pod gets new connections
}

// ServiceAssignment is what a host has to know of one service of its bay.
//
//api:doc A service of the host's bay, and the pods that it leads to.
type ServiceAssignment struct {
	ID string `json:"id"`
	//api:doc Project of the service.
	ProjectID string `json:"project_id"`
	//api:doc Name of the service.
	Name string `json:"name"`
	//api:doc Address in the project's networks; empty if the service is headless.
	Address   string      `json:"address,omitempty"`
	Spec      ServiceSpec `json:"spec"`
	Endpoints []Endpoint  `json:"endpoints"`
}

// ServiceAssignmentOf returns what hosts have to know of a service. e are its endpoints; nil
// means that it has none.
func ServiceAssignmentOf(s *Service, e *Endpoints) ServiceAssignment {
	a := ServiceAssignment{ID: s.ID, ProjectID: s.ProjectID, Name: s.Name, Address: s.Address, Spec: s.Spec, Endpoints: []Endpoint{}}
	if e != nil && len(e.Pods) > 0 {
		a.Endpoints = e.Pods
	}
	return a
}

// ServiceWork is the part of Work about the services of the host's bay.
//
//api:doc The services of the host's bay that have changed, or all of them.
type ServiceWork struct {
	// Full says that Services lists all services of the bay: the host forgets others.
	// Otherwise it lists those that have changed since N.
	Full     bool                `json:"full"`
	Services []ServiceAssignment `json:"services"`
	// Peers are the other hosts of the bay that can be reached by relay; it is always
	// complete.
	Peers []RelayPeer `json:"peers,omitempty"`
}

// DefaultRelayPort is the port of the relay between the hosts of a bay.
const DefaultRelayPort = 9514

// RelayPeer is another host of the bay, as seen by the relay between hosts.
//
//api:doc Another host of the bay.
type RelayPeer struct {
	HostID string `json:"host_id"`
	//api:doc Name of the host.
	Name string `json:"name"`
	Relay
}

// ServiceProblem is something that a host doesn't serve of its bay's services.
//
//api:doc Something that a host doesn't serve of its bay's services.
type ServiceProblem struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc UUID of the service; empty if it is no single service's.
	ServiceID string `json:"service_uuid"`
	//api:doc UUID of another host that can't be reached; empty if it isn't about one.
	HostID string `json:"host_uuid"`
	//api:doc What happened, and what to do.
	Reason string `json:"reason"`
}

// MaxServiceProblems bounds the problems that a host reports.
const MaxServiceProblems = 20

// Relay is how other hosts of a bay reach a host's relay. The agent registers it.
type Relay struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	// Key is the SHA-256 of the public key (SubjectPublicKeyInfo) that the host's relay
	// proves to have, in lower-case hex; "" if the host has no relay.
	Key  string `json:"key,omitempty"`
	Addr string `json:"addr,omitempty"` // host:port; "" if the host can't be dialled and dials its peers itself
}

// MaxDrained bounds the wait of a host's question whether a pod gets no connections any more.
const MaxDrained = 2 * time.Second

// Drained answers GET /v1/agent/hosts/ID/drained?pod=UUID&wait=D.
//
//api:doc Whether a pod on the host gets no new connections any more.
type Drained struct {
	// Drained says that no service leads to the pod on the host, and that every ready host
	// of the bay has followed the state that says so. If it is false, the wait was over.
	Drained bool `json:"drained"`
	//api:doc Hosts of the bay that have not followed that state yet: at most 10.
	Waiting []string `json:"waiting,omitempty"` // their names; empty if a service still leads to the pod
}
