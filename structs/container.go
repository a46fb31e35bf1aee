package structs

import "time"

// The tables of containers.
const (
	TableContainers Table = "containers" // Container
	TableSpecs      Table = "specs"      // StoredSpec
)

// KindContainer names containers in URLs, error codes and messages.
const KindContainer = "container"

// Desired is the state that a user wants for a container. The conductor writes
// it, and the agent reconciles to it.
type Desired string

// The desired states.
const (
	DesiredCreated Desired = "created" // exists, never started
	DesiredRunning Desired = "running"
	DesiredStopped Desired = "stopped"
	DesiredPaused  Desired = "paused"
	DesiredAbsent  Desired = "absent"
)

// ContainerStatus is a container's status in the API.
type ContainerStatus string

// The container statuses.
const (
	ContainerCreating ContainerStatus = "Creating"
	ContainerStopped  ContainerStatus = "Stopped" // also: created and never started
	ContainerRunning  ContainerStatus = "Running"
	ContainerPaused   ContainerStatus = "Paused"
	ContainerError    ContainerStatus = "Error"
	ContainerUnknown  ContainerStatus = "Unknown" // its host is lost
	ContainerDeleting ContainerStatus = "Deleting"
	// ContainerGone means that the host has no such container. Only agents
	// report it.
	ContainerGone ContainerStatus = "Gone"
)

// RestartPolicy says what happens when a container's process ends by itself.
type RestartPolicy struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name       string // one of the Restart constants
	MaxRetries int    // for on-failure; 0 means no limit
}

// The restart policies. With always and unless-stopped alike, the container is
// started again until a user stops it.
const (
	RestartNo            = "no"
	RestartOnFailure     = "on-failure"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
)

// Always reports whether the container is to run until a user stops it.
func (p RestartPolicy) Always() bool {
	return p.Name == RestartAlways || p.Name == RestartUnlessStopped
}

// Port is a port of the container that is published on its host.
type Port struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ContainerPort int    `json:"container_port"`              // 1..65535
	HostPort      int    `json:"host_port"`                   // 0 means any free port; in a status, the port in use
	Protocol      string `json:"protocol" codec:",omitempty"` // tcp or udp
}

// Mount is a volume of a container: a named volume of the project on the
// host, or a tmpfs.
type Mount struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc Name of the volume; absent for a tmpfs.
	Name     string `json:"name,omitempty"`
	Target   string `json:"target"`         // absolute path in the container
	Type     string `json:"type,omitempty"` // volume or tmpfs
	ReadOnly bool   `json:"read_only,omitempty"`
	Size     int64  `json:"size,omitempty"` // bytes, of a tmpfs only; 0 means the engine's default
}

// The mount types.
const (
	MountVolume = "volume" // a named volume of the project; it stays on the host until it is deleted
	MountTmpfs  = "tmpfs"  // memory; it ends with the container
)

