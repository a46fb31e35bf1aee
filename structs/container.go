package structs

import "time"

// Desired is what a user wants of a container. The conductor writes it; the
// agent makes it so.
type Desired string

// The desired states.
const (
	DesiredCreated Desired = "created" // exists, never started
	DesiredRunning Desired = "running"
	DesiredStopped Desired = "stopped"
	DesiredPaused  Desired = "paused"
	DesiredAbsent  Desired = "absent"
)

// ContainerStatus is the word that the API shows for a container.
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
	// ContainerGone is only ever reported by agents: there is no such
	// container on the host (any more).
	ContainerGone ContainerStatus = "Gone"
)

// RestartPolicy says what happens when a container's process ends by itself.
type RestartPolicy struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name       string // one of the Restart constants
	MaxRetries int    // for on-failure; 0 means without end
}

// The restart policies. always and unless-stopped mean the same: the container
// is started again until a user stops it.
const (
	RestartNo            = "no"
	RestartOnFailure     = "on-failure"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
)

// Always reports whether the container is wanted running until a user stops it.
func (p RestartPolicy) Always() bool {
	return p.Name == RestartAlways || p.Name == RestartUnlessStopped
}

// Port publishes a port of the container on its host.
type Port struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ContainerPort int    `json:"container_port"`              // 1..65535
	HostPort      int    `json:"host_port"`                   // 0 means any free one; in a status, the one in use
	Protocol      string `json:"protocol" codec:",omitempty"` // tcp or udp
}

// Mount is a volume of a container: a named volume of the project on the
// host, or a tmpfs.
type Mount struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name     string `json:"name,omitempty"` // of the volume, "" for a tmpfs
	Target   string `json:"target"`         // absolute path in the container
	Type     string `json:"type,omitempty"` // volume or tmpfs
	ReadOnly bool   `json:"read_only,omitempty"`
	Size     int64  `json:"size,omitempty"` // bytes, of a tmpfs; 0 means the engine's default
}

// The mount types.
const (
	MountVolume = "volume" // a named volume of the project, kept on the host until it is deleted
	MountTmpfs  = "tmpfs"  // memory, gone with the container
)

// ContainerSpec is what a user asked for. It never changes except by the
// user's own PATCH.
type ContainerSpec struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Image         string
	Command       []string // nil means the image's own
	CommandText   string   // the command as it was given, if it was given as a string
	Entrypoint    []string // nil means the image's own
	Environment   map[string]string
	Labels        map[string]string
	Workdir       string
	Hostname      string // "" means the container's UUID, as in 2015
	User          string
	Ports         []Port
	Memory        int64 // bytes, limit and reservation; 0 means no limit
	MilliCPU      int64 // thousandths of a core, limit and reservation; 0 means no limit
	RestartPolicy RestartPolicy
	Volumes       []Mount
	StopTimeout   *int // seconds between SIGTERM and SIGKILL; nil means DefaultStopTimeout
	TTY           bool
	Stdin         bool // keep standard input open
	AutoRemove    bool // delete the container once its process has ended
	PullPolicy    string
	Constraints   map[string]string // labels that its host must carry
	LogMaxSize    int64             // bytes of one of three log files; 0 means DefaultLogMaxSize
	Healthcheck   *Healthcheck      // nil means the image's own, if it has one
	Registry      *Registry         // credentials for the pull; nil means none
}

// Healthcheck is a command that the engine runs in the container to find out
// whether it works. A field that is zero takes the engine's default.
type Healthcheck struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Test        Command `json:"test"`                   // the command; a string is given to a shell. None of it: no check, not even the image's own
	Interval    int     `json:"interval,omitempty"`     // seconds between two checks
	Timeout     int     `json:"timeout,omitempty"`      // seconds that one may take
	Retries     int     `json:"retries,omitempty"`      // failures in a row that make it unhealthy
	StartPeriod int     `json:"start_period,omitempty"` // seconds after the start in which failures don't count
}

// Registry is the credentials for pulling an image. They are never shown.
type Registry struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Username string `json:"username"`
	Password string `json:"password"`
	Server   string `json:"server,omitempty"` // "" means the one that the image names
}

// StopSeconds returns the seconds between SIGTERM and SIGKILL.
func (s *ContainerSpec) StopSeconds() int {
	if s.StopTimeout != nil {
		return *s.StopTimeout
	}
	return DefaultStopTimeout
}

// The pull policies.
const (
	PullIfNotPresent = "ifnotpresent"
	PullAlways       = "always"
	PullNever        = "never"
)

// Container is one container: the user's spec, what is wanted of it, where it
// is placed, and what its host last reported.
type Container struct {
	Meta
	Name  string // 1..255; not unique
	BayID string
	Spec  ContainerSpec

	// Wanted: written by the conductor for users.
	Desired          Desired
	Generation       uint64 // raised by every action
	RebootGeneration uint64 // generation of the last reboot, 0 if there was none
	KillGeneration   uint64 // generation of the last kill, 0 if there was none
	Signal           string // of the last kill, such as SIGHUP
	Force            bool   // with DesiredAbsent: kill, don't stop
	StopTimeout      *int   // seconds, of the last stop, reboot or delete; nil means the spec's

	// Placed: written by the conductor.
	HostID      string // "" while nothing fits
	Epoch       uint64 // raised by each placement; 0 while it was never placed
	PlaceReason string // why it waits for a host, "" if it doesn't
	AssignIndex uint64 `codec:"-"` // index of the last entry that its host has to hear of; written by the state store

	// Observed: from the agent's reports under the current epoch.
	Observed Observed
	Gone     bool // the host no longer has the container of this epoch; a start places it anew
}

// Table says which table the row belongs to.
func (*Container) Table() Table { return TableContainers }

// Observed is what an agent last saw of a container.
type Observed struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Status       ContainerStatus `json:"status"`                  // Creating, Stopped, Running, Paused, Error or Gone; "" before the first report
	Reason       string          `json:"reason,omitempty"`        // what happened and what to do
	Generation   uint64          `json:"generation"`              // the newest generation that the agent has carried out, or given up
	Health       string          `json:"health,omitempty"`        // starting, healthy or unhealthy; "" without a healthcheck
	Failed       bool            `json:"failed,omitempty"`        // the action of that generation failed; Reason says why
	ExitCode     *int            `json:"exit_code,omitempty"`     // of the last run, nil if it never ended
	StartedAt    time.Time       `json:"started_at,omitzero"`     // of the last run
	FinishedAt   time.Time       `json:"finished_at,omitzero"`    // of the last run
	RestartCount int             `json:"restart_count,omitempty"` // starts by the restart policy in this epoch
	Addresses    []string        `json:"addresses,omitempty"`     // in the project's network
	Ports        []Port          `json:"ports,omitempty"`         // as published
}

// Status returns the status that the API shows.
func (c *Container) Status() ContainerStatus {
	switch {
	case c.Desired == DesiredAbsent:
		return ContainerDeleting
	case c.Observed.Status == "":
		return ContainerCreating
	}
	return c.Observed.Status
}

// StatusReason returns the sentence that the API shows beside the status.
func (c *Container) StatusReason() string {
	if c.PlaceReason != "" {
		return c.PlaceReason
	}
	return c.Observed.Reason
}

// Settled reports whether the host has carried out, or given up, all that was
// asked for.
func (c *Container) Settled() bool {
	return c.Observed.Generation >= c.Generation && c.Observed.Status != ""
}
