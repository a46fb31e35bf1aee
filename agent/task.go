package agent

import (
	"fmt"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// task is what is known of one placement of a unit: the assignment, the journal's record,
// and the engine's container. It writes the journal and calls no engine. It belongs to
// one goroutine.
type task struct {
	journal  *journal
	unit     *unit              // only its constant fields are read here
	want     structs.Assignment // zero unless wanted
	assigned bool               // the unit has an assignment

	rec   record // of want's placement
	known bool   // rec was in the journal, and says what was carried out
	cur   *backend.Container
	old   *backend.Container // the newest earlier placement that is still there
	prev  *backend.Container // of a part of a pod: the newest container of an earlier attempt than cur's
}

// ref returns the placement.
func (t *task) ref() structs.Ref { return t.unit.at(t.want.Epoch) }

// request returns the request for a container with the assignment's spec.
func (t *task) request(owner backend.Owner) backend.CreateRequest {
	return backend.CreateRequest{Owner: owner, Ref: t.ref(), ProjectID: t.want.ProjectID, Name: t.want.Name, Spec: t.want.Spec,
		Registry: t.credentials()}
}

// credentials returns the credentials for the pull of the image; nil for none. A pod has
// one pair for all of its images, of which only those of one registry get it.
func (t *task) credentials() *structs.Registry {
	if t.want.Pod == nil || t.want.Pod.Spec == nil {
		return t.want.Registry
	}
	return t.want.Pod.Spec.CredentialsFor(t.image(), t.want.Registry)
}

// keeps reports whether the process is to stay alive, or nobody can say.
func (t *task) keeps() bool {
	if t.want.Unreadable != "" {
		return t.want.Desired != structs.DesiredAbsent
	}
	return t.want.Desired == structs.DesiredRunning || t.want.Desired == structs.DesiredPaused
}

// pending reports whether an action is still to be carried out. A kill that was recorded
// and a refusal for good don't count.
func (t *task) pending() bool {
	gen := t.want.Generation
	if k := t.rec.Kill; k != nil && k.Generation == gen && gen == t.want.KillGeneration {
		gen--
	}
	return t.rec.Generation < gen || t.rec.Failed && !t.partly()
}

// starting reports whether a process that doesn't run, or is paused, is to be started or
// unpaused. It is, if an action since the last completed generation asks for it, or if
// the last such try has failed. The outcome of a signal or of limits is no reason.
func (t *task) starting() bool {
	gen := t.want.StartGeneration
	if gen == 0 { // from servers that don't send it
		return t.pending()
	}
	return t.rec.Generation < gen || t.rec.Failed && !t.partly()
}

// restarts reports whether the agent itself restarts a process that has ended.
func (t *task) restarts() bool {
	if t.want.Spec == nil {
		return false
	}
	policy := t.want.Spec.RestartPolicy
	if policy.Always() || t.want.Spec.Exclusive == structs.ExclusiveNo {
		return policy.Always() // the engine carries out on-failure
	}
	return policy.Name == structs.RestartOnFailure && t.cur.State == backend.StateExited && t.cur.ExitCode != 0 && !t.killed() &&
		(policy.MaxRetries == 0 || t.rec.Tries < policy.MaxRetries)
}

// interrupted reports whether the agent ended the process with its lease, and it has not
// run since.
func (t *task) interrupted() bool {
	return t.rec.Lapsed != nil && t.rec.Lapsed.StartedAt.Equal(t.cur.StartedAt) && !t.cur.Live()
}

// refused says why the generation can't be carried out in full, although the rest of it
// is: the signal was not sent, or the engine refuses the limits. "" if nothing was
// refused.
func (t *task) refused() string {
	if k := t.rec.Kill; k != nil && k.Refused != "" && k.Generation == t.want.Generation && k.Generation == t.want.KillGeneration {
		return k.Refused
	}
	if gen := t.want.LimitGeneration; gen != 0 && gen != t.want.Generation {
		return "" // the generation was about something else, which is carried out
	}
	return t.rec.Denied // also from servers that don't send LimitGeneration
}

// partly reports whether the last generation has failed only by what refused names: the
// rest of it was carried out.
func (t *task) partly() bool {
	return t.rec.Reason == t.rec.Denied || t.rec.Kill != nil && t.rec.Reason == t.rec.Kill.Refused
}

// killed reports whether a user's signal was sent to the last run of the process.
func (t *task) killed() bool {
	k := t.rec.Kill
	return k != nil && k.Refused == "" && t.cur != nil && k.StartedAt.Equal(t.cur.StartedAt)
}

// adopt takes over an existing container as the desired one.
func (t *task) adopt() error {
	changed := false
	if !t.rec.Created {
		t.rec.Created, changed = true, true
	}
	if t.rec.EngineID != t.cur.EngineID {
		t.rec.EngineID, changed = t.cur.EngineID, true
	}
	if lease := t.want.Spec != nil && t.want.Spec.Exclusive == structs.ExclusiveLease; lease != t.rec.Lease {
		t.rec.Lease, changed = lease, true
	}
	if !t.known && t.want.Observed > t.rec.Generation {
		// The journal was lost; what was reported to the servers is still true.
		t.rec.Generation, changed = min(t.want.Observed, t.want.Generation), true
	}
	if in := t.rec.Intent; in != nil && !t.cur.StartedAt.Equal(in.StartedAt) {
		// The start has happened, and the agent was killed before it could record that.
		if in.Generation < t.want.Generation || t.want.Desired == structs.DesiredRunning {
			t.rec.Generation = max(t.rec.Generation, in.Generation)
			t.rec.Reason = t.refused()
			t.rec.Failed = t.rec.Reason != ""
		}
		t.rec.Intent, changed = nil, true
	}
	if !changed {
		return nil
	}
	return t.save()
}

// intend records that a start is about to happen.
func (t *task) intend() error {
	if in := t.rec.Intent; in != nil && in.Generation == t.want.Generation {
		return nil
	}
	if t.rec.Intent == nil {
		t.rec.Restarts += t.cur.RestartCount // the engine counts from 0 again after a start
	}
	t.rec.Intent = &intent{Generation: t.want.Generation, StartedAt: t.cur.StartedAt}
	return t.save()
}

// deny records why the engine refuses the limits, "" if it doesn't.
func (t *task) deny(reason string) error {
	if t.rec.Denied == reason {
		return nil
	}
	if t.rec.Failed && t.rec.Reason == t.rec.Denied {
		t.rec.Failed, t.rec.Reason = false, ""
	}
	t.rec.Denied = reason
	return t.save()
}

// save writes the record.
func (t *task) save() error {
	t.known = true
	return t.journal.put(t.rec)
}

// status describes the container. A given reason takes precedence over an observed one.
// held is the reason of the current backoff, "" if there is none.
func (t *task) status(reason, held string) structs.Observed {
	o := structs.Observed{
		Status: structs.ContainerError, Reason: reason,
		Generation: t.rec.Generation, Failed: t.rec.Failed && t.rec.Generation == t.want.Generation,
		RestartCount: t.rec.Restarts,
	}
	c := t.cur
	if c == nil {
		if t.old != nil {
			o.Memory, o.MilliCPU = t.old.Memory, t.old.MilliCPU
		}
		return o
	}
	o.StartedAt, o.Addresses, o.Ports, o.Health = c.StartedAt, c.Addresses, c.Ports, c.Health
	o.Memory, o.MilliCPU, o.EngineID = c.Memory, c.MilliCPU, c.EngineID
	o.RestartCount += c.RestartCount
	if t.rec.Intent != nil {
		o.RestartCount = t.rec.Restarts // it has the engine's count already
	}
	if !c.Live() && !c.FinishedAt.IsZero() {
		code := c.ExitCode
		o.ExitCode, o.FinishedAt = &code, c.FinishedAt
	}
	switch c.State {
	case backend.StateRunning:
		o.Status = structs.ContainerRunning
	case backend.StatePaused:
		o.Status = structs.ContainerPaused
		if reason == "" && t.want.Desired != structs.DesiredPaused {
			o.Reason = "it was paused on its host by somebody else; unpause it to go on"
		}
	case backend.StateRestarting:
		o.Status = structs.ContainerRunning
		if reason == "" {
			o.Reason = t.ended() + "; its restart policy is starting it again"
		}
	case backend.StateCreated:
		if !t.startFailed(reason, held) {
			o.Status = structs.ContainerStopped
		}
	default:
		if !t.startFailed(reason, held) {
			o.Status = structs.ContainerStopped
		}
		if reason == "" && (t.want.Desired != structs.DesiredStopped || t.outOfMemory()) {
			o.Reason = t.ended()
		}
	}
	if o.Reason == "" {
		o.Reason = t.rec.Denied
	}
	return o
}

// startFailed reports whether a process that is desired running could not be started.
func (t *task) startFailed(reason, held string) bool {
	if t.want.Desired != structs.DesiredRunning {
		return false
	}
	return t.rec.Failed && !t.partly() || reason != "" && held == reason
}

// killedExit is the exit code of a process that SIGKILL has ended.
const killedExit = 137

// outOfMemory reports whether the process of a container was killed because it needed more
// than its memory limit.
func outOfMemory(c *backend.Container) bool {
	return c.OOMKilled && c.ExitCode == killedExit // else only a child was killed
}

// outOfMemory is likewise for the container, and false if the agent has killed the process.
func (t *task) outOfMemory() bool {
	c := t.cur
	return outOfMemory(c) && !t.interrupted() && !(t.killed() && t.rec.Kill.Signal == "SIGKILL") &&
		(t.rec.Halted.IsZero() || !t.rec.Halted.Equal(c.StartedAt))
}

// halts records that the agent is about to stop a process that may have to be killed. A
// child of it may have been killed for want of memory: that isn't how the process ends.
func (t *task) halts() error {
	if !t.cur.OOMKilled || t.rec.Halted.Equal(t.cur.StartedAt) {
		return nil
	}
	t.rec.Halted = t.cur.StartedAt
	return t.save()
}

// ended says how the process has ended.
func (t *task) ended() string {
	c := t.cur
	switch {
	case t.outOfMemory():
		return "its process was killed because it needed more than its memory limit; give it more memory"
	case t.killed():
		return fmt.Sprintf("its process has ended with exit code %d after a user sent it signal %s", c.ExitCode, t.rec.Kill.Signal)
	case c.ExitCode == 0:
		return "its process has ended"
	case c.ExitCode > 128 && c.ExitCode < 128+65:
		return fmt.Sprintf("its process was ended by signal %d (exit code %d), not by magnum", c.ExitCode-128, c.ExitCode)
	}
	return fmt.Sprintf("its process has ended with exit code %d; its logs may say why", c.ExitCode)
}

// older returns the references of the earlier placements in the journal.
func (t *task) older() []structs.Ref {
	var refs []structs.Ref
	for _, ref := range t.journal.refs() {
		if keyOf(ref) == t.unit.ref && ref.Epoch < t.want.Epoch {
			refs = append(refs, ref)
		}
	}
	return refs
}