// ContainerSpec is what the user wants a container to be. Only the user's PATCH
// changes it. ContainerRequest and ContainerBody embed it, rows hold it, and agents
// get it. Values that must not be shown are in Secrets.
//
// JSON has the names and values of the REST API. Rows have the names of the codec
// tags. A JSON null is the field's zero value. The tag api:"-" marks a field that
// requests and answers have in another form. The tag api:"set" marks a field that is
// never null in answers.
//
// A new field is declared here, limited in check, carried out by the backends
// (agent/docker) and set by a flag (command/container_flags.go). Requests, rows,
// answers, agents, the OpenAPI document and the hash of the spec include it
// automatically. Shown also handles a field that is a list or a map, or that has a
// default. A field that is read in several forms has a type of its own, which
// rest/wire reads.
type ContainerSpec struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc Image, as [registry/]name[:tag].
	Image       string            `json:"image_id" codec:"Image"`
	Command     []string          `json:"command,omitzero" codec:"Command"`                  // nil means the image's own
	CommandText string            `json:"command_text,omitzero" codec:"CommandText" api:"-"` // "" if the command was given as a list
	Entrypoint  Words             `json:"entrypoint" codec:"Entrypoint"`                     // nil means the image's own
	Environment map[string]string `json:"environment" codec:"Environment"`
	Labels      map[string]string `json:"labels" codec:"Labels"`
	Workdir     Text              `json:"workdir" codec:"Workdir"`
	Hostname    Text              `json:"hostname" codec:"Hostname"` // "" means the container's UUID, as in 2015
	User        Text              `json:"user" codec:"User"`
	Ports       []Port            `json:"ports" codec:"Ports"`
	Memory      Bytes             `json:"memory" codec:"Memory"` // limit and reservation; 0 means no limit
	MilliCPU    MilliCPU          `json:"cpu" codec:"MilliCPU"`  // limit and reservation; 0 means no limit
	//api:doc no, on-failure[:n], always or unless-stopped.
	RestartPolicy RestartPolicy `json:"restart_policy" codec:"RestartPolicy"`
	Volumes       []Mount       `json:"volumes" codec:"Volumes"`
	//api:doc Seconds between SIGTERM and SIGKILL.
	StopTimeout *int `json:"stop_timeout" codec:"StopTimeout" api:"set"` // nil means DefaultStopTimeout
	TTY         bool `json:"tty" codec:"TTY"`
	Stdin       bool `json:"stdin" codec:"Stdin"` // keep standard input open
	//api:doc Delete the container once its process has ended.
	AutoRemove bool `json:"auto_remove" codec:"AutoRemove"`
	//api:doc ifnotpresent, always or never.
	PullPolicy string `json:"image_pull_policy" codec:"PullPolicy"`
	//api:doc Labels that the host must carry.
	Constraints map[string]string `json:"constraints" codec:"Constraints"`
	//api:doc Largest size of each of the three log files, in bytes.
	LogMaxSize Bytes `json:"log_max_size" codec:"LogMaxSize" api:"set"` // bytes; 0 means DefaultLogMaxSize
	//api:doc Health check; null means the image's own, if it has one.
	Healthcheck *Healthcheck `json:"healthcheck" codec:"Healthcheck"`
	//api:doc Whether at most one copy may ever run, even while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive" codec:"Exclusive"`
}

// Secrets holds the secrets of a request. No answer shows them. Rows keep them, and
// the container's host gets them beside the spec.
type Secrets struct {
	//api:doc Credentials for pulling the image. They are never shown.
	Registry *Registry `json:"registry,omitempty" codec:"Registry"` // nil means none
}

// PrivateSpec is a spec with its secrets, as rows hold it. Both are encoded as one
// object.
type PrivateSpec struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ContainerSpec
	Secrets `json:"-" codec:",omitempty"`
}

// Healthcheck is a command that the engine runs in the container to check its
// health. A zero number means the engine's default.
//
//api:doc A command that the engine runs in the container to check its health.
type Healthcheck struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc Command to run; a string is given to a shell. An empty list turns off the image's own check.
	Test Command `json:"test"`
	//api:doc Seconds between two checks; 0 or absent means the engine's default.
	Interval int `json:"interval,omitempty"`
	Timeout  int `json:"timeout,omitempty"` // seconds that one check may take
	//api:doc Failures in a row that make the container unhealthy; 0 or absent means the engine's default.
	Retries int `json:"retries,omitempty"`
	//api:doc Seconds after the start in which failures don't count.
	StartPeriod int `json:"start_period,omitempty"`
}

// Registry holds the credentials for pulling an image. They are never shown, and
// never formatted into a message or a log.
//
//api:doc Credentials for pulling the image. They are never shown.
type Registry struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Username string `json:"username"`
	Password string `json:"password"`
	Server   string `json:"server,omitempty"` // "" means the server that the image names
}

// String hides the credentials.
func (Registry) String() string { return "(credentials)" }

// GoString hides the credentials.
func (Registry) GoString() string { return "structs.Registry{}" }

// StopSeconds returns the seconds between SIGTERM and SIGKILL.
func (s *ContainerSpec) StopSeconds() int {
	if s.StopTimeout != nil {
		return *s.StopTimeout
	}
	return DefaultStopTimeout
}

