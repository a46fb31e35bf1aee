// Package backend declares what an agent needs from the engine that runs its workloads.
//
// Package agent is the only caller. It needs a Backend, which runs workloads. Consoles,
// Images, Volumes, Networks and Pods are optional interfaces of a backend; the agent finds
// them by type assertion. agent/docker implements all of them on the Docker engine. Package
// backendtest has a test suite for most, and an engine in memory. A backend decides
// nothing: it starts, stops and removes only what the agent tells it to.
package backend

import (
	"context"
	"net/netip"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Owner is a host of a cluster, as the owner of containers. Every container has its owner
// in its labels. A backend never lists or touches a container of another owner.
type Owner struct {
	ClusterID string // UUID
	HostID    string // UUID
}

// Entry is a container as List and events show it.
type Entry struct {
	structs.Ref        // the placement, or the part of it that the container is
	EngineID    string // the engine's ID, which all other calls take
	Lease       bool   // it runs only under a lease; false also for containers of builds that did not note it
	Attempt     uint64 // see PodPart; 0 for a container

	// These tell the containers of one Ref apart; events don't set them.
	Name      string    // the engine's
	CreatedAt time.Time // by the engine
	Inherited bool      // its labels come from its image: it was made from a container of magnum's, not by magnum
}

// State is the state of a container's process according to the engine.
type State string

// The states.
const (
	StateCreated    State = "created" // never started
	StateRunning    State = "running"
	StatePaused     State = "paused"
	StateRestarting State = "restarting" // between two runs, by the engine's restart policy
	StateExited     State = "exited"
	StateRemoving   State = "removing"
)

// Container is a container as the engine sees it now.
type Container struct {
	Entry
	SpecHash  string // Hash of the spec that it was created from
	ImageID   string // the engine's ID of its image; "" if unknown
	Infra     string // the engine's ID of the infra container that it joins, see PodPart
	State     State
	ExitCode  int       // of the last run, if it has ended
	OOMKilled bool      // a process of the last run, maybe a child, was killed because it needed more than the memory limit
	StartedAt time.Time // of the last run; zero if there was none
	// FinishedAt is of the last run; zero if none has ended. After a quick run it may be
	// a moment before StartedAt.
	FinishedAt   time.Time
	RestartCount int      // restarts by the engine's policy since the last Start
	Addresses    []string // the first one is in the project's network
	Detached     bool     // its process runs without the project's network: somebody has disconnected it
	Ports        []structs.Port
	Error        string // the engine's message about a start that failed
	Limits
	Health string // starting, healthy or unhealthy; "" without a healthcheck, or while no process runs
}

// Limits are the most that a container may use of its host.
type Limits struct {
	Memory   int64 // bytes; 0 means no limit
	MilliCPU int64 // thousandths of a core; 0 means no limit
}

// LimitsOf returns the limits that a spec asks for.
func LimitsOf(spec *structs.ContainerSpec) Limits {
	return Limits{Memory: int64(spec.Memory), MilliCPU: int64(spec.MilliCPU)}
}

// Live reports whether the container has a process, or is about to get one by
// the engine's restart policy.
func (c *Container) Live() bool {
	return c.State == StateRunning || c.State == StatePaused || c.State == StateRestarting
}

// CreateRequest is a container to create.
type CreateRequest struct {
	Owner
	structs.Ref
	ProjectID string
	Name      string // the user's; for messages only
	Spec      *structs.ContainerSpec
	Registry  *structs.Registry   // credentials for the pull of its image; nil means none
	Pod       *PodPart            // of a part of a pod, else nil
	Fetched   bool                // FetchImage has just returned nil for the spec, so the pull policy is satisfied
	Avoid     func() []netip.Addr // addresses that a network made for the project must not contain; nil for none

	// What the container is told of services, none of it part of the spec's hash: another
	// container isn't made because services change. The spec's own variables win. Names
	// does nothing for a container that joins an infra container.
	Variables map[string]string
	Names     *Names // nil means as the engine does
}

// EventKind says what happened to a container.
type EventKind string

// The event kinds. A backend may report others as EventChanged.
const (
	EventCreated EventKind = "created"
	EventRemoved EventKind = "removed"
	EventChanged EventKind = "changed" // started, died, paused, renamed, ...
	EventImage   EventKind = "image"   // an image was pulled, loaded or tagged
	EventNetwork EventKind = "network" // connected to a network, or disconnected from one
)

// Event says that something has happened to a container, or to an image. It says where to
// look, not what is the case now.
type Event struct {
	Entry // zero for an image; of EventNetwork, only EngineID is set, and the container may be anybody's
	Kind  EventKind
	Image string // the image's name as somebody has written it; "" if unknown
}

// Backend is what every engine provides. All methods of all interfaces of this package are
// safe for concurrent use, but the agent makes the calls for one container one after
// another, except for a Kill during a Stop. Methods return a *Failure, whose Reason is one
// of the Err values of this package if one fits. Any method may return ErrAway, which does
// not say whether the call was carried out.
type Backend interface {
	Host
	Runtime

	// Close releases resources. No call may be in progress.
	Close() error
}

// Host describes the host and its engine.
type Host interface {
	// Fingerprint describes the host and its engine. Its Engine tells the engine from
	// any other. The agent adds labels, addresses and its own version.
	Fingerprint(ctx context.Context) (structs.Fingerprint, error)

	// Owners returns the owners of the engine's containers, in whatever state, each
	// once. Containers that have their labels from their image don't count.
	Owners(ctx context.Context) ([]Owner, error)
}

// Runtime runs workloads.
type Runtime interface {
	// List returns all containers with the owner's labels, in whatever state, copies
	// included. The agent knows which of several containers of a Ref is magnum's.
	List(ctx context.Context, owner Owner) ([]Entry, error)

	// Events calls ready once events are being recorded, and then event, from one
	// goroutine, for each event of the owner's containers, of any image, and of any network. No event
	// after ready is lost; an event may come twice. Events blocks until the stream ends
	// and returns the reason, which is never nil.
	Events(ctx context.Context, owner Owner, ready func(), event func(Event)) error

	// Inspect returns the container as it is now. ErrNotFound.
	Inspect(ctx context.Context, engineID string) (*Container, error)

	// FetchImage fetches the image of a spec as its pull policy says, as Create does.
	// nil credentials mean none. ErrNoImage, ErrInvalid.
	FetchImage(ctx context.Context, project string, spec *structs.ContainerSpec, creds *structs.Registry, progress func(string)) error

	// Create creates the container and doesn't start it. It first fetches the image as
	// the spec's pull policy says, however long that takes. It calls progress
	// repeatedly with a sentence for the user. It asks a registry that is away a few
	// times within seconds and then returns ErrNoImage. All requests for one image
	// share one fetch. If a container with the same owner, ref and spec exists, Create
	// returns that: Create may be repeated. ErrNoImage, ErrNameTaken, ErrInvalid.
	// ErrNoNetwork: no network is left for the project, because the engine has
	// containers of too many projects. Of a container that joins an infra container:
	// ErrNoInfra, ErrConfig.
	Create(ctx context.Context, req CreateRequest, progress func(string)) (*Container, error)

	// Start starts the process. It does nothing if the process runs. ErrNotFound,
	// ErrPortTaken. ErrStart: the fault is not the host's; Create may find that out, too.
	// ErrNoInfra: a container that joins an infra container starts only
	// while that one runs. Later it lives on without it, but without a network, unless it
	// shares its processes.
	Start(ctx context.Context, engineID string) error

	// Stop asks the process to end, kills it after timeout, and returns when it has
	// ended. It does nothing if no process runs. The engine won't restart the process.
	// The end of ctx ends only the wait. ErrNotFound.
	Stop(ctx context.Context, engineID string, timeout time.Duration) error

	// Kill ends the process at once. It does nothing if no process runs. The engine
	// won't restart the process. ErrNotFound.
	Kill(ctx context.Context, engineID string) error

	// Reconnect connects a container that is Detached to its project's network, with another
	// address and with its published ports. It does nothing if the container isn't Detached,
	// and must not be called for one that joins an infra container. ErrNotFound,
	// ErrPortTaken.
	Reconnect(ctx context.Context, engineID string) error

	// Signal sends the process a signal, such as SIGHUP, and waits for the end after a
	// SIGKILL. After any signal, the engine won't restart the process at its next end.
	// A frozen process is thawed. ErrNotFound, ErrNotRunning, ErrInvalid for a name
	// that the engine doesn't know.
	Signal(ctx context.Context, engineID, signal string) error

	// Update changes the limits of the container, whether its process runs or not.
	// ErrNotFound, ErrInvalid.
	Update(ctx context.Context, engineID string, limits Limits) error

	// Pause freezes the process. It does nothing if the process is frozen.
	// ErrNotFound, ErrNotRunning.
	Pause(ctx context.Context, engineID string) error

	// Unpause thaws the process. It does nothing if the process isn't frozen.
	// ErrNotFound.
	Unpause(ctx context.Context, engineID string) error

	// Remove removes the container, and kills its process if it has one. Named volumes
	// stay. It does nothing if the container doesn't exist.
	Remove(ctx context.Context, engineID string) error
}
