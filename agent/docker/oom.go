package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
)

// Engine 20.10 learns of a kill for want of memory and of the end of the process in two
// messages, in any order. If the end comes first, its State.OOMKilled stays false, and only
// an event tells of the kill. So the events of a container that was ended by SIGKILL are
// asked for, once for each end, and the stream of events is watched for later ones.

const (
	// killedExit is the exit code of a process that SIGKILL has ended.
	killedExit = 137
	// oomLag is how long after the end of a process the event of its kill may come. An
	// Inspect just after the end waits that long for it.
	oomLag = 250 * time.Millisecond
	// oomPatience bounds the wait for the engine's answer. The clock of an engine on another
	// machine may be behind, and the engine waits for the end of the asked time.
	oomPatience = 5 * time.Second
)

// oomKills are the kills for want of memory that the engine's events told of. The maps are
// cleared when they are full; then it is asked again.
type oomKills struct {
	mu    sync.Mutex
	told  map[string]time.Time // by the engine's ID: the latest kill, by the engine's clock
	asked map[string]time.Time // by the engine's ID: the end of the process that was asked about

	// byAgent are containers that this agent has stopped or sent SIGKILL since their start.
	byAgent idSet
}

// note notes an event. It reports whether the end of the process was asked about before,
// which makes that answer wrong.
func (o *oomKills) note(id string, at time.Time) (late bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.told) >= maxIDs || o.told == nil {
		o.told = make(map[string]time.Time)
	}
	if at.After(o.told[id]) {
		o.told[id] = at
	}
	_, late = o.asked[id]
	return late
}

// killed reports whether an event told of a kill since started, and whether the end at
// finished was asked about before.
func (o *oomKills) killed(id string, started, finished time.Time) (killed, asked bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, told := o.told[id]
	return told && !at.Before(started), o.asked[id].Equal(finished)
}

func (o *oomKills) noteAsked(id string, finished time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.asked) >= maxIDs || o.asked == nil {
		o.asked = make(map[string]time.Time)
	}
	o.asked[id] = finished
}

// forget drops the notes about a container that is removed.
func (o *oomKills) forget(id string) {
	o.byAgent.take(id)
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.told, id)
	delete(o.asked, id)
}

// killedLate reports whether a process of an ended container was killed for want of memory,
// although the engine's state does not say so.
func (rt *runtime) killedLate(ctx context.Context, raw container.InspectResponse) bool {
	if raw.State.OOMKilled || raw.State.ExitCode != killedExit || engine.StateOf(raw.State) != backend.StateExited ||
		raw.HostConfig == nil || raw.HostConfig.Memory == 0 || rt.ooms.byAgent.has(raw.ID) {
		return false
	}
	started, finished := engine.TimeOf(raw.State.StartedAt), engine.TimeOf(raw.State.FinishedAt)
	if finished.Before(started) { // a quick run
		started = finished
	}
	killed, asked := rt.ooms.killed(raw.ID, started, finished)
	if killed || asked {
		return killed
	}
	err := rt.askOOM(ctx, raw.ID, started, finished.Add(oomLag))
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		rt.engine.Log.Debug("the engine's events tell nothing of a killed process", "container", raw.ID, "error", err)
	}
	rt.ooms.noteAsked(raw.ID, finished)
	killed, _ = rt.ooms.killed(raw.ID, started, finished)
	return killed
}

// askOOM asks for the events of a container's kills since a time, until until or now,
// whichever is later, and notes the first of them.
func (rt *runtime) askOOM(ctx context.Context, id string, since, until time.Time) error {
	if now := time.Now(); until.Before(now) {
		until = now
	}
	stamp := func(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
	return rt.engine.Read(ctx, oomPatience, func(ctx context.Context) error {
		messages, errs := rt.engine.Client.Events(ctx, events.ListOptions{Since: stamp(since), Until: stamp(until),
			Filters: filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("container", id),
				filters.Arg("event", string(events.ActionOOM)))})
		select {
		case m := <-messages:
			rt.ooms.note(m.Actor.ID, time.Unix(0, m.TimeNano))
			return nil
		case err := <-errs:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	})
}
