package structs

// ServiceSpec is what a bay needs of a service's manifest. Package manifest derives it,
// with Kubernetes' defaults filled in; only a PATCH of the manifest changes it. Rows
// hold it.
type ServiceSpec struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Selector map[string]string `json:"selector"` // labels that the service's pods carry; at least one, unless a cluster has the service
	Ports    []ServicePort     `json:"ports"`    // at least one, unless Headless
	// ClientIPTimeout is for how many seconds a client keeps its pod after its last
	// connection. 0 means that each connection may go to another pod.
	ClientIPTimeout int  `json:"client_ip_timeout,omitempty"`
	NodePorts       bool `json:"node_ports,omitempty"` // the ports are open on the bay's hosts too
	// Headless says that the service has no address of its own: its name leads to the pods'
	// addresses, in a cluster perhaps elsewhere (ExternalName).
	Headless bool `json:"headless,omitempty"`
}

// ServicePort is a port of a service.
type ServicePort struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name       string `json:"name,omitempty"`        // unique in the service; "" only if it is the only port
	Port       int    `json:"port"`                  // 1..65535
	TargetPort int    `json:"target_port,omitempty"` // port of the pods; 0 if TargetName is set
	TargetName string `json:"target_name,omitempty"` // name of a port of the pods; "" if TargetPort is set
	NodePort   int    `json:"node_port,omitempty"`   // 0 means any free one; only with NodePorts
	Protocol   string `json:"protocol"`              // tcp or udp; sctp only in a cluster
}

// DefaultClientIPTimeout is Kubernetes' default of ServiceSpec.ClientIPTimeout if the
// service has session affinity, in seconds.
const DefaultClientIPTimeout = 3 * 60 * 60
