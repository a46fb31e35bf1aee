// Package podplan decides what each container of a pod does next, by Kubernetes' rules:
// in which order they start and end, when one is restarted, and when the pod is over. Its
// decisions depend on the wanted pod, on what was observed of its parts, and on the time
// only.
//
// Package agent is the only caller. Each part of a pod has a pass, which observes the
// part, asks for a Decision, and carries it out. Package podplan calls no engine, keeps no
// state and reads no clock.
package podplan

import (
	"time"

	"github.com/stackforge/magnum/structs"
)

// Role is what a part is in its pod.
type Role int

// The roles.
const (
	Main  Role = iota // one of the manifest's containers
	Init              // one of the manifest's init containers
	Infra             // the infra container
)

// Pod is what is known of a pod on its host.
type Pod struct {
	Desired structs.Desired // running, absent, or anything else for stopped
	Restart string          // one of the structs.PodRestart constants
	Expired bool            // the pod has run for as long as it may: it has ended for good
	// Parts are the parts in the order of the manifest: first the infra container, then
	// the init containers. Only a pod that is to be absent may lack some of them.
	Parts []Part
}

// Part is what is known of a part of a pod. Attempt and what follows are of the current
// attempt, which is the newest one that was begun.
type Part struct {
	Name  string
	Role  Role
	Left  bool   // the engine has containers of it, of any attempt
	Known bool   // it has been observed; what follows says nothing before that
	Image string // in the manifest

	Attempt uint64 // 0 if none was begun
	Exists  bool   // the engine has its container
	ID      string // the engine's ID of the container; "" if unknown
	Address string // IP address of an infra container; "" if it has none
	Made    string // the image that it was made from
	Infra   string // the engine's ID of the infra container that it joins
	Started bool   // its process was started
	Live    bool   // its process runs
	// The end of the process, if it was started and isn't live.
	ExitCode   int
	StartedAt  time.Time
	FinishedAt time.Time

	Deaths int    // attempts before that ended by themselves, one soon after the other
	Halted bool   // magnum has ended the process, which says nothing about whether it is to run again
	Sick   string // why the process must be ended, such as a failed liveness probe; "" if it needn't
}

// Step is what is to be done with a part.
type Step int

// The steps.
const (
	Hold   Step = iota // nothing: not enough is known
	Wait               // it waits for another part, or for the time in Pause
	Create             // create the container of the current attempt, which is the first if none was begun
	Start              // start its process
	Renew              // begin the next attempt; the current one again if its process was never started
	End                // end the process
	Keep               // the process runs as desired
	Rest               // it has ended for good, or will never run
	Remove             // remove all its containers
)

// Decision is what is to be done with a part, and why.
type Decision struct {
	Step   Step
	Reason string        // of Wait: one of the structs.Reason constants, likewise of Rest if it never ran. Of End: one of the End constants
	Pause  time.Duration // of Wait: the pause after the end of the attempt; 0 if it waits for another part
	After  time.Duration // when the next decision is due although nothing changes; 0 for never
	Deaths int           // of Renew: the next attempt's
}

// Why a process is ended.
const (
	EndStopped = "stopped" // the pod is to be stopped
	EndExpired = "expired" // the pod has run for as long as it may
	EndInfra   = "infra"   // its infra container has ended
	EndImage   = "image"   // the manifest names another image
	EndSick    = "sick"    // see Part.Sick
	EndOver    = "over"    // of an infra container: the others have ended for good
)

// The pauses before a restart, as Kubernetes has them. There is none after the first end.
const (
	pauseFirst = 10 * time.Second // doubled for each further attempt
	pauseLimit = 5 * time.Minute
	pauseReset = 10 * time.Minute // an attempt that ran as long counts as the first
)

// Decide says what is to be done with a part, by its place in Parts.
func (p *Pod) Decide(i int, now time.Time) Decision {
	x := &p.Parts[i]
	switch {
	case p.Desired == structs.DesiredAbsent:
		if x.Role == Infra && p.others(x, func(o *Part) bool { return o.Left }) {
			return Decision{Step: Hold}
		}
		return Decision{Step: Remove}
	case p.others(nil, func(o *Part) bool { return !o.Known }):
		return Decision{Step: Hold}
	case p.Expired:
		return p.end(x, EndExpired)
	case p.Desired != structs.DesiredRunning:
		return p.end(x, EndStopped)
	case x.Role == Infra:
		return p.infra(x, now)
	}
	return p.run(x, now)
}

// others reports whether a condition holds for any part but x.
func (p *Pod) others(x *Part, is func(*Part) bool) bool {
	for i := range p.Parts {
		if o := &p.Parts[i]; o != x && is(o) {
			return true
		}
	}
	return false
}