// NamedVolume returns the name of the container's first named volume, "" if it
// has none.
func (s *ContainerSpec) NamedVolume() string {
	for _, m := range s.Volumes {
		if m.Name != "" {
			return m.Name
		}
	}
	return ""
}

// The pull policies.
const (
	PullIfNotPresent = "ifnotpresent"
	PullAlways       = "always"
	PullNever        = "never"
)

// Container is one container: the user's spec, the desired state, the placement,
// and what its host last reported.
type Container struct {
	Meta
	Placement
	Name    string // 1..255; not unique
	Spec    PrivateSpec
	Request string // ID of the HTTP request that created it; "" in rows from before this field

	// Desired: written by the conductor for users.
	RebootGeneration uint64 // generation of the last reboot; 0 if there was none
	KillGeneration   uint64 // generation of the last kill; 0 if there was none
	LimitGeneration  uint64 // generation of the last change of limits; 0 if there was none
	Signal           string // of the last kill, such as SIGHUP
	StopTimeout      *int   // seconds, of the last stop, reboot or delete; nil means the spec's

	Observed Observed // from the agent's reports under the current epoch
}

// Table says which table the row belongs to.
func (*Container) Table() Table { return TableContainers }

// RowName returns the container's name.
func (c *Container) RowName() string { return c.Name }

// StoredSpec is a spec that is larger than MaxInlineSpec, in a row of its own. Its ID is
// the workload's BesideID; Seq and ProjectID are the workload's. It is written only when
// the spec changes, so entries that move a workload or take a report stay small. The
// conductor writes it in the entry that writes the workload, and deletes it with the
// workload. Readers don't need this row: the state store puts the spec into the workload.
type StoredSpec struct {
	Meta
	Spec PrivateSpec // of a container
	Pod  *PodSpec    // of a pod; nil for a container
}

// Table says which table the row belongs to.
func (*StoredSpec) Table() Table { return TableSpecs }

// Specced is a workload whose spec may be in a row of its own.
type Specced interface {
	Workload
	Named

	StoredSpec() *StoredSpec // the spec as a row of its own, which shares its content
	SetSpec(*StoredSpec)     // replaces the spec; nil leaves an empty one
}

// StoredSpec returns the spec as a row of its own.
func (c *Container) StoredSpec() *StoredSpec {
	return &StoredSpec{Meta: Meta{ID: c.Ref().BesideID(), Seq: c.Seq, ProjectID: c.ProjectID}, Spec: c.Spec}
}

// SetSpec replaces the spec; nil leaves an empty one.
func (c *Container) SetSpec(s *StoredSpec) {
	if c.Spec = (PrivateSpec{}); s != nil {
		c.Spec = s.Spec
	}
}

// Ref returns the reference of the newest placement.
func (c *Container) Ref() Ref { return ContainerRef(c.ID, c.Epoch) }

// Copy returns a copy of the row.
func (c *Container) Copy() Workload { return new(*c) }

// Demand returns what the spec asks of a host.
func (c *Container) Demand() Demand {
	return Demand{Memory: int64(c.Spec.Memory), MilliCPU: int64(c.Spec.MilliCPU), Ports: c.Spec.Ports, Constraints: c.Spec.Constraints}
}

// Reserved returns what is reserved on the host: the larger of the demand and of
// the limits that the engine last reported. The engine may refuse lower limits, and
// the process then keeps the earlier ones.
func (c *Container) Reserved() Demand {
	d := c.Demand()
	d.Memory, d.MilliCPU = max(d.Memory, c.Observed.Memory), max(d.MilliCPU, c.Observed.MilliCPU)
	return d
}

// Policy returns the part of the spec that decides whether the container is placed
// again.
func (c *Container) Policy() Policy {
	return Policy{Restart: c.Spec.RestartPolicy, Exclusive: c.Spec.Exclusive, AutoRemove: c.Spec.AutoRemove, Volume: c.Spec.NamedVolume()}
}

