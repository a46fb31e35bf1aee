// Package backendtest tests backends. It has a suite for each interface of package
// backend, and Fake, an engine in memory that passes all of them, for the tests of
// package agent. No program imports it.
package backendtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
	"github.com/stackforge/magnum/structs"
)

// Fake is a backend on an engine in memory. Its containers run the shell commands that
// userland.Run knows. It behaves as Docker does where package agent can tell. Each
// interface of package backend has a type of its own, which shares only the engine with
// the others.
type Fake struct {
	// Fault is called at each seam: with "op" before the call, and with "op done" after
	// its effect. An error of Fault fails the call. Set it before the engine is used;
	// it is called concurrently.
	Fault func(op string, ref structs.Ref) error

	backend.Host
	backend.Runtime
	backend.Consoles
	backend.Images
	backend.Volumes
	backend.Networks
	backend.Pods

	Outside *Outside // acts behind the agent's back
	Seen    *Seen    // counts what has happened
}

// engine is the state that the types of a Fake share.
type engine struct {
	seam *func(op string, ref structs.Ref) error // Fake.Fault

	mu         sync.Mutex
	identity   structs.EngineIdentity
	touched    []string // calls on copies
	down       bool
	nextID     int
	containers map[string]*process              // by the engine's ID
	stored     map[string]*structs.Image        // images on the engine, by the first name
	pushed     map[string]bool                  // in a registry, but not on the engine
	kept       map[volume]time.Time             // volumes, and when each was made
	podFiles   map[podVolume]map[string]string  // volumes of pods, and their files by path
	claimed    map[volume]map[string]string     // likewise, of named volumes that pods have written to
	scripts    map[structs.Ref][]int            // see Outside.Script
	answers    map[structs.Ref]userland.Outcome // see Outside.AnswerExec
	users      map[string]string                // of images
	address    string                           // of containers that start
	disk       backend.Disk                     // excluding the images
	pulling    chan struct{}                    // if not nil, pulls wait until it is closed
	joined     map[string]bool                  // projects with a network, which stays after the last container until it is tidied up
	room       int                              // the most networks; 0 means any number
	unpacking  chan struct{}                    // if not nil, copies into containers wait until it is closed
	saying     map[int]func(string)
	refused    map[string]int // host ports that something else uses
	foreign    map[string]bool
	watchers   map[int]*watcher
	starts     map[structs.Ref]int
	stops      map[structs.Ref]int
	creates    map[structs.Ref]int
	updates    map[structs.Ref]int
	signals    map[structs.Ref][]string
	pulls      int
	asWhom     map[string]*structs.Registry // by image: the credentials of the last create or fetch; nil for none
}

// The types that implement the interfaces.
type (
	runtime  struct{ *engine } // backend.Host and backend.Runtime
	consoles struct{ *engine }
	images   struct{ *engine }
	volumes  struct{ *engine }
	networks struct{ *engine }
	pods     struct{ *engine }
)

// process is one container of a Fake.
type process struct {
	backend.Container
	owner       backend.Owner
	spec        structs.ContainerSpec
	project     string
	pod         *backend.PodPart  // nil for a container
	names       *backend.Names    // that it was created with
	written     map[string]string // files that a podShell has written
	serves      map[string]string // answers of a podShell by port
	image       *structs.Image    // that the container was created from; nil for none
	copied      bool              // made by Copy
	manual      bool              // stopped by hand: its restart policy does nothing
	ignoresStop bool              // set by IgnoreStop
	parted      bool              // disconnected from its network, which a start doesn't undo
	stdout      []byte
	stderr      []byte
	reads       bool // copies its standard input to its output
	last        int  // exit code of the last ended run
	files       userland.Files
	changed     chan struct{} // closed at the next change
}

type watcher struct {
	owner backend.Owner
	queue chan backend.Event
	end   chan struct{}
}

var _ backend.Backend = (*Fake)(nil)

// Image is an image that every Fake has.
const Image = "magnum-test/busybox:latest"

// FileInImage is a file of that image, and no directory.
const FileInImage = "/etc/passwd"

// NewFake returns an engine with one image, Image.
func NewFake() *Fake {
	e := &engine{
		identity: structs.EngineIdentity{ID: structs.NewID(), Root: "/fake"}, containers: make(map[string]*process),
		stored: map[string]*structs.Image{Image: newImage(Image)}, pushed: make(map[string]bool), kept: make(map[volume]time.Time),
		disk: backend.Disk{Used: 40 << 30, Free: 60 << 30}, joined: make(map[string]bool),
		refused: make(map[string]int), foreign: make(map[string]bool), saying: make(map[int]func(string)), watchers: make(map[int]*watcher),
		starts: make(map[structs.Ref]int), stops: make(map[structs.Ref]int), creates: make(map[structs.Ref]int),
		updates: make(map[structs.Ref]int), signals: make(map[structs.Ref][]string),
		podFiles: make(map[podVolume]map[string]string), scripts: make(map[structs.Ref][]int),
		claimed: make(map[volume]map[string]string), answers: make(map[structs.Ref]userland.Outcome),
		users: make(map[string]string), address: "172.18.0.2",
	}
	run := &runtime{e}
	f := &Fake{
		Host: run, Runtime: run, Consoles: &consoles{e}, Images: &images{e}, Volumes: &volumes{e}, Networks: &networks{e}, Pods: &pods{e},
		Outside: &Outside{e}, Seen: &Seen{e},
	}
	e.seam = &f.Fault
	return f
}

