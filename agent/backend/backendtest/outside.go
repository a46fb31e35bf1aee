package backendtest

import (
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Outside is what happens to an engine behind the agent's back.
type Outside struct{ e *engine }

// with runs change on the container of ref, and panics if there is none: a
// test that changes nothing tests nothing.
func (f *engine) with(ref structs.Ref, change func(*process)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.containers {
		if p.Ref == ref && !p.copied {
			change(p)
			return
		}
	}
	panic(fmt.Sprintf("backendtest: no container %v", ref))
}

// Exit ends the process by itself with the code.
func (f *Outside) Exit(ref structs.Ref, code int) {
	f.e.with(ref, func(p *process) { f.e.exitLocked(p, code) })
}

// Kill is docker kill: the engine's restart policy rests.
func (f *Outside) Kill(ref structs.Ref) { f.e.with(ref, f.e.endLocked) }

// Remove is docker rm -f.
func (f *Outside) Remove(ref structs.Ref) { f.e.with(ref, f.e.removeLocked) }

// Start is docker start.
func (f *Outside) Start(ref structs.Ref) { f.e.with(ref, f.e.startLocked) }

// Pause is docker pause, or unpause.
func (f *Outside) Pause(ref structs.Ref, paused bool) {
	f.e.with(ref, func(p *process) {
		p.State = backend.StateRunning
		if paused {
			p.State = backend.StatePaused
		}
		f.e.changedLocked(p, backend.EventChanged)
	})
}

// Down stops the engine, and its containers with it.
func (f *Outside) Down() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.down = true
	for _, p := range f.e.containers {
		if p.Live() {
			p.State, p.ExitCode = backend.StateExited, 137
			p.FinishedAt = p.StartedAt
			p.Error = "" // the engine says nothing of it
		} else {
			p.manual = true
		}
	}
	for _, w := range f.e.watchers {
		close(w.end)
	}
	clear(f.e.watchers)
}

// Up starts the engine, and those containers whose policy says so.
func (f *Outside) Up() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.down = false
	for _, p := range f.e.containers {
		if p.State == backend.StateExited && !p.manual && p.spec.RestartPolicy.Always() && p.spec.Exclusive == structs.ExclusiveNo {
			f.e.startLocked(p)
		}
	}
}

// Copy runs a container that has the labels of ref's, and returns the engine's id of
// it. inherited: as docker commit and docker run make one; else the labels were given
// by hand. What is done to it is in Touched, and it is in no other count.
func (f *Outside) Copy(ref structs.Ref, inherited bool) (engineID string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	for _, of := range f.e.containers {
		if of.Ref != ref {
			continue
		}
		f.e.nextID++
		p := &process{owner: of.owner, spec: of.spec, project: of.project, changed: make(chan struct{}), copied: true}
		p.Entry = backend.Entry{Ref: ref, EngineID: fmt.Sprintf("e%d", f.e.nextID), Name: fmt.Sprintf("copy-%d", f.e.nextID), CreatedAt: time.Now(), Inherited: inherited, Lease: of.Lease}
		p.SpecHash, p.State, p.StartedAt = of.SpecHash, backend.StateRunning, time.Now()
		f.e.containers[p.EngineID] = p
		f.e.changedLocked(p, backend.EventCreated)
		f.e.changedLocked(p, backend.EventChanged)
		return p.EngineID
	}
	panic(fmt.Sprintf("backendtest: no container %v", ref))
}

// RemoveCopy is docker rm -f of a copy.
func (f *Outside) RemoveCopy(engineID string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	p := f.e.containers[engineID]
	delete(f.e.containers, engineID)
	f.e.changedLocked(p, backend.EventRemoved)
}

// AddVolume makes a volume as agents did before volumes carried their cluster.
func (f *Outside) AddVolume(projectID, name string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.kept[volume{"", projectID, name}] = time.Now()
}

// Identify gives the engine another identity: another engine answers.
func (f *Outside) Identify(engine structs.EngineIdentity) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.identity = engine
}

// Forget loses all containers without a word, as an engine on another directory.
func (f *Outside) Forget() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	clear(f.e.containers)
}

// Add makes a container of the owner that the agent never asked for.
func (f *Outside) Add(req backend.CreateRequest) {
	if _, err := f.e.create(req); err != nil {
		panic(err)
	}
}

// Put has a container of the owner on the engine as it is given, such as one that an
// earlier build of the agent has made.
func (f *Outside) Put(owner backend.Owner, c backend.Container, spec structs.ContainerSpec) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.containers[c.EngineID] = &process{Container: c, owner: owner, spec: spec, manual: !c.Live(), changed: make(chan struct{})}
	f.e.nextID += 100 // none that is made later gets its id
}

// Unlabel takes away what says that the container of ref has a lease, as if an
// earlier build had made it.
func (f *Outside) Unlabel(ref structs.Ref) {
	f.e.with(ref, func(p *process) { p.Lease = false })
}

// Deafen has the process of ref heed no request to end: a stop takes its whole timeout.
func (f *Outside) Deafen(ref structs.Ref) { f.e.with(ref, func(p *process) { p.deaf = true }) }

// AddImage makes an image available, as a push to its registry does.
func (f *Outside) AddImage(ref string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.stored[ref] = newImage(ref)
}

// PutImage has an image on the engine under its first name.
func (f *Outside) PutImage(img structs.Image) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.stored[img.Names[0]] = &img
}

// SetDisk says how full the engine's file system is without the images.
func (f *Outside) SetDisk(d backend.Disk) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.disk = d
}

// ImportImage makes an image available on the engine, as docker tag does.
func (f *Outside) ImportImage(ref string) { f.e.importImage(ref) }

// HoldPulls makes pulls wait until release is called.
func (f *Outside) HoldPulls() (release func()) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	gate := make(chan struct{})
	f.e.pulling = gate
	return func() { close(gate) }
}

// HoldArchives makes copies into containers read nothing until release is called.
func (f *Outside) HoldArchives() (release func()) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	gate := make(chan struct{})
	f.e.unpacking = gate
	return func() { close(gate) }
}

// Say has all pulls that are held tell of themselves.
func (f *Outside) Say(sentence string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	for _, progress := range f.e.saying {
		progress(sentence)
	}
}

// TakePort makes a host port unavailable, or available again.
func (f *Outside) TakePort(port int, taken bool) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	delete(f.e.refused, fmt.Sprint(port))
	if taken {
		f.e.refused[fmt.Sprint(port)] = 1
	}
}

// TakeName gives the name of ref to somebody else's container, or frees it.
func (f *Outside) TakeName(ref structs.Ref, taken bool) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.foreign[backend.NameOf(ref)] = taken
}

// LimitNetworks bounds the networks that there may be; 0 means any number.
func (f *Outside) LimitNetworks(most int) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.room = most
}

// PushImage makes an image available in a registry, but not on the engine.
func (f *Outside) PushImage(ref string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.pushed[ref] = true
}
