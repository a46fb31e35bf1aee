package podplan

import (
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// pod returns a pod that has been observed: an infra container, an init container and two
// others, all of the image "i", of which none was begun.
func pod(restart string, edit ...func(*Pod)) *Pod {
	p := &Pod{Desired: structs.DesiredRunning, Restart: restart, Parts: []Part{
		{Name: structs.PodInfra, Role: Infra}, {Name: "prepare", Role: Init}, {Name: "web"}, {Name: "side"}}}
	for i := range p.Parts {
		p.Parts[i].Known, p.Parts[i].Image = true, "i"
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

// The changes of a pod, by the place of a part.

func with(i int, edit func(*Part)) func(*Pod) { return func(p *Pod) { edit(&p.Parts[i]) } }

func made(i int) func(*Pod) {
	return with(i, func(x *Part) {
		x.Attempt, x.Exists, x.Left, x.Made, x.Infra = 1, true, true, "i", "I1"
		if x.Role == Infra {
			x.Infra, x.ID = "", "I1"
		}
	})
}

func running(i int) func(*Pod) {
	return func(p *Pod) {
		made(i)(p)
		x := &p.Parts[i]
		x.Started, x.Live, x.StartedAt = true, true, at
	}
}

func ended(i, code int, after time.Duration) func(*Pod) {
	return func(p *Pod) {
		running(i)(p)
		x := &p.Parts[i]
		x.Live, x.ExitCode, x.FinishedAt = false, code, at.Add(after)
	}
}

func all(edits ...func(*Pod)) func(*Pod) {
	return func(p *Pod) {
		for _, e := range edits {
			e(p)
		}
	}
}

// up is a pod that runs.
var up = all(running(0), ended(1, 0, time.Second), running(2), running(3))

func stopped(p *Pod) { p.Desired = structs.DesiredStopped }
func absent(p *Pod)  { p.Desired = structs.DesiredAbsent }
func expired(p *Pod) { p.Expired = true }

func infraDead(p *Pod) { ended(0, 137, time.Minute)(p) }

// infraNew is another infra container.
func infraNew(p *Pod) {
	running(0)(p)
	p.Parts[0].Attempt, p.Parts[0].ID = 2, "I2"
}

const (
	always    = structs.PodRestartAlways
	onFailure = structs.PodRestartOnFailure
	never     = structs.PodRestartNever
)

func TestDecide(t *testing.T) {
	const infra, prepare, web, side = 0, 1, 2, 3
	crash := func(pause, after time.Duration) Decision {
		return Decision{Step: Wait, Reason: structs.ReasonCrashLoop, Pause: pause, After: after}
	}
	creating := Decision{Step: Wait, Reason: structs.ReasonCreating}
	initializing := Decision{Step: Wait, Reason: structs.ReasonInitializing}
	end := func(why string) Decision { return Decision{Step: End, Reason: why} }
	deaths := func(n int) func(*Part) { return func(x *Part) { x.Deaths = n } }
	halted := func(x *Part) { x.Halted = true }
	for _, c := range []struct {
		name string
		pod  *Pod
		part int
		want Decision
	}{
		// The order of the start.
		{"nothing is known of a part", pod(always, with(side, func(x *Part) { x.Known = false })), infra, Decision{Step: Hold}},
		{"the infra container comes first", pod(always), infra, Decision{Step: Create}},
		{"the init container waits for it", pod(always), prepare, creating},
		{"the others do, too", pod(always), web, creating},
		{"a made infra container", pod(always, made(infra)), infra, Decision{Step: Start}},
		{"it runs", pod(always, running(infra)), infra, Decision{Step: Keep}},
		{"then the init container", pod(always, running(infra)), prepare, Decision{Step: Create}},
		{"a made init container", pod(always, running(infra), made(prepare)), prepare, Decision{Step: Start}},
		{"the others wait for it", pod(always, running(infra), running(prepare)), web, initializing},
		{"it has succeeded", pod(always, running(infra), ended(prepare, 0, 1)), prepare, Decision{Step: Rest}},
		{"all others come at once", pod(always, running(infra), ended(prepare, 0, 1)), web, Decision{Step: Create}},
		{"all others come at once", pod(always, running(infra), ended(prepare, 0, 1), running(web)), side, Decision{Step: Create}},
		{"a made container", pod(always, running(infra), ended(prepare, 0, 1), made(web)), web, Decision{Step: Start}},
		{"it runs, too", pod(always, up), web, Decision{Step: Keep}},
		{"the init container was removed, whose success is not known", pod(always, up, with(prepare, func(x *Part) {
			*x = Part{Name: x.Name, Role: Init, Known: true, Image: "i"}
		})), prepare, Decision{Step: Rest}},

		// Init containers that fail.
		{"restarted at once", pod(always, running(infra), ended(prepare, 1, time.Second)), prepare, Decision{Step: Renew, Deaths: 1}},
		{"on-failure likewise", pod(onFailure, running(infra), ended(prepare, 1, time.Second)), prepare, Decision{Step: Renew, Deaths: 1}},
		{"the others wait", pod(always, running(infra), ended(prepare, 1, time.Second)), web, initializing},
		{"never", pod(never, running(infra), ended(prepare, 1, time.Second)), prepare, Decision{Step: Rest}},
		{"the others never run then", pod(never, running(infra), ended(prepare, 1, time.Second)), web, Decision{Step: Rest,
			Reason: structs.ReasonInitializing}},
		{"the infra container ends", pod(never, running(infra), ended(prepare, 1, time.Second)), infra, end(EndOver)},

		// The restart policy and the pause.
		{"at once", pod(always, up, ended(web, 1, time.Second)), web, Decision{Step: Renew, Deaths: 1}},
		{"always after a success, too", pod(always, up, ended(web, 0, time.Second)), web, Decision{Step: Renew, Deaths: 1}},
		{"ten seconds", pod(always, up, ended(web, 1, 0), with(web, deaths(1))), web, crash(10*time.Second, 9*time.Second)},
		{"forty seconds", pod(always, up, ended(web, 1, 0), with(web, deaths(3))), web, crash(40*time.Second, 39*time.Second)},
		{"five minutes", pod(always, up, ended(web, 1, 0), with(web, deaths(50))), web, crash(5*time.Minute, 299*time.Second)},
		{"the pause is over", pod(always, up, ended(web, 1, -20*time.Second), with(web, deaths(1))), web, Decision{Step: Renew, Deaths: 2}},
		{"it ran for long", pod(always, up, ended(web, 1, 10*time.Minute), with(web, deaths(9))), web, Decision{Step: Renew, Deaths: 1}},
		{"the clock was set back", pod(always, up, ended(web, 1, time.Minute), with(web, deaths(1))), web,
			crash(10*time.Second, 10*time.Second)},
		{"on-failure after a success", pod(onFailure, up, ended(web, 0, 1)), web, Decision{Step: Rest}},
		{"on-failure after a failure", pod(onFailure, up, ended(web, 2, 1)), web, Decision{Step: Renew, Deaths: 1}},
		{"never", pod(never, up, ended(web, 2, 1)), web, Decision{Step: Rest}},
		{"the infra container waits for the rest", pod(never, up, ended(web, 2, 1)), infra, Decision{Step: Keep}},
		{"all have ended", pod(never, up, ended(web, 2, 1), ended(side, 0, 1)), infra, end(EndOver)},
		{"it has ended, too", pod(never, up, infraDead, ended(web, 2, 1), ended(side, 0, 1)), infra, Decision{Step: Rest}},
		{"and nothing runs again", pod(never, up, infraDead, ended(web, 2, 1), ended(side, 0, 1)), prepare, Decision{Step: Rest}},
		{"one was removed", pod(always, up, ended(web, 137, 1), with(web, func(x *Part) { x.Exists = false })), web,
			Decision{Step: Renew, Deaths: 1}},
		{"one was removed before it was started", pod(always, up, made(web), with(web, func(x *Part) {
			x.Exists, x.Started, x.Live = false, false, false
		})), web, Decision{Step: Create}},

		// Magnum has ended it.
		{"stopped, and to run again", pod(never, up, ended(web, 137, 0), with(web, halted)), web, Decision{Step: Renew}},
		{"without a pause", pod(always, up, ended(web, 137, 0), with(web, halted), with(web, deaths(4))), web,
			Decision{Step: Renew, Deaths: 4}},
		{"an infra container likewise", pod(always, all(up, infraDead), ended(web, 137, 1), ended(side, 137, 1), with(infra, halted),
			with(infra, deaths(4))), infra, Decision{Step: Renew, Deaths: 4}},
		{"sick", pod(always, up, with(web, func(x *Part) { x.Sick = "it doesn't answer" })), web, end(EndSick)},
		{"another image", pod(never, up, with(web, func(x *Part) { x.Image = "j" })), web, end(EndImage)},
		{"the others stay", pod(never, up, with(web, func(x *Part) { x.Image = "j" })), side, Decision{Step: Keep}},
		{"another image before the start", pod(always, up, made(web), with(web, func(x *Part) {
			x.Image, x.Started, x.Live = "j", false, false
		})), web, Decision{Step: Renew}},
		{"another image before the container is made", pod(always, up, with(web, func(x *Part) {
			*x = Part{Name: "web", Known: true, Image: "j", Attempt: 1, Made: "i", Infra: "I1"}
		})), web, Decision{Step: Create}},
		{"another image after the end", pod(never, up, ended(web, 0, 1), with(web, func(x *Part) { x.Image = "j" })), web,
			Decision{Step: Rest}},

		// The infra container ends.
		{"it waits for the others", pod(always, up, infraDead), infra, creating},
		{"which end", pod(always, up, infraDead), web, end(EndInfra)},
		{"and wait", pod(always, up, infraDead, ended(web, 137, 1)), web, creating},
		{"another one", pod(always, up, infraDead, ended(web, 137, 1), ended(side, 137, 1)), infra, Decision{Step: Renew, Deaths: 1}},
		{"the init container runs again", pod(always, up, infraNew, ended(web, 137, 1), ended(side, 137, 1)), prepare,
			Decision{Step: Renew}},
		{"the others wait for it", pod(always, up, infraNew, ended(web, 137, 1), ended(side, 137, 1)), web, initializing},
		{"then they run", pod(always, up, infraNew, ended(web, 137, 1), with(prepare, func(x *Part) { x.Infra = "I2" })), web,
			Decision{Step: Renew}},
		{"what succeeded doesn't", pod(onFailure, up, infraNew, ended(web, 0, 1), with(prepare, func(x *Part) { x.Infra = "I2" })), web,
			Decision{Step: Rest}},
		{"another one was there before the others noticed", pod(always, up, infraNew), web, end(EndInfra)},
		{"a container that joins the earlier one", pod(always, up, infraNew, ended(web, 137, 1), made(web), with(web, func(x *Part) {
			x.Started, x.Live = false, false
		}), with(prepare, func(x *Part) { x.Infra = "I2" })), web, Decision{Step: Renew}},
		{"never", pod(never, up, infraDead, ended(web, 137, 1), ended(side, 137, 1)), infra, Decision{Step: Rest}},
		{"it keeps dying", pod(always, up, infraDead, ended(web, 137, 1), ended(side, 137, 1), with(infra, deaths(1)),
			with(infra, func(x *Part) { x.FinishedAt = at })), infra, crash(10*time.Second, 9*time.Second)},

		// The end of the pod.
		{"stopped", pod(always, up, stopped), web, end(EndStopped)},
		{"the infra container last", pod(always, up, stopped), infra, Decision{Step: Keep}},
		{"the infra container last", pod(always, up, stopped, ended(web, 137, 1), ended(side, 0, 1)), infra, end(EndStopped)},
		{"all are stopped", pod(always, up, stopped, ended(web, 137, 1)), web, Decision{Step: Rest}},
		{"too long", pod(always, up, expired), web, end(EndExpired)},
		{"too long before it was made", pod(always, running(infra), expired), web, Decision{Step: Rest}},
		{"too long: the infra container last", pod(always, up, expired), infra, Decision{Step: Keep}},
		{"too long: the infra container last", pod(always, running(infra), expired), infra, end(EndExpired)},
		{"deleted", pod(always, up, absent), web, Decision{Step: Remove}},
		{"deleted: the infra container last", pod(always, up, absent), infra, Decision{Step: Hold}},
		{"deleted: what has ended is there, too", pod(always, up, absent, with(web, func(x *Part) { x.Left = false }),
			with(side, func(x *Part) { x.Left = false })), infra, Decision{Step: Hold}},
		{"deleted: nothing else is left", pod(always, running(infra), absent), infra, Decision{Step: Remove}},
	} {
		if got := c.pod.Decide(c.part, at.Add(time.Second)); got != c.want {
			t.Errorf("%s: %s is %+v, want %+v", c.name, c.pod.Parts[c.part].Name, got, c.want)
		}
	}
}

// TestInitContainersRunInOrder: each waits for the one before.
func TestInitContainersRunInOrder(t *testing.T) {
	second := Part{Name: "second", Role: Init, Known: true, Image: "i"}
	for _, c := range []struct {
		name string
		edit func(*Pod)
		want Step
	}{
		{"the first was not begun", running(0), Wait},
		{"the first runs", all(running(0), running(1)), Wait},
		{"the first has failed", all(running(0), ended(1, 1, 0)), Wait},
		{"the first has succeeded", all(running(0), ended(1, 0, 0)), Create},
	} {
		p := pod(always, c.edit)
		p.Parts = append(p.Parts[:2:2], append([]Part{second}, p.Parts[2:]...)...)
		if got := p.Decide(2, at); got.Step != c.want {
			t.Errorf("%s: the second is %+v", c.name, got)
		}
	}
}
