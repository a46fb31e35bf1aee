package structs

// PodSpec is what a Docker host needs of a pod's manifest. Package manifest derives it,
// with Kubernetes' defaults filled in; only a PATCH of the manifest changes it. Rows
// hold it, and agents get it. All names are those that the manifest gives.
type PodSpec struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	InitContainers []PodContainer `json:"init_containers,omitempty"` // run one after the other, before Containers
	Containers     []PodContainer `json:"containers"`                // at least one
	RestartPolicy  string         `json:"restart_policy"`            // one of the PodRestart constants
	GracePeriod    int            `json:"grace_period"`              // seconds between SIGTERM and SIGKILL; 0 means at once
	ActiveDeadline int64          `json:"active_deadline,omitempty"` // seconds from the start in which the pod may run; 0 means no limit
	Hostname       string         `json:"hostname"`
	HostAliases    []HostAlias    `json:"host_aliases,omitempty"`
	SharePID       bool           `json:"share_pid,omitempty"`        // the containers see each other's processes
	NoServiceLinks bool           `json:"no_service_links,omitempty"` // the containers get no variables of services
	// NodeSelector holds labels that the host must carry.
	NodeSelector map[string]string `json:"node_selector,omitempty"`
	Volumes      []PodVolume       `json:"volumes,omitempty"`
	FSGroup      *int64            `json:"fs_group,omitempty"`    // group that owns the volumes; nil means that nothing is changed
	InfraImage   string            `json:"infra_image,omitempty"` // "" means the agent's own
	Exclusive    Exclusive         `json:"exclusive"`
	// Cluster says that a Kubernetes cluster runs the pod, from its manifest. The spec then
	// has only what servers show, count and need for sessions: of containers the names, images,
	// ports, terminals and Requests, and RestartPolicy, GracePeriod and ActiveDeadline.
	Cluster bool `json:"cluster,omitempty"`
}

// The restart policies of a pod.
const (
	PodRestartAlways    = "Always"
	PodRestartOnFailure = "OnFailure"
	PodRestartNever     = "Never"
)

// HostAlias is a line of the pod's /etc/hosts.
type HostAlias struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	IP    string   `json:"ip"`
	Names []string `json:"names"`
}

// PodVolume is a volume of a pod. With a Claim it is a named volume of the project on
// the host; otherwise it is empty at first and goes with the pod.
type PodVolume struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name     string `json:"name"`
	Claim    string `json:"claim,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"` // of a claim
	Memory   bool   `json:"memory,omitempty"`    // in memory, not on disk
	Size     int64  `json:"size,omitempty"`      // bytes, only in memory, where manifests always give one; 0 means no limit
}

// PodContainer is one container of a pod: a part of the workload.
type PodContainer struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name       string   `json:"name"` // a DNS label, unique in the pod
	Image      string   `json:"image"`
	PullPolicy string   `json:"pull_policy"`       // one of the Pull constants
	Command    []string `json:"command,omitempty"` // nil means the image's entrypoint
	Args       []string `json:"args,omitempty"`    // nil means the image's command, unless Command is set
	Workdir    string   `json:"workdir,omitempty"` // "" means the image's own
	// Env holds the variables in the order of the manifest: $(NAME) in a value, in
	// Command and in Args stands for an earlier variable's value.
	Env    []EnvVar   `json:"env,omitempty"`
	Ports  []PodPort  `json:"ports,omitempty"`
	Mounts []PodMount `json:"mounts,omitempty"`
	// Requests are reserved on the host, Limits bind the process. 0 means none. In a cluster
	// Requests are only charged: those of the first container that has any are more than its
	// own, such that the sum is what the cluster reserves for the pod with its sidecars and
	// overhead. Pods that the cluster has made, and rows of earlier versions, have none.
	Requests Resources `json:"requests,omitzero"`
	Limits   Resources `json:"limits,omitzero"`

	Liveness  *Probe   `json:"liveness,omitempty"`
	Readiness *Probe   `json:"readiness,omitempty"`
	Startup   *Probe   `json:"startup,omitempty"`
	PostStart *Handler `json:"post_start,omitempty"`
	PreStop   *Handler `json:"pre_stop,omitempty"`

	TTY       bool        `json:"tty,omitempty"`
	Stdin     bool        `json:"stdin,omitempty"`
	StdinOnce bool        `json:"stdin_once,omitempty"` // standard input ends with the first client that attaches
	Security  PodSecurity `json:"security,omitzero"`
}

// Resources are amounts of what a host has.
type Resources struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Memory   int64 `json:"memory,omitempty"`    // bytes
	MilliCPU int64 `json:"milli_cpu,omitempty"` // thousandths of a core
}

// EnvVar is an environment variable. At most one of Value, Field and Resource is set.
type EnvVar struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name     string       `json:"name"`
	Value    string       `json:"value,omitempty"`
	Field    string       `json:"field,omitempty"`    // a field of the pod, such as status.podIP or metadata.labels['app']
	Resource *ResourceRef `json:"resource,omitempty"` // a request or limit of a container
}

