package conductor

import (
	"fmt"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Action is what a user asks a container to do.
type Action string

// The actions.
const (
	ActionStart   Action = "start"
	ActionStop    Action = "stop"
	ActionReboot  Action = "reboot"
	ActionPause   Action = "pause"
	ActionUnpause Action = "unpause"
	ActionKill    Action = "kill"
)

// Actions lists all actions.
var Actions = []Action{ActionStart, ActionStop, ActionReboot, ActionPause, ActionUnpause, ActionKill}

// ActOnContainer changes a container's desired state. Callers await the result's
// Generation.
type ActOnContainer struct {
	Caller  structs.Caller
	Ident   string // UUID or name
	Action  Action
	Timeout *int   // seconds between SIGTERM and SIGKILL; nil means the container's own
	Signal  string // for ActionKill, such as SIGHUP
}

func (r ActOnContainer) decide(t *scratch.Tx) (*structs.Container, error) {
	c, err := find[*structs.Container](t, r.Caller, structs.KindContainer, r.Ident)
	if err != nil {
		return nil, err
	}
	if actions.Done(t, r.Caller, c) {
		return c, nil
	}
	if c.Desired == structs.DesiredAbsent {
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is being deleted", r.Ident).About(structs.KindContainer)
	}
	if c.DrainStop && (r.Action == ActionStart || r.Action == ActionReboot) {
		return nil, structs.Errorf(structs.CodeConflict,
			"Cannot %s container %s: its host is being drained and it can't move; it is started again when the drain ends "+
				"(magnum host-undrain)", r.Action, r.Ident).About(structs.KindContainer)
	}
	was := effective(c)
	want, idle, err := r.Action.transition(was)
	if err != nil {
		return nil, structs.Errorf(structs.CodeConflict, "Cannot %s container %s: %w", r.Action, r.Ident, err).About(structs.KindContainer)
	}
	if c.Gone {
		idle = false
	}
	// The container may be about to change: an exited one restarts if it is desired
	// running.
	if idle && want == c.Desired {
		return c, nil
	}
	changed := *c
	changed.Desired = want
	changed.DrainStop = false // from now on it is the user who has stopped it
	changed.StopTimeout = r.Timeout
	changed.Generation++
	changed.UpdatedAt = t.Now
	switch r.Action {
	case ActionStart, ActionUnpause:
		changed.StartGeneration = changed.Generation
	case ActionReboot:
		changed.StartGeneration, changed.RebootGeneration = changed.Generation, changed.Generation
	case ActionKill:
		changed.KillGeneration, changed.Signal = changed.Generation, r.Signal
	}
	if changed.Gone && want == structs.DesiredRunning {
		placing.Replace(t, &changed)
	}
	t.Assign(&changed)
	actions.Note(t, r.Caller, string(r.Action), c, changed.Generation)
	return &changed, nil
}

// transition returns the desired state after the action, for a container in the given
// state. idle is true if the container is in that state already. The error says why the
// state forbids the action.
func (a Action) transition(was structs.Desired) (want structs.Desired, idle bool, err error) {
	switch a {
	case ActionStart:
		if was == structs.DesiredPaused {
			return "", false, fmt.Errorf("it is paused; unpause it")
		}
		return structs.DesiredRunning, was == structs.DesiredRunning, nil
	case ActionStop:
		if was == structs.DesiredCreated {
			return was, true, nil
		}
		return structs.DesiredStopped, was == structs.DesiredStopped, nil
	case ActionReboot:
		if was == structs.DesiredPaused {
			return "", false, fmt.Errorf("it is paused; unpause it first")
		}
		return structs.DesiredRunning, false, nil
	case ActionPause:
		if was != structs.DesiredRunning {
			return "", false, fmt.Errorf("it is %s, and only a running container can be paused", statusWord(was))
		}
		return structs.DesiredPaused, false, nil
	case ActionKill:
		if was != structs.DesiredRunning && was != structs.DesiredPaused {
			return "", false, fmt.Errorf("it is %s, and only a running container can be sent a signal", statusWord(was))
		}
		return was, false, nil
	case ActionUnpause:
		if was != structs.DesiredPaused {
			return "", false, fmt.Errorf("it is %s, not paused", statusWord(was))
		}
		return structs.DesiredRunning, false, nil
	}
	return "", false, fmt.Errorf("there is no action %q", a)
}

// effective returns the state from which an action starts: the last observed state, or the
// desired state while the host is still working on it.
func effective(c *structs.Container) structs.Desired {
	if c.DrainStop {
		return structs.DesiredStopped
	}
	if !c.Done() {
		return c.Desired
	}
	switch c.Observed.Status {
	case structs.ContainerRunning:
		return structs.DesiredRunning
	case structs.ContainerPaused:
		return structs.DesiredPaused
	case structs.ContainerUnknown:
		return c.Desired
	}
	if c.Desired == structs.DesiredCreated {
		return structs.DesiredCreated
	}
	return structs.DesiredStopped
}

// statusWord returns the user's word for a state.
func statusWord(s structs.Desired) string {
	switch s {
	case structs.DesiredRunning:
		return string(structs.ContainerRunning)
	case structs.DesiredPaused:
		return string(structs.ContainerPaused)
	}
	return string(structs.ContainerStopped)
}