// end ends a part; the infra container after all others.
func (p *Pod) end(x *Part, why string) Decision {
	switch {
	case !x.Live:
		return Decision{Step: Rest}
	case x.Role == Infra && p.others(x, func(o *Part) bool { return o.Live }):
		return Decision{Step: Keep}
	}
	return Decision{Step: End, Reason: why}
}

// infra decides about the infra container. It runs as long as another part does or will.
// Another attempt of it begins once the others, which have lost their network, have ended.
func (p *Pod) infra(x *Part, now time.Time) Decision {
	switch {
	case p.Over():
		return p.end(x, EndOver)
	case x.Live && x.Sick != "":
		return Decision{Step: End, Reason: EndSick}
	case x.Live:
		return Decision{Step: Keep}
	case !x.Started && x.Exists:
		return Decision{Step: Start}
	case p.others(x, func(o *Part) bool { return o.Live }):
		return Decision{Step: Wait, Reason: structs.ReasonCreating}
	case !x.Started:
		return Decision{Step: Create}
	}
	return again(x, now)
}

// run decides about a container of a pod that runs.
func (p *Pod) run(x *Part, now time.Time) Decision {
	infra := &p.Parts[0]
	joins := infra.Live && x.Infra == infra.ID
	switch {
	case x.Live && !joins:
		return Decision{Step: End, Reason: EndInfra}
	case x.Live && x.Made != x.Image:
		return Decision{Step: End, Reason: EndImage}
	case x.Live && x.Sick != "":
		return Decision{Step: End, Reason: EndSick}
	case x.Live:
		return Decision{Step: Keep}
	case p.done(x):
		return Decision{Step: Rest}
	case p.Over(): // an init container has failed
		return Decision{Step: Rest, Reason: structs.ReasonInitializing}
	case !infra.Live:
		return Decision{Step: Wait, Reason: structs.ReasonCreating}
	case p.waitsForInit(x):
		return Decision{Step: Wait, Reason: structs.ReasonInitializing}
	case !x.Started && !x.Exists:
		return Decision{Step: Create}
	case !joins, x.Halted, !x.Started && x.Made != x.Image:
		return Decision{Step: Renew, Deaths: x.Deaths} // it has not ended by itself
	case !x.Started:
		return Decision{Step: Start}
	}
	return again(x, now)
}

// again decides about a part that has ended and is to run again.
func again(x *Part, now time.Time) Decision {
	deaths, pause := x.Deaths, time.Duration(0)
	if x.FinishedAt.Sub(x.StartedAt) >= pauseReset {
		deaths = 0
	}
	if deaths > 0 {
		pause = min(pauseFirst<<min(deaths-1, 10), pauseLimit)
	}
	// Clocks may jump: no pause is longer than it says.
	if left := min(x.FinishedAt.Add(pause).Sub(now), pause); left > 0 && !x.Halted {
		return Decision{Step: Wait, Reason: structs.ReasonCrashLoop, Pause: pause, After: left}
	}
	if x.Halted {
		return Decision{Step: Renew, Deaths: x.Deaths}
	}
	return Decision{Step: Renew, Deaths: deaths + 1}
}

// Ended reports whether the current attempt's process has ended.
func (x *Part) Ended() bool { return x.Started && !x.Live }

// done reports whether a part has ended for good, by the restart policy.
func (p *Pod) done(x *Part) bool {
	switch {
	case x.Role == Init && p.initialized(x):
		return true
	case !x.Ended() || x.Halted:
		return false
	case x.Role == Init:
		return x.ExitCode != 0 && p.Restart == structs.PodRestartNever
	}
	return p.Restart == structs.PodRestartNever || p.Restart == structs.PodRestartOnFailure && x.ExitCode == 0
}

// initialized reports whether an init container has done its work in the present infra
// container. It has, if a container that waited for it was started there.
func (p *Pod) initialized(x *Part) bool {
	infra := &p.Parts[0]
	if x.Ended() && x.ExitCode == 0 && !x.Halted && x.Infra == infra.ID {
		return true
	}
	return p.others(x, func(o *Part) bool { return o.Role == Main && o.Started && o.Infra == infra.ID })
}

// waitsForInit reports whether an init container must succeed before the part may run.
func (p *Pod) waitsForInit(x *Part) bool {
	for i := range p.Parts {
		switch o := &p.Parts[i]; {
		case o == x:
			return false
		case o.Role == Init && !p.initialized(o):
			return true
		}
	}
	return false
}

// Over reports whether the pod has ended for good: each of its containers has, or an init
// container has failed.
func (p *Pod) Over() bool {
	if p.Expired {
		return true
	}
	mains := 0
	for i := range p.Parts {
		x := &p.Parts[i]
		switch {
		case x.Role == Init && p.done(x) && !p.initialized(x):
			return true
		case x.Role == Main && !p.done(x):
			mains++
		}
	}
	return mains == 0
}