var errDown = &backend.Failure{Reason: backend.ErrAway, Msg: "the engine does not answer"}

func notFound(engineID string) error {
	return &backend.Failure{Reason: backend.ErrNotFound, Msg: "No such container: " + engineID}
}

func notRunning() error {
	return &backend.Failure{Reason: backend.ErrNotRunning, Msg: "the container is not running"}
}

// fault calls Fault.
func (f *engine) fault(op string, ref structs.Ref) error {
	if *f.seam == nil {
		return nil
	}
	return (*f.seam)(op, ref)
}

// onContainer makes one call on a container, with its seams.
func (f *engine) onContainer(ctx context.Context, op, engineID string, call func(*process) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	p := f.containers[engineID]
	var ref structs.Ref
	if p != nil {
		ref = p.Ref
	}
	f.mu.Unlock()
	if err := f.fault(op, ref); err != nil {
		return err
	}
	f.mu.Lock()
	var err error
	switch p = f.containers[engineID]; {
	case f.down:
		err = errDown
	case p == nil:
		err = notFound(engineID)
	default:
		if p.copied && op != "inspect" {
			f.touched = append(f.touched, op+" "+engineID)
		}
		err = call(p)
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.fault(op+" done", ref)
}

// changedLocked wakes those that wait for a change, and records an event.
func (f *engine) changedLocked(p *process, kind backend.EventKind) {
	close(p.changed)
	p.changed = make(chan struct{})
	for _, w := range f.watchers {
		if w.owner == p.owner {
			w.tell(backend.Event{Entry: p.Entry, Kind: kind})
		}
	}
}

// connectedLocked records that a container was connected to its network, or disconnected. All
// owners are told, and not whose it is.
func (f *engine) connectedLocked(p *process) {
	if p.Infra != "" {
		return // it has no network of its own
	}
	for _, w := range f.watchers {
		w.tell(backend.Event{Entry: backend.Entry{EngineID: p.EngineID}, Kind: backend.EventNetwork})
	}
}

func (w *watcher) tell(e backend.Event) {
	select {
	case w.queue <- e:
	default:
		panic("backendtest: a watcher that doesn't read")
	}
}

// Fingerprint describes a small host.
func (f *runtime) Fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return structs.Fingerprint{}, errDown
	}
	return structs.Fingerprint{Backend: structs.BackendDocker, EngineVersion: "fake", Cores: 2, Memory: 4 << 30,
		Engine: f.identity}, ctx.Err()
}

// Owners returns the owners of the engine's containers.
func (f *runtime) Owners(ctx context.Context) ([]backend.Owner, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	var owners []backend.Owner
	for _, p := range f.containers {
		if !p.Inherited && !slices.Contains(owners, p.owner) {
			owners = append(owners, p.owner)
		}
	}
	return owners, ctx.Err()
}

// List returns all containers of the owner.
func (f *runtime) List(ctx context.Context, owner backend.Owner) ([]backend.Entry, error) {
	if err := errors.Join(ctx.Err(), f.fault("list", structs.Ref{})); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	var entries []backend.Entry
	for _, p := range f.containers {
		if p.owner == owner {
			entries = append(entries, p.Entry)
		}
	}
	return entries, nil
}