// ResourceRef names a request or limit of a container.
type ResourceRef struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Container string `json:"container"`         // never ""
	Resource  string `json:"resource"`          // limits.cpu, limits.memory, requests.cpu or requests.memory
	Divisor   int64  `json:"divisor,omitempty"` // bytes, or thousandths of a core; 0 means one byte or one core
}

// PodPort is a port of a container.
type PodPort struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name string `json:"name,omitempty"` // unique in the container; "" if it has none
	Port        // a HostPort of 0 publishes nothing
}

// PodMount is a place in a container where a volume of the pod is seen.
type PodMount struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Volume   string `json:"volume"` // name of a PodVolume
	Path     string `json:"path"`   // absolute
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Handler is an action on a container. Exactly one of Exec, HTTP, TCP and Sleep is set.
type Handler struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Exec  []string   `json:"exec,omitempty"` // a command in the container; it succeeds with exit code 0
	HTTP  *HTTPGet   `json:"http,omitempty"`
	TCP   *TCPSocket `json:"tcp,omitempty"`   // not of a hook
	Sleep int64      `json:"sleep,omitempty"` // seconds; only of a hook
}

// HTTPGet is a GET request. A probe succeeds with a status of 200 to 399, a hook with
// any status, as in Kubernetes.
type HTTPGet struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Host    string       `json:"host,omitempty"` // "" means the pod's address
	Port    int          `json:"port"`
	Path    string       `json:"path"`
	HTTPS   bool         `json:"https,omitempty"` // the certificate is not checked
	Headers []HTTPHeader `json:"headers,omitempty"`
}

// HTTPHeader is a header of a request.
type HTTPHeader struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// TCPSocket is a port that must accept a connection.
type TCPSocket struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Host string `json:"host,omitempty"` // "" means the pod's address
	Port int    `json:"port"`
}

// Probe checks a container repeatedly. All numbers are set.
type Probe struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Handler
	InitialDelay int  `json:"initial_delay,omitempty"` // seconds after the start
	Period       int  `json:"period"`                  // seconds
	Timeout      int  `json:"timeout"`                 // seconds
	Success      int  `json:"success"`                 // successes in a row after which the probe succeeds
	Failure      int  `json:"failure"`                 // failures in a row after which the probe fails
	GracePeriod  *int `json:"grace_period,omitempty"`  // seconds to end in after a failed liveness or startup probe; nil means the pod's
}

// PodSecurity is what a container may do. Zero fields mean the engine's defaults.
type PodSecurity struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	RunAsUser    *int64   `json:"run_as_user,omitempty"`
	RunAsGroup   *int64   `json:"run_as_group,omitempty"`
	RunAsNonRoot bool     `json:"run_as_non_root,omitempty"` // the container is refused if its user is root
	ReadOnlyRoot bool     `json:"read_only_root,omitempty"`
	NoNewPrivs   bool     `json:"no_new_privs,omitempty"`
	DropCaps     []string `json:"drop_caps,omitempty"` // names without CAP_, or ALL
}

// Demand returns what the pod needs from a host, of a pod in a cluster only its kind: for each resource the larger one of
// the sum over its containers and of the largest init container.
func (s *PodSpec) Demand() Demand {
	if s.Cluster {
		return Demand{Kind: WorkloadPod} // the cluster finds room among its nodes
	}
	d := Demand{Constraints: s.NodeSelector, Kind: WorkloadPod}
	for i := range s.Containers {
		c := &s.Containers[i]
		d.Memory, d.MilliCPU = d.Memory+c.Requests.Memory, d.MilliCPU+c.Requests.MilliCPU
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				d.Ports = append(d.Ports, p.Port)
			}
		}
	}
	for i := range s.InitContainers {
		r := &s.InitContainers[i].Requests
		d.Memory, d.MilliCPU = max(d.Memory, r.Memory), max(d.MilliCPU, r.MilliCPU)
	}
	return d
}

// Claim returns the name of the pod's first named volume, "" if it has none.
func (s *PodSpec) Claim() string {
	for _, v := range s.Volumes {
		if v.Claim != "" {
			return v.Claim
		}
	}
	return ""
}

// Container returns the container or init container of that name, nil if there is none.
func (s *PodSpec) Container(name string) *PodContainer {
	for _, list := range [...][]PodContainer{s.Containers, s.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// Policy returns what decides whether the pod is placed again.
func (s *PodSpec) Policy() Policy {
	p := Policy{Restart: RestartPolicy{Name: RestartAlways}, Exclusive: s.Exclusive, Volume: s.Claim(), Fixed: s.Cluster}
	switch s.RestartPolicy {
	case PodRestartOnFailure:
		p.Restart.Name = RestartOnFailure
	case PodRestartNever:
		p.Restart.Name = RestartNo
	}
	return p
}
