package backendtest

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Seen counts what has happened on an engine, whoever caused it.
type Seen struct{ e *engine }

// Copies returns the engine's IDs of all running copies.
func (f *Seen) Copies() (ids []string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	for id, p := range f.e.containers {
		if p.copied && p.Live() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Touched returns the calls on copies, except inspections.
func (f *Seen) Touched() []string {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return slices.Clone(f.e.touched)
}

// Identity returns the engine's identity.
func (f *Seen) Identity() structs.EngineIdentity {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return f.e.identity
}

// Pulls returns how often a registry was asked.
func (f *Seen) Pulls() int {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return f.e.pulls
}

// Credentials returns the credentials that the last create or fetch with the image had; nil
// for none. asked is false if there was no such call.
func (f *Seen) Credentials(image string) (creds *structs.Registry, asked bool) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	creds, asked = f.e.asWhom[image]
	return creds, asked
}

// Starts returns how often the container's process was started.
func (f *Seen) Starts(ref structs.Ref) int { return f.count(f.e.starts, ref) }

// Stops returns how often the container's process was stopped or killed.
func (f *Seen) Stops(ref structs.Ref) int { return f.count(f.e.stops, ref) }

// Creates returns how often the container was created.
func (f *Seen) Creates(ref structs.Ref) int { return f.count(f.e.creates, ref) }

// Updates returns how often the container's limits were changed.
func (f *Seen) Updates(ref structs.Ref) int { return f.count(f.e.updates, ref) }

// ImageOf returns the image that the container was made from.
func (f *Seen) ImageOf(ref structs.Ref) (image string) {
	f.e.with(ref, func(p *process) { image = p.spec.Image })
	return image
}

// Signals returns the signals that were sent to the container's process.
func (f *Seen) Signals(ref structs.Ref) []string {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return slices.Clone(f.e.signals[ref])
}

func (f *Seen) count(m map[structs.Ref]int, ref structs.Ref) int {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return m[ref]
}

// Containers returns all containers of all owners; of a part of a pod, the newest attempt.
func (f *Seen) Containers() map[structs.Ref]backend.Container {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	all := make(map[structs.Ref]backend.Container, len(f.e.containers))
	for _, p := range f.e.containers {
		if p.copied {
			continue
		}
		other, found := all[p.Ref]
		if found && other.Attempt == p.Attempt {
			panic(fmt.Sprintf("backendtest: two containers %v", p.Ref))
		}
		if !found || other.Attempt < p.Attempt {
			all[p.Ref] = p.Container
		}
	}
	return all
}

// Networks returns the number of networks.
func (f *Seen) Networks() int {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return len(f.e.joined)
}
