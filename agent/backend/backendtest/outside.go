package backendtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file is what happens to a Fake behind the agent's back.

// with runs change on the container of ref, and panics if there is none: a
// test that changes nothing tests nothing.
func (f *Fake) with(ref structs.Ref, change func(*process)) {
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
func (f *Fake) Exit(ref structs.Ref, code int) {
	f.with(ref, func(p *process) { f.exitLocked(p, code) })
}

// KillOutside is docker kill: the engine's restart policy rests.
func (f *Fake) KillOutside(ref structs.Ref) { f.with(ref, f.endLocked) }

// RemoveOutside is docker rm -f.
func (f *Fake) RemoveOutside(ref structs.Ref) { f.with(ref, f.removeLocked) }

// StartOutside is docker start.
func (f *Fake) StartOutside(ref structs.Ref) { f.with(ref, f.startLocked) }

// PauseOutside is docker pause, or unpause.
func (f *Fake) PauseOutside(ref structs.Ref, paused bool) {
	f.with(ref, func(p *process) {
		p.State = backend.StateRunning
		if paused {
			p.State = backend.StatePaused
		}
		f.changedLocked(p, backend.EventChanged)
	})
}

// Down stops the engine, and its containers with it.
func (f *Fake) Down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	for _, p := range f.containers {
		if p.Live() {
			p.State, p.ExitCode = backend.StateExited, 137
			p.FinishedAt = p.StartedAt
			p.Error = "" // the engine says nothing of it
		} else {
			p.manual = true
		}
	}
	for _, w := range f.watchers {
		close(w.end)
	}
	clear(f.watchers)
}

// Up starts the engine, and those containers whose policy says so.
func (f *Fake) Up() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
	for _, p := range f.containers {
		if p.State == backend.StateExited && !p.manual && p.spec.RestartPolicy.Always() && p.spec.Exclusive == structs.ExclusiveNo {
			f.startLocked(p)
		}
	}
}

// Copy runs a container that has the labels of ref's, and returns the engine's id of
// it. inherited: as docker commit and docker run make one; else the labels were given
// by hand. What is done to it is in Touched, and it is in no other count.
func (f *Fake) Copy(ref structs.Ref, inherited bool) (engineID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, of := range f.containers {
		if of.Ref != ref {
			continue
		}
		f.nextID++
		p := &process{owner: of.owner, spec: of.spec, project: of.project, changed: make(chan struct{}), copied: true}
		p.Entry = backend.Entry{Ref: ref, EngineID: fmt.Sprintf("e%d", f.nextID), Name: fmt.Sprintf("copy-%d", f.nextID), CreatedAt: time.Now(), Inherited: inherited, Lease: of.Lease}
		p.SpecHash, p.State, p.StartedAt = of.SpecHash, backend.StateRunning, time.Now()
		f.containers[p.EngineID] = p
		f.changedLocked(p, backend.EventCreated)
		f.changedLocked(p, backend.EventChanged)
		return p.EngineID
	}
	panic(fmt.Sprintf("backendtest: no container %v", ref))
}

// RemoveCopy is docker rm -f of a copy.
func (f *Fake) RemoveCopy(engineID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.containers[engineID]
	delete(f.containers, engineID)
	f.changedLocked(p, backend.EventRemoved)
}

// Copies returns the engine's ids of all copies that run.
func (f *Fake) Copies() (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, p := range f.containers {
		if p.copied && p.Live() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Touched returns the calls on copies, but for looks.
func (f *Fake) Touched() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.touched)
}

// AddVolume makes a volume as agents did before volumes carried their cluster.
func (f *Fake) AddVolume(projectID, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.volumes[volume{"", projectID, name}] = time.Now()
}

// Identify gives the engine another identity: another engine answers.
func (f *Fake) Identify(engine structs.EngineIdentity) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.identity = engine
}

// Forget loses all containers without a word, as an engine on another directory.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.containers)
}

// Identity returns the engine's identity.
func (f *Fake) Identity() structs.EngineIdentity {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.identity
}

