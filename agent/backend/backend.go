// Package backend says what an agent asks of the engine that runs its work.
//
// Package agent calls it; agent/docker implements it on the Docker engine, and
// backendtest holds the suite that every implementation passes, with an
// in-memory one for tests. It decides nothing: what to start and when is the
// agent's business, and no implementation starts, stops or removes anything of
// its own accord.
package backend

import (
	"context"
	"io"
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

// Ref names one placement of a container. At no instant does an engine have
// two containers of one Ref, but for copies that somebody else has made.
type Ref struct {
	ContainerID string // magnum's UUID
	Epoch       uint64
}

// Entry is a container as List and events show it: enough to find it again.
type Entry struct {
	Ref
	EngineID string // the engine's own id; what all other calls take

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
	return Limits{Memory: spec.Memory, MilliCPU: spec.MilliCPU}
}

// Live reports whether the container has a process, or is about to get one by
// the engine's restart policy.
func (c *Container) Live() bool {
	return c.State == StateRunning || c.State == StatePaused || c.State == StateRestarting
}

// CreateRequest is a container to create.
type CreateRequest struct {
	Owner
	Ref
	ProjectID string
	Name      string // the user's; for messages only
	Spec      *structs.ContainerSpec
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

// ExecStreams are the ends of a command that runs inside a container, or of
// the container's own process.
type ExecStreams struct {
	Stdin  io.Reader // nil for none; its end ends the command's standard input, but not that of the container's own process
	Stdout io.Writer
	Stderr io.Writer             // not used with a TTY
	Resize <-chan structs.Resize // nil for none

	Unstarted bool   // of Attach: a container that was never started is joined, too, and its first run waited for
	Attached  func() // of Attach: called once the streams are joined; nil for nobody
}

// LogStreams are where logs go.
type LogStreams struct {
	Stdout io.Writer
	Stderr io.Writer

	// Again is called, of a follow, when the process has ended and the engine
	// doesn't start it again. It reports whether somebody else does, once that
	// has happened: the follow goes on. nil for never.
	Again func(context.Context) bool
}

// Disk is how full a file system is, as df counts it.
type Disk struct {
	Used int64 // bytes
	Free int64 // bytes that a user without privileges may write
}

// Percent returns how full it is.
func (d Disk) Percent() float64 {
	if d.Used+d.Free <= 0 {
		return 0
	}
	return 100 * float64(d.Used) / float64(d.Used+d.Free)
}

// Backend is an engine. All methods may be called by many goroutines at once,
// except that the agent makes the calls for one container one after another
// (only Kill may come while Stop waits). Methods return a *Failure whose
// Reason is one of the Err values of this package where one fits; ErrAway can
// come from any of them, and says nothing about whether the call was carried
// out.
type Backend interface {
	// Fingerprint describes the host and its engine. The agent adds what
	// the backend can't know: labels, addresses, its own version. Its Engine
	// tells the engine from any other one.
	Fingerprint(ctx context.Context) (structs.Fingerprint, error)

	// Owners returns whose containers the engine has, in whatever state, each once.
	// Those don't count that have their labels from their image.
	Owners(ctx context.Context) ([]Owner, error)

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
	// does. ErrNoImage, ErrInvalid.
	FetchImage(ctx context.Context, spec *structs.ContainerSpec, progress func(string)) error

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

	// Logs writes what the process has written, and, with Follow, goes on
	// until it ends for good: the engine may start it again by its restart
	// policy. With a TTY all of it goes to stdout. Tail may count the lines of
	// both streams even if only one is asked for. ErrNotFound, ErrInvalid,
	// ErrTooSlow: some of the output was dropped from the log before it could be
	// written, and what was written before has a gap at its end.
	Logs(ctx context.Context, engineID string, req structs.LogsRequest, to LogStreams) error

	// Exec runs a command inside the running container until it ends, and
	// returns its exit code. If ctx ends before, Exec ends the command as far
	// as the engine allows, and returns ctx's error. ErrNotFound,
	// ErrNotRunning, ErrInvalid.
	Exec(ctx context.Context, engineID string, req structs.ExecRequest, streams ExecStreams) (exitCode int, err error)

	// Attach joins the streams of the container's own process from now on,
	// until it ends, and returns its exit code; nil if the engine has let go
	// of the streams before, as it does on its detach keys. size is of the
	// terminal, if the container has one. What comes on Stdin is lost unless
	// the spec keeps standard input open. With a terminal, the end of ctx or of
	// Stdin leaves the process as it is; without one, either is the end of the
	// process's standard input. A reader that is slow slows the process down: no
	// output is lost. ErrNotFound, ErrNotRunning.
	Attach(ctx context.Context, engineID string, size structs.Resize, streams ExecStreams) (exitCode *int, err error)

	// Stats calls each with what the container uses now, and with stream once
	// a second until its process ends. Errors of each are returned as they
	// are. ErrNotFound, ErrNotRunning.
	Stats(ctx context.Context, engineID string, stream bool, each func(structs.StatsBody) error) error

	// Top lists the container's processes; args are of ps, as structs.ParsePS
	// reads them. ErrNotFound, ErrNotRunning, ErrInvalid.
	Top(ctx context.Context, engineID, args string) (structs.TopBody, error)

	// ArchiveGet writes a tar stream of what is at path in the container,
	// whether its process runs or not. Errors of w are returned as they are.
	// ErrNotFound, ErrNoPath, ErrInvalid: some of it is on a mount that only
	// the running container sees, such as memory.
	ArchiveGet(ctx context.Context, engineID, path string, w io.Writer) error

	// ArchivePut unpacks a tar stream into the directory at path in the
	// container, whether its process runs or not. What was unpacked before an
	// error stays. Errors of r are returned as they are. ErrNotFound,
	// ErrNoPath, ErrInvalid: the stream is no archive, or some of it would land
	// under a mount that only the running container sees; then nothing was
	// unpacked.
	ArchivePut(ctx context.Context, engineID, path string, r io.Reader) error

	// Images lists the images of the engine, whoever brought them there.
	Images(ctx context.Context) ([]structs.Image, error)

	// PullImage fetches an image, also one that is there already, as Create
	// does: it shares a fetch that is under way, and tells of its progress in
	// sentences. nil credentials mean none. ErrNoImage, ErrInvalid.
	PullImage(ctx context.Context, ref string, creds *structs.Registry, progress func(string)) error

	// LoadImages takes in the images of a tar stream as docker save writes it,
	// and returns their names, or the ID of one without a name. A stream that
	// breaks off leaves no image. Errors of r are returned as they are.
	// ErrInvalid, ErrNoSpace.
	LoadImages(ctx context.Context, r io.Reader) (names []string, err error)

	// RemoveImage removes an image under all of its names; nothing happens if
	// it does not exist. One that any container of the engine is made of, or
	// another image is built on, stays: ErrInUse.
	RemoveImage(ctx context.Context, id string) error

	// Disk tells how full the file system is on which the engine keeps images
	// and containers. An engine elsewhere can't tell: ErrNotFound.
	Disk(ctx context.Context) (Disk, error)

	// Volumes lists the named volumes of a project of a cluster, or of all its
	// projects if the project is "". Volumes that aren't the cluster's are never
	// shown, mounted or removed.
	Volumes(ctx context.Context, clusterID, projectID string) ([]structs.Volume, error)

	// RemoveVolume deletes a named volume of a project and all that is in it.
	// One that a container mounts, whether it runs or not, stays: ErrInUse.
	// ErrNoVolume.
	RemoveVolume(ctx context.Context, clusterID, projectID, name string) error

	// ClaimVolumes makes the volumes from before volumes carried their cluster the
	// owner's cluster's, unless they are another one's. It may be repeated.
	ClaimVolumes(ctx context.Context, owner Owner) error

	// TidyNetworks removes the networks of the owner's projects that no container
	// refers to and has not for a while, or, with all, at once. Create makes what
	// it needs; the networks stay in between because making them takes long.
	TidyNetworks(ctx context.Context, owner Owner, all bool) error

	// NetworkRoom reports whether Create would find a network for one more project.
	NetworkRoom(ctx context.Context) (bool, error)

	// Close frees what the backend holds. No call may be under way.
	Close() error
}
