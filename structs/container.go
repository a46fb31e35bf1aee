package structs

import (
	"fmt"
	"time"
)

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
	Exclusive     Exclusive         `json:",omitempty"` // whether at most one copy may ever run
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

// NamedVolume returns the name of the first volume of the container that is
// kept on its host, "" if it has none.
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

// Container is one container: the user's spec, what is wanted of it, where it
// is placed, and what its host last reported.
type Container struct {
	Meta
	Name    string // 1..255; not unique
	BayID   string
	Spec    ContainerSpec
	Request string // ID of the HTTP request that made it; "" in rows from before this field

	// Wanted: written by the conductor for users.
	Desired          Desired
	Generation       uint64 // raised by every action
	StartGeneration  uint64 // generation of the last action that starts a process, or wakes a paused one; 0 if there was none, or in a row from before this field, where each generation may be one
	RebootGeneration uint64 // generation of the last reboot, 0 if there was none
	KillGeneration   uint64 // generation of the last kill, 0 if there was none
	LimitGeneration  uint64 // generation of the last change of limits, 0 if there was none
	Signal           string // of the last kill, such as SIGHUP
	Force            bool   // with DesiredAbsent: kill, don't stop
	StopTimeout      *int   // seconds, of the last stop, reboot or delete; nil means the spec's

	// Placed: written by the conductor.
	HostID      string // "" while nothing fits
	Epoch       uint64 // raised by each placement; 0 while it was never placed
	PlaceReason string // why it waits for a host, "" if it doesn't
	AssignIndex uint64 `codec:"-"` // index of the last entry that its host has to hear of; written by the state store

	DrainStop bool // stopped because its host is drained and it can't move; wanted running all the same
	// Priors are earlier placements that may still exist, each on another host.
	// Their hosts have them removed. Written by the conductor.
	Priors []Prior

	// Observed: from the agent's reports under the current epoch.
	Observed Observed
	Gone     bool // the host no longer has the container of this epoch; a start places it anew
}

// Table says which table the row belongs to.
func (*Container) Table() Table { return TableContainers }

// StoredSpec is the spec of a container whose spec is larger than MaxInlineSpec.
// Its ID, Seq and ProjectID are the container's. It is written only when the spec changes, so that an
// entry that moves a container, or takes a report of it, is small whatever its spec
// is. Written by the conductor in the entry that writes the container, and deleted
// with it. Nobody else has to look at it: the state store puts the spec into the
// Container that readers get.
type StoredSpec struct {
	Meta
	Spec ContainerSpec
}

// Table says which table the row belongs to.
func (*StoredSpec) Table() Table { return TableSpecs }

// Prior is an earlier placement: the container of one epoch on its host.
type Prior struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	HostID     string
	Epoch      uint64
	Generation uint64 // that it had when the container was placed anew
	Keep       bool   // it is to run on until the newest placement runs; else it is to go
	EngineID   string // the engine's own id of it; "" if that isn't known
}

// PriorOn returns the earlier placement on the host, nil if there is none.
func (c *Container) PriorOn(hostID string) *Prior {
	for i := range c.Priors {
		if c.Priors[i].HostID == hostID {
			return &c.Priors[i]
		}
	}
	return nil
}

// On reports whether the container has a placement on the host, the newest or
// an earlier one.
func (c *Container) On(hostID string) bool {
	return hostID != "" && (c.HostID == hostID || c.PriorOn(hostID) != nil)
}

// Hosts returns the hosts on which the container has a placement. Each of them
// reserves what it asks for.
func (c *Container) Hosts() []string {
	var hosts []string
	if c.HostID != "" {
		hosts = append(hosts, c.HostID)
	}
	for i := range c.Priors {
		hosts = append(hosts, c.Priors[i].HostID)
	}
	return hosts
}

// Reserved returns what the container has reserved of its host: the larger of
// what is wanted and what the engine was last seen to have. The engine may refuse
// lower limits, and the process goes on using what it had.
func (c *Container) Reserved() (memory, milliCPU int64) {
	return max(c.Spec.Memory, c.Observed.Memory), max(c.Spec.MilliCPU, c.Observed.MilliCPU)
}

// LeftOn reports whether something of the container may still run on the host,
// as far as the host has said.
func (c *Container) LeftOn(hostID string) bool {
	if c.HostID != hostID {
		return c.PriorOn(hostID) != nil
	}
	ended := c.Gone || c.Observed.Status == ContainerStopped || c.Observed.Status == ContainerError
	if c.Desired == DesiredAbsent || !c.Settled() || !ended {
		return true
	}
	// One that is restarted always has not ended for long.
	return c.Desired == DesiredRunning && !c.DrainStop && !c.Gone && c.Spec.RestartPolicy.Always()
}

// Movable says why the container isn't placed anew when its host has to do
// without it; "" if it is.
func (c *Container) Movable() (why string) {
	switch {
	case c.Desired != DesiredRunning:
		return "it is not wanted running"
	case !c.Spec.RestartPolicy.Always():
		return fmt.Sprintf("its restart policy is %s, not always", c.Spec.RestartPolicy)
	}
	for _, v := range c.Spec.Volumes {
		if v.Type == MountVolume {
			return fmt.Sprintf("its volume %s is on that host", v.Name)
		}
	}
	return ""
}

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
	Memory       int64           `json:"memory,omitempty"`        // bytes, limit that the engine has; 0 without one, or if the agent doesn't tell
	MilliCPU     int64           `json:"milli_cpu,omitempty"`     // thousandths of a core, likewise
	EngineID     string          `json:"engine_id,omitempty"`     // the engine's own id of the container of this epoch; "" if none was seen, or if the agent doesn't tell
}

// Gone returns what is known of a container of which the engine has nothing left:
// what was seen of it before, as the last word on its process, and what its host
// says of it now. Limits and health were the engine's, and go with it.
func (o Observed) Gone(now Observed) Observed {
	known := o
	known.Status, known.Reason, known.Generation, known.Failed = now.Status, now.Reason, now.Generation, now.Failed
	known.RestartCount = max(o.RestartCount, now.RestartCount)
	known.Health, known.Memory, known.MilliCPU = "", 0, 0
	return known
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
	switch {
	case c.PlaceReason != "":
		return c.PlaceReason
	case c.DrainStop && c.Observed.Status != ContainerUnknown:
		return "it is stopped because its host is being drained; it is started again when the drain ends, or elsewhere once it can move"
	}
	return c.Observed.Reason
}

// Settled reports whether the host has carried out, or given up, all that was
// asked for.
func (c *Container) Settled() bool {
	return c.Observed.Generation >= c.Generation && c.Observed.Status != ""
}