// Add makes a container of the owner that the agent never asked for.
func (f *Fake) Add(req backend.CreateRequest) {
	if _, err := f.create(req); err != nil {
		panic(err)
	}
}

// Put has a container of the owner on the engine as it is given, such as one that an
// earlier build of the agent has made.
func (f *Fake) Put(owner backend.Owner, c backend.Container, spec structs.ContainerSpec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[c.EngineID] = &process{Container: c, owner: owner, spec: spec, manual: !c.Live(), changed: make(chan struct{})}
	f.nextID += 100 // none that is made later gets its id
}

// Unlabel takes away what says that the container of ref has a lease, as if an
// earlier build had made it.
func (f *Fake) Unlabel(ref structs.Ref) {
	f.with(ref, func(p *process) { p.Lease = false })
}

// Deafen has the process of ref heed no request to end: a stop takes its whole timeout.
func (f *Fake) Deafen(ref structs.Ref) { f.with(ref, func(p *process) { p.deaf = true }) }

// AddImage makes an image available, as a push to its registry does.
func (f *Fake) AddImage(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[ref] = newImage(ref)
}

// PutImage has an image on the engine under its first name.
func (f *Fake) PutImage(img structs.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[img.Names[0]] = &img
}

// SetDisk says how full the engine's file system is without the images.
func (f *Fake) SetDisk(d backend.Disk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk = d
}

// ImportImage makes an image available on the engine, as docker tag does.
func (f *Fake) ImportImage(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[ref] = newImage(ref)
	for _, w := range f.watchers {
		w.queue <- backend.Event{Kind: backend.EventImage, Image: ref}
	}
}

// Pulls returns how often a registry was asked.
func (f *Fake) Pulls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pulls
}

// HoldPulls makes pulls wait until release is called.
func (f *Fake) HoldPulls() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.pulling = gate
	return func() { close(gate) }
}

// HoldArchives makes copies into containers read nothing until release is called.
func (f *Fake) HoldArchives() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.unpacking = gate
	return func() { close(gate) }
}

// Say has all pulls that are held tell of themselves.
func (f *Fake) Say(sentence string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, progress := range f.saying {
		progress(sentence)
	}
}

// TakePort makes a host port unavailable, or available again.
func (f *Fake) TakePort(port int, taken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.refused, fmt.Sprint(port))
	if taken {
		f.refused[fmt.Sprint(port)] = 1
	}
}

// TakeName gives the name of ref to somebody else's container, or frees it.
func (f *Fake) TakeName(ref structs.Ref, taken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.foreign[backend.NameOf(ref)] = taken
}

// Starts returns how often the container's process was started.
func (f *Fake) Starts(ref structs.Ref) int { return f.count(f.starts, ref) }

// Stops returns how often the container's process was stopped or killed.
func (f *Fake) Stops(ref structs.Ref) int { return f.count(f.stops, ref) }

// Creates returns how often the container was created.
func (f *Fake) Creates(ref structs.Ref) int { return f.count(f.creates, ref) }

// Updates returns how often the container's limits were changed.
func (f *Fake) Updates(ref structs.Ref) int { return f.count(f.updates, ref) }

// ImageOf returns the image that the container was made from.
func (f *Fake) ImageOf(ref structs.Ref) (image string) {
	f.with(ref, func(p *process) { image = p.spec.Image })
	return image
}

// Signals returns the signals that the container's process was sent.
func (f *Fake) Signals(ref structs.Ref) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.signals[ref])
}

func (f *Fake) count(m map[structs.Ref]int, ref structs.Ref) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m[ref]
}

// Containers returns all containers of all owners.
func (f *Fake) Containers() map[structs.Ref]backend.Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[structs.Ref]backend.Container, len(f.containers))
	for _, p := range f.containers {
		if p.copied {
			continue
		}
		if _, twice := all[p.Ref]; twice {
			panic(fmt.Sprintf("backendtest: two containers %v", p.Ref))
		}
		all[p.Ref] = p.Container
	}
	return all
}
