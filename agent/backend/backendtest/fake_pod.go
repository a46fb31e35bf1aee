package backendtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
	"github.com/stackforge/magnum/structs"
)

// This file has what a Fake's containers have as parts of a pod. Its functions that take
// the engine are called with the lock held.

// podVolume identifies a volume that belongs to the placement of a pod.
type podVolume struct {
	owner backend.Owner
	pod   structs.Ref // without part
	name  string
}

// infraImage is the ID of the image that the engine makes for infra containers.
const infraImage = "sha256:infra"

// Runs in the codes of Outside.Script leaves an attempt to its command.
const Runs = -1

// newestLocked returns the newest attempt of ref, nil if there is none. Copies don't
// count.
func (f *engine) newestLocked(ref structs.Ref) (newest *process) {
	for _, p := range f.containers {
		if p.Ref == ref && !p.copied && (newest == nil || p.Attempt > newest.Attempt) {
			newest = p
		}
	}
	return newest
}

// ownsInfra reports whether the request is for an infra container whose image the engine
// makes itself.
func ownsInfra(req backend.CreateRequest) bool { return req.Pod != nil && req.Spec.Image == "" }

// infraOf returns the infra container that p joins, nil if it no longer exists.
func infraOf(f *engine, p *process) *process { return f.containers[p.Infra] }

// checkInfra fails unless the infra container that p joins runs.
func checkInfra(f *engine, p *process) error {
	if p.Infra == "" {
		return nil
	}
	if infra := infraOf(f, p); infra == nil || !infra.Live() {
		return &backend.Failure{Reason: backend.ErrNoInfra, Msg: "the infra container of the pod doesn't run: " + p.Infra}
	}
	return nil
}

// checkPart fails if a part names an infra container that doesn't exist, or a volume that
// the pod doesn't have.
func checkPart(f *engine, part *backend.PodPart) error {
	if part == nil {
		return nil
	}
	if part.Infra != "" && f.containers[part.Infra] == nil {
		return &backend.Failure{Reason: backend.ErrNoInfra, Msg: "the infra container of the pod is gone: " + part.Infra}
	}
	for _, m := range part.Mounts {
		if !slices.ContainsFunc(part.Volumes, func(v structs.PodVolume) bool { return v.Name == m.Volume }) {
			return &backend.Failure{Reason: backend.ErrInvalid, Msg: fmt.Sprintf("the pod has no volume %q", m.Volume)}
		}
	}
	return nil
}

// checkUser fails if the container must not run as root, but would.
func checkUser(f *engine, req backend.CreateRequest) error {
	if req.Pod == nil || !req.Pod.Security.RunAsNonRoot {
		return nil
	}
	user := cmp.Or(f.users[req.Spec.Image], "root")
	if u := req.Pod.Security.RunAsUser; u != nil {
		user = fmt.Sprint(*u)
	}
	if user == "root" || user == "0" {
		return &backend.Failure{Reason: backend.ErrConfig,
			Msg: fmt.Sprintf("runAsNonRoot is set, and image %s runs as root", req.Spec.Image)}
	}
	return nil
}

// joinPod gives a new container what it has as a part of a pod.
func joinPod(f *engine, p *process, req backend.CreateRequest) {
	if req.Pod == nil {
		return
	}
	p.pod, p.Attempt, p.Infra = req.Pod, req.Pod.Attempt, req.Pod.Infra
	if ownsInfra(req) {
		p.ImageID = infraImage
	}
	for _, v := range req.Pod.Volumes {
		if v.Claim == "" {
			made := podVolume{req.Owner, req.Whole(), v.Name}
			if f.podFiles[made] == nil {
				f.podFiles[made] = make(map[string]string)
			}
			continue
		}
		f.claimLocked(volume{req.ClusterID, req.ProjectID, v.Claim})
	}
}

// endPod ends what can't live without p: the kernel ends all processes that share
// those of an infra container.
func endPod(f *engine, p *process) {
	for _, q := range f.containers {
		if q.Infra == p.EngineID && q.pod.SharePID && q.Live() {
			f.exitLocked(q, 137)
		}
	}
}

