// Package backend says what an agent asks of the engine that runs its work.
//
// Package agent is the only caller. It needs a Backend, which runs workloads;
// Consoles, Images, Volumes and Networks are interfaces that a backend may
// implement besides, and the agent finds them with a type assertion. agent/docker
// implements all of them on the Docker engine, and backendtest holds one suite
// for each, with an in-memory engine for tests. A backend decides nothing: it
// starts, stops and removes only what the agent tells it to.
package backend

import (
	"context"
	"net/netip"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Owner says whose containers are meant: the host's in its cluster. Every
// container carries it in its labels; a backend never shows or touches one
// of another owner.
type Owner struct {
	ClusterID string // UUID
	HostID    string // UUID
}

// Entry is a container as List and events show it: enough to find it again.
type Entry struct {
	structs.Ref        // the placement, and the part of it that the container is
	EngineID    string // the engine's own id; what all other calls take
	Lease       bool   // it was made to run only under a lease; false also of those of an earlier build, which did not note it

	// What tells containers of one Ref from each other; events don't say it.
	Name      string    // the engine's
	CreatedAt time.Time // by the engine
	Inherited bool      // its labels are those of its image: it was made from one of magnum's containers, not by magnum
}

// State is what an engine says of a container's process.
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
	SpecHash     string // Hash of the spec that it was created from
	State        State
	ExitCode     int       // of the last run, if it has ended
	OOMKilled    bool      // the last run ended because its memory did not suffice
	StartedAt    time.Time // of the last run; zero if there was none
	FinishedAt   time.Time // of the last run; zero if none has ended; after a quick one it may lie a moment before StartedAt
	RestartCount int       // restarts by the engine's policy since the last Start
	Addresses    []string  // in the project's network
	Ports        []structs.Port
	Error        string // what the engine says of a start that failed
	Limits
	Health string // starting, healthy or unhealthy; "" without a healthcheck, or while no process runs
}

// Limits are what a container may use of its host.
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
	Fetched   bool                // FetchImage has just returned nil for the spec: the pull policy is served
	Avoid     func() []netip.Addr // what a network that is made for the project must not have in it; nil for nothing
}

// EventKind says what happened to a container.
type EventKind string

// The event kinds. A backend may report others as EventChanged.
const (
	EventCreated EventKind = "created"
	EventRemoved EventKind = "removed"
	EventChanged EventKind = "changed" // started, died, paused, renamed, ...
	EventImage   EventKind = "image"   // an image has come: pulled, loaded, tagged
)

// Event says that something happened to a container, or to an image. It tells
// where to look, not what is the case now.
type Event struct {
	Entry // zero for an image
	Kind  EventKind
	Image string // the image's name, as somebody has written it; "" if it is not known
}

// Backend is what every engine has to offer: it describes itself and runs
// workloads. All methods of all interfaces of this package may be called by many
// goroutines at once, except that the agent makes the calls for one container one
// after another (only Kill may come while Stop waits). Methods return a *Failure
// whose Reason is one of the Err values of this package where one fits; ErrAway
// can come from any of them, and says nothing about whether the call was carried
// out.
type Backend interface {
	Host
	Runtime

	// Close frees what the backend holds. No call may be under way.
	Close() error
}

// Host describes the host and its engine.
type Host interface {
	// Fingerprint describes the host and its engine. The agent adds what
	// the backend can't know: labels, addresses, its own version. Its Engine
	// tells the engine from any other one.
	Fingerprint(ctx context.Context) (structs.Fingerprint, error)

	// Owners returns whose containers the engine has, in whatever state, each once.
	// Those don't count that have their labels from their image.
	Owners(ctx context.Context) ([]Owner, error)
}

// Runtime runs workloads.
type Runtime interface {
	// List returns all containers of the owner, in whatever state, and those that
	// carry the labels of one. Which of several of a Ref is magnum's, the agent knows.
	List(ctx context.Context, owner Owner) ([]Entry, error)

	// Events calls ready once events are being recorded, and then event for
	// each one of the owner's containers and of any image, from one goroutine. Nothing that
	// happens after the call of ready is lost; something may come twice. It
	// blocks until the stream ends, and returns why: never nil.
	Events(ctx context.Context, owner Owner, ready func(), event func(Event)) error

	// Inspect returns the container as it is now. ErrNotFound.
	Inspect(ctx context.Context, engineID string) (*Container, error)

	// FetchImage fetches the image of a spec as its pull policy says, as Create
	// does. nil credentials mean none. ErrNoImage, ErrInvalid.
	FetchImage(ctx context.Context, spec *structs.ContainerSpec, creds *structs.Registry, progress func(string)) error

	// Create makes the container, but doesn't start it. It first fetches the
	// image as the spec's pull policy says, however long that takes;
	// progress is called now and then with a sentence for the user. A
	// registry that is away is asked a few times within seconds, and then the
	// answer is ErrNoImage. All requests for one image share one fetch. If the container exists already and is the same
	// (owner, ref, spec), it is returned: Create may be repeated.
	// ErrNoImage, ErrNameTaken, ErrInvalid, ErrNoNetwork: the engine has
	// containers of so many projects that there is no network for this one's.
	Create(ctx context.Context, req CreateRequest, progress func(string)) (*Container, error)

	// Start starts the process; nothing happens if it runs. ErrNotFound,
	// ErrPortTaken.
	Start(ctx context.Context, engineID string) error

	// Stop asks the process to end, kills it after timeout, and returns when
	// it has ended; nothing happens if it doesn't run. The engine won't
	// restart it. A done ctx ends the wait only. ErrNotFound.
	Stop(ctx context.Context, engineID string, timeout time.Duration) error

	// Kill ends the process at once; nothing happens if it doesn't run. The
	// engine won't restart it. ErrNotFound.
	Kill(ctx context.Context, engineID string) error

	// Signal sends the process a signal, such as SIGHUP; a SIGKILL is waited
	// for. Whatever the signal, the engine won't restart the process at its
	// next end, and it thaws it if it is frozen. ErrNotFound, ErrNotRunning,
	// ErrInvalid for a name that the engine doesn't know.
	Signal(ctx context.Context, engineID, signal string) error

	// Update changes the limits of the container, whether its process runs or
	// not. ErrNotFound, ErrInvalid.
	Update(ctx context.Context, engineID string, limits Limits) error

	// Pause freezes the process; nothing happens if it is frozen.
	// ErrNotFound, ErrNotRunning.
	Pause(ctx context.Context, engineID string) error

	// Unpause thaws the process; nothing happens if it isn't frozen.
	// ErrNotFound.
	Unpause(ctx context.Context, engineID string) error

	// Remove deletes the container, killing its process if it still has one.
	// Named volumes stay; nothing happens if it does not exist.
	Remove(ctx context.Context, engineID string) error
}