// Seen returns the fields of Observed that all kinds of workloads have.
func (c *Container) Seen() Seen {
	o := &c.Observed
	return Seen{Status: o.Status, Reason: o.Reason, Generation: o.Generation, Failed: o.Failed, Health: o.Health, EngineID: o.EngineID,
		StartedAt: o.StartedAt, FinishedAt: o.FinishedAt}
}

// See sets the fields of Observed that all kinds of workloads have.
func (c *Container) See(s Seen) {
	o := &c.Observed
	o.Status, o.Reason, o.Generation, o.Failed, o.Health, o.EngineID = s.Status, s.Reason, s.Generation, s.Failed, s.Health, s.EngineID
	o.StartedAt, o.FinishedAt = s.StartedAt, s.FinishedAt
}

// Ready reports whether the container runs, and is healthy if it has a health check.
func (c *Container) Ready() bool {
	return c.Observed.Status == ContainerRunning && (c.Observed.Health == "" || c.Observed.Health == "healthy")
}

// StartTime returns the start period of the spec's health check, and the interval after
// which the engine makes the first one.
func (c *Container) StartTime() time.Duration {
	h := c.Spec.Healthcheck
	if h == nil {
		return 0
	}
	return time.Duration(h.StartPeriod+h.Interval) * time.Second
}

// Forget drops all observations.
func (c *Container) Forget() { c.Observed = Observed{} }

// Left drops a pending kill, which was meant for the earlier placement's process.
func (c *Container) Left() { c.KillGeneration, c.Signal = 0, "" }

// LeftOn reports whether the container may still run on the host, by the host's
// last report.
func (c *Container) LeftOn(hostID string) bool { return LeftOn(c, hostID) }

// Movable returns why the container can't move to another host; "" if it can.
func (c *Container) Movable() (why string) { return Movable(c) }

// Observed is what an agent last saw of a container.
type Observed struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc What the agent last saw: Creating, Stopped, Running, Paused, Error or Gone.
	Status     ContainerStatus `json:"status"`           // Creating, Stopped, Running, Paused, Error or Gone; "" before the first report
	Reason     string          `json:"reason,omitempty"` // what happened and what to do
	Generation uint64          `json:"generation"`       // newest generation that the agent has carried out or abandoned
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health string `json:"health,omitempty"` // "" without a health check
	Failed bool   `json:"failed,omitempty"` // the action of Generation failed; Reason says why
	//api:doc Exit code of the last run; null if no run has ended.
	ExitCode   *int      `json:"exit_code,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`  // of the last run
	FinishedAt time.Time `json:"finished_at,omitzero"` // of the last run
	//api:doc Number of starts by the restart policy.
	RestartCount int `json:"restart_count,omitempty"` // in this epoch
	//api:doc IP addresses in the project's network.
	Addresses []string `json:"addresses,omitempty"`
	Ports     []Port   `json:"ports,omitempty"`     // as published
	Memory    int64    `json:"memory,omitempty"`    // the engine's limit in bytes; 0 means no limit, or that the agent doesn't report it
	MilliCPU  int64    `json:"milli_cpu,omitempty"` // the engine's limit in thousandths of a core; 0 likewise
	EngineID  string   `json:"engine_id,omitempty"` // the engine's ID in this epoch; "" if none was seen, or the agent doesn't report it
}

// Gone returns the observation of a container that the engine no longer has. It
// keeps what was observed of the process, and takes status, reason and generation
// from now. Limits and health are dropped: they were the engine's.
func (o Observed) Gone(now Observed) Observed {
	known := o
	known.Status, known.Reason, known.Generation, known.Failed = now.Status, now.Reason, now.Generation, now.Failed
	known.RestartCount = max(o.RestartCount, now.RestartCount)
	known.Health, known.Memory, known.MilliCPU = "", 0, 0
	return known
}

// Status returns the status that the API shows.
func (c *Container) Status() ContainerStatus { return statusOf(&c.Placement, c.Observed.Status) }

// StatusReason returns the reason that the API shows with the status.
func (c *Container) StatusReason() string { return StatusReasonOf(c) }

// Done reports whether the host has carried out or abandoned the newest
// generation.
func (c *Container) Done() bool { return Done(c) }