// mountsClaim reports whether the container mounts a named volume of the project as a part
// of a pod.
func (p *process) mountsClaim(name string) bool {
	return p.pod != nil && slices.ContainsFunc(p.pod.Volumes, func(v structs.PodVolume) bool { return v.Claim == name })
}

// DropVolumes removes the volumes of a placement.
func (f *pods) DropVolumes(ctx context.Context, owner backend.Owner, pod structs.Ref) error {
	if err := f.call(ctx, "volumes drop"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pod = pod.Whole()
	for _, p := range f.containers {
		if p.owner == owner && p.Whole() == pod && p.pod != nil && !p.copied &&
			slices.ContainsFunc(p.pod.Volumes, func(v structs.PodVolume) bool { return v.Claim == "" }) {
			return &backend.Failure{Reason: backend.ErrInUse, Msg: "a volume of the pod is used by container " + p.Name}
		}
	}
	for v := range f.podFiles {
		if v.owner == owner && v.pod == pod {
			delete(f.podFiles, v)
		}
	}
	return nil
}

// Script ends the attempts of a part at once, the first with the first code, and so on,
// whatever their commands are. The other attempts, and those with the code Runs, do as
// their commands say.
func (f *Outside) Script(ref structs.Ref, codes ...int) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.scripts[ref] = codes
}

// scripted returns the code with which Script ends the container.
func scripted(f *engine, p *process) (code int, ok bool) {
	codes := f.scripts[p.Ref]
	if i := int(p.Attempt) - 1; i >= 0 && i < len(codes) && codes[i] != Runs {
		return codes[i], true
	}
	return 0, false
}

// OutOfMemory ends the process as the kernel does when it needs more than its limit.
func (f *Outside) OutOfMemory(ref structs.Ref) {
	f.e.with(ref, func(p *process) {
		p.OOMKilled = true
		f.e.exitLocked(p, 137)
	})
}

// ChildOutOfMemory has the kernel end a child of the process, which itself runs on.
func (f *Outside) ChildOutOfMemory(ref structs.Ref) {
	f.e.with(ref, func(p *process) {
		p.OOMKilled = true
		f.e.changedLocked(p, backend.EventChanged)
	})
}

// AnswerExec ends all commands that are executed in ref's containers at once, with the
// code and the output.
func (f *Outside) AnswerExec(ref structs.Ref, code int, output string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.answers[ref] = userland.Outcome{Stdout: []byte(output), ExitCode: code}
}

// SetAddress sets the address of all containers that start from now on.
func (f *Outside) SetAddress(addr string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.address = addr
}

// SetUser sets the user of an image; without it that is root.
func (f *Outside) SetUser(image, user string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.users[image] = user
}

// Attempts returns the containers of a part, the oldest attempt first.
func (f *Seen) Attempts(ref structs.Ref) (attempts []backend.Container) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	for _, p := range f.e.containers {
		if p.Ref == ref && !p.copied {
			attempts = append(attempts, p.Container)
		}
	}
	slices.SortFunc(attempts, func(a, b backend.Container) int { return cmp.Compare(a.Attempt, b.Attempt) })
	return attempts
}

// PodOf returns what the newest attempt of a part was created with.
func (f *Seen) PodOf(ref structs.Ref) (part backend.PodPart) {
	f.e.with(ref, func(p *process) { part = *p.pod })
	return part
}

// NamesOf returns how the newest container of ref finds names; nil for as the engine does.
func (f *Seen) NamesOf(ref structs.Ref) (n *backend.Names) {
	f.e.with(ref, func(p *process) { n = p.names })
	return n
}

// SpecOf returns the spec that the newest container of ref was created from, with the
// variables of services.
func (f *Seen) SpecOf(ref structs.Ref) (spec structs.ContainerSpec) {
	f.e.with(ref, func(p *process) { spec = p.spec })
	return spec
}

// PodVolumes returns the names of the volumes that belong to a placement of a pod.
func (f *Seen) PodVolumes(pod structs.Ref) (names []string) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	for v := range f.e.podFiles {
		if v.pod == pod.Whole() {
			names = append(names, v.name)
		}
	}
	slices.Sort(names)
	return names
}