// Events follows the events of the owner's containers and of images.
func (f *runtime) Events(ctx context.Context, owner backend.Owner, ready func(), event func(backend.Event)) error {
	w := &watcher{owner: owner, queue: make(chan backend.Event, 10_000), end: make(chan struct{})}
	f.mu.Lock()
	if f.down {
		f.mu.Unlock()
		return errDown
	}
	f.nextID++
	id := f.nextID
	f.watchers[id] = w
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, id)
	}()
	ready()
	for {
		select {
		case e := <-w.queue:
			event(e)
		case <-w.end:
			return errDown
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Inspect returns the container as it is now.
func (f *runtime) Inspect(ctx context.Context, engineID string) (c *backend.Container, err error) {
	err = f.onContainer(ctx, "inspect", engineID, func(p *process) error {
		snapshot := p.Container
		if !snapshot.Live() {
			snapshot.Addresses, snapshot.Ports, snapshot.Health, snapshot.Detached = nil, nil, "", false
		}
		c = &snapshot
		return nil
	})
	return c, err
}

// Create creates a container.
func (f *runtime) Create(ctx context.Context, req backend.CreateRequest, progress func(string)) (*backend.Container, error) {
	if err := errors.Join(ctx.Err(), f.fault("create", req.Ref)); err != nil {
		return nil, err
	}
	f.noteCredentials(req.Spec.Image, req.Registry)
	spec := *req.Spec
	if ownsInfra(req) {
		spec.Image, spec.PullPolicy = Image, structs.PullNever
	}
	if req.Fetched && spec.PullPolicy == structs.PullAlways {
		spec.PullPolicy = structs.PullIfNotPresent
	}
	if err := f.fetch(ctx, &spec, progress); err != nil {
		return nil, err
	}
	c, err := f.create(req)
	if err != nil {
		return nil, err
	}
	return c, f.fault("create done", req.Ref)
}

// fetch waits for a pull.
func (f *engine) fetch(ctx context.Context, spec *structs.ContainerSpec, progress func(string)) error {
	f.mu.Lock()
	gate, down, have := f.pulling, f.down, f.hasImageLocked(spec.Image)
	f.mu.Unlock()
	switch {
	case down:
		return errDown
	case have && spec.PullPolicy != structs.PullAlways:
		return nil
	case spec.PullPolicy != structs.PullNever && gate != nil:
		progress("pulling " + spec.Image)
		defer f.listen(progress)()
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if spec.PullPolicy != structs.PullNever {
		f.pulls++
		f.fetchLocked(spec.Image)
	}
	if !f.hasImageLocked(spec.Image) {
		return &backend.Failure{Reason: backend.ErrNoImage, Msg: fmt.Sprintf("image %s can't be pulled: not found", spec.Image)}
	}
	return nil
}

func (f *engine) hasImageLocked(ref string) bool { return f.imageLocked(ref) != nil }

// listen adds a waiting pull to the listeners of Say.
func (f *engine) listen(progress func(string)) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextID++
	id := f.nextID
	f.saying[id] = progress
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.saying, id)
	}
}

func (f *engine) create(req backend.CreateRequest) (*backend.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	name, hash := req.EngineName(), req.SpecHash()
	taken := &backend.Failure{Reason: backend.ErrNameTaken, Msg: "the host has another container named " + name}
	if f.foreign[name] {
		return nil, taken
	}
	for _, p := range f.containers {
		if p.Ref == req.Ref && p.Attempt == req.Attempt() && !p.copied {
			if p.owner != req.Owner || p.SpecHash != hash {
				return nil, taken
			}
			c := p.Container
			return &c, nil
		}
	}
	if err := errors.Join(checkUser(f, req), checkPart(f, req.Pod)); err != nil {
		return nil, err
	}
	if req.Spec.Workdir == FileInImage {
		return nil, &backend.Failure{Reason: backend.ErrStart, Msg: "Cannot mkdir: " + FileInImage + " is not a directory"}
	}
	if err := f.joinLocked(req.ProjectID); err != nil {
		return nil, err
	}
	f.nextID++
	p := &process{owner: req.Owner, spec: *req.Spec, names: req.Names, changed: make(chan struct{})}
	if len(req.Variables) > 0 {
		p.spec.Environment = maps.Clone(req.Variables)
		maps.Copy(p.spec.Environment, req.Spec.Environment)
	}
	p.Entry = backend.Entry{Ref: req.Ref, EngineID: fmt.Sprintf("e%d", f.nextID), Name: name, CreatedAt: time.Now(),
		Lease: req.Spec.Exclusive == structs.ExclusiveLease}
	p.SpecHash, p.State, p.Limits = hash, backend.StateCreated, backend.LimitsOf(req.Spec)
	f.containers[p.EngineID] = p
	p.image, p.project = f.imageLocked(req.Spec.Image), req.ProjectID
	if p.image != nil {
		p.image.UsedAt = structs.Time{Time: time.Now()}
		p.ImageID = p.image.ID
	}
	joinPod(f, p, req)
	for _, m := range req.Spec.Volumes {
		if m.Name != "" {
			f.claimLocked(volume{req.ClusterID, req.ProjectID, m.Name})
		}
	}
	f.creates[req.Ref]++
	f.changedLocked(p, backend.EventCreated)
	c := p.Container
	return &c, nil
}

// Remove removes the container.
func (f *runtime) Remove(ctx context.Context, engineID string) error {
	err := f.onContainer(ctx, "remove", engineID, func(p *process) error { f.removeLocked(p); return nil })
	if errors.Is(err, backend.ErrNotFound) {
		return nil
	}
	return err
}

func (f *engine) removeLocked(p *process) {
	if p.Live() {
		p.manual = true
		f.exitLocked(p, 137)
	}
	delete(f.containers, p.EngineID)
	f.changedLocked(p, backend.EventRemoved)
}

// Close does nothing.
func (f *Fake) Close() error { return nil }
