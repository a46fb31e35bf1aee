package backendtest

import (
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Outside acts on an engine behind the agent's back.
type Outside struct{ e *engine }

// with calls change with the container of ref, the newest attempt. It panics if there is none, because a
// test that changes nothing tests nothing.
func (f *engine) with(ref structs.Ref, change func(*process)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.newestLocked(ref)
	if p == nil {
		panic(fmt.Sprintf("backendtest: no container %v", ref))
	}
	change(p)
}

// Exit ends the process with the code.
func (f *Outside) Exit(ref structs.Ref, code int) {
	f.e.with(ref, func(p *process) { f.e.exitLocked(p, code) })
}

// Kill acts as docker kill: the engine's restart policy does nothing afterwards.
func (f *Outside) Kill(ref structs.Ref) {
	f.e.with(ref, func(p *process) { f.e.endLocked(p, 137) })
}

// Remove acts as docker rm -f.
func (f *Outside) Remove(ref structs.Ref) { f.e.with(ref, f.e.removeLocked) }

// Start acts as docker start.
func (f *Outside) Start(ref structs.Ref) { f.e.with(ref, f.e.startLocked) }

// Restart acts as docker restart, so quickly that nobody sees the process end.
func (f *Outside) Restart(ref structs.Ref) {
	f.e.with(ref, func(p *process) {
		f.e.exitLocked(p, 137)
		f.e.startLocked(p)
	})
}

// Pause acts as docker pause, or unpause.
func (f *Outside) Pause(ref structs.Ref, paused bool) {
	f.e.with(ref, func(p *process) {
		p.State = backend.StateRunning
		if paused {
			p.State = backend.StatePaused
		}
		f.e.changedLocked(p, backend.EventChanged)
	})
}

// Disconnect acts as docker network disconnect with the container's network.
func (f *Outside) Disconnect(ref structs.Ref) {
	f.e.with(ref, func(p *process) {
		p.parted = true
		if p.Live() {
			p.Detached, p.Addresses, p.Ports = true, nil, nil
		}
		f.e.connectedLocked(p)
	})
}

// Down stops the engine and its containers.
func (f *Outside) Down() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.down = true
	for _, p := range f.e.containers {
		if p.Live() {
			p.State, p.ExitCode = backend.StateExited, 137
			p.FinishedAt = p.StartedAt
			p.Error = "" // the engine reports no error
		} else {
			p.manual = true
		}
	}
	for _, w := range f.e.watchers {
		close(w.end)
	}
	clear(f.e.watchers)
}

// Up starts the engine, and the containers whose restart policy says so.
func (f *Outside) Up() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.down = false
	for _, p := range f.e.containers {
		again := p.spec.RestartPolicy.Always() && p.spec.Exclusive == structs.ExclusiveNo && p.pod == nil
		if p.State == backend.StateExited && !p.manual && again {
			f.e.startLocked(p)
		}
	}
}

// Copy runs a container that has the labels of ref's, and returns its engine ID.
// inherited: the labels come from the image, as after docker commit and docker run;
// else they were given by hand. Calls on the copy appear in Touched, and in no other
// count.
func (f *Outside) Copy(ref structs.Ref, inherited bool) (engineID string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	of := f.e.newestLocked(ref)
	if of == nil {
		panic(fmt.Sprintf("backendtest: no container %v", ref))
	}
	f.e.nextID++
	p := &process{owner: of.owner, spec: of.spec, project: of.project, changed: make(chan struct{}), copied: true}
	p.Entry = backend.Entry{Ref: ref, EngineID: fmt.Sprintf("e%d", f.e.nextID), Name: fmt.Sprintf("copy-%d", f.e.nextID),
		CreatedAt: time.Now(), Inherited: inherited, Lease: of.Lease, Attempt: of.Attempt}
	p.SpecHash, p.State, p.StartedAt = of.SpecHash, backend.StateRunning, time.Now()
	f.e.containers[p.EngineID] = p
	f.e.changedLocked(p, backend.EventCreated)
	f.e.changedLocked(p, backend.EventChanged)
	return p.EngineID
}

// RemoveCopy acts as docker rm -f on a copy.
func (f *Outside) RemoveCopy(engineID string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	p := f.e.containers[engineID]
	delete(f.e.containers, engineID)
	f.e.changedLocked(p, backend.EventRemoved)
}

// AddVolume makes a volume without a cluster, as early agents did.
func (f *Outside) AddVolume(projectID, name string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.kept[volume{"", projectID, name}] = time.Now()
}

// Identify gives the engine another EngineIdentity, as if another engine answered.
func (f *Outside) Identify(engine structs.EngineIdentity) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.identity = engine
}

// Forget loses all containers without events, as an engine with another data directory.
func (f *Outside) Forget() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	clear(f.e.containers)
}

// Add makes a container of the owner that the agent has not created.
func (f *Outside) Add(req backend.CreateRequest) {
	if _, err := f.e.create(req); err != nil {
		panic(err)
	}
}

// Put puts a given container of the owner on the engine, such as one of an earlier
// build of the agent.
func (f *Outside) Put(owner backend.Owner, c backend.Container, spec structs.ContainerSpec) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.containers[c.EngineID] = &process{Container: c, owner: owner, spec: spec, manual: !c.Live(), changed: make(chan struct{})}
	f.e.nextID += 100 // later containers get other IDs
}

// Unlabel removes the lease's label from the container of ref, as if an earlier build had
// created it.
func (f *Outside) Unlabel(ref structs.Ref) {
	f.e.with(ref, func(p *process) { p.Lease = false })
}

// IgnoreStop makes the process of ref ignore requests to end: a stop takes its whole
// timeout.
func (f *Outside) IgnoreStop(ref structs.Ref) {
	f.e.with(ref, func(p *process) { p.ignoresStop = true })
}

// AddImage adds an image to a registry.
func (f *Outside) AddImage(ref string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.stored[ref] = newImage(ref)
}

// PutImage puts an image on the engine under its first name.
func (f *Outside) PutImage(img structs.Image) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.stored[img.Names[0]] = &img
}

// SetDisk sets the usage of the engine's file system, excluding the images.
func (f *Outside) SetDisk(d backend.Disk) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.disk = d
}

// ImportImage puts an image on the engine, as docker tag does.
func (f *Outside) ImportImage(ref string) { f.e.importImage(ref) }

// HoldPulls makes pulls wait until release is called.
func (f *Outside) HoldPulls() (release func()) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	gate := make(chan struct{})
	f.e.pulling = gate
	return func() { close(gate) }
}

// HoldArchives makes copies into containers wait until release is called.
func (f *Outside) HoldArchives() (release func()) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	gate := make(chan struct{})
	f.e.unpacking = gate
	return func() { close(gate) }
}

// Say sends a sentence of progress to all waiting pulls.
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

// TakeName gives the name of ref to another container, or frees it.
func (f *Outside) TakeName(ref structs.Ref, taken bool) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.foreign[backend.NameOf(ref)] = taken
}

// LimitNetworks limits the number of networks; 0 means any number.
func (f *Outside) LimitNetworks(most int) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.room = most
}

// PushImage puts an image into a registry, but not on the engine.
func (f *Outside) PushImage(ref string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.pushed[ref] = true
}
