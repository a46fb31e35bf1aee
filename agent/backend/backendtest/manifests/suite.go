// Package manifests has the part of the conformance suite that is told in manifests: the same
// text gives the same phases, states, reasons and exit codes on every backend, in the same
// words. What differs by the nature of a backend stands in the table with its reason, and is
// asserted, too. Only tests import the package.
package manifests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// patience bounds waits for what must happen but has no promised speed: the machine may be
// busy.
const patience = 3 * time.Minute

// Host runs pods on a backend with all that an agent does.
type Host interface {
	Backend() structs.Backend
	Image() string // the busybox that it has; it reaches no registry that has others

	// Run assigns a new pod of the manifest. It fails the test if servers would refuse it.
	Run(t *testing.T, name, manifest string) Pod
}

// Pod is a pod that a Host runs.
type Pod interface {
	// Row returns the pod as servers have it before the first report.
	Row() structs.Pod
	// Reports returns everything that was reported of the pod so far.
	Reports() []structs.ContainerReport
	// Delete has the pod deleted, as pod-delete does.
	Delete()
}

// Suite runs all pods of the table at once, and compares what is seen of each with the table.
func Suite(t *testing.T, h Host) {
	pods := make([]Pod, len(table))
	for i := range table {
		pods[i] = h.Run(t, table[i].name, table[i].manifest(h.Image()))
	}
	for i := range table {
		c, w := &table[i], &watcher{pod: pods[i], row: pods[i].Row()}
		t.Run(c.name, func(t *testing.T) {
			want := c.on(h.Backend())
			w.until(t, want.view, func() bool { return matches(want.view, w.view()) && strings.Contains(w.row.Observed.Reason, want.says) })
		})
	}
	for _, p := range pods {
		p.Delete()
	}
	for i, p := range pods {
		w := &watcher{pod: p, row: p.Row()}
		t.Run(table[i].name+"/delete", func(t *testing.T) {
			w.until(t, "gone", func() bool { return w.row.Observed.Status == structs.ContainerGone })
		})
	}
}

// outcome is what is seen of a pod at some time.
type outcome struct {
	// view is what view gives. An * stands for any text, for what depends on how fast the
	// machine is.
	view string
	says string // part of status_reason at that time
}

// difference is another outcome, which a backend has by its nature.
type difference struct {
	on structs.Backend
	outcome
	why string
}

// test is a row of the table.
type test struct {
	name string
	spec string // of the pod, in YAML; IMAGE stands for the image
	outcome
	differs []difference
}

// manifest returns the text of the pod.
func (c *test) manifest(image string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + c.name + "}\nspec:\n" + strings.ReplaceAll(c.spec, "IMAGE", image)
}

// on returns what is to be seen on a backend.
func (c *test) on(b structs.Backend) outcome {
	if i := slices.IndexFunc(c.differs, func(d difference) bool { return d.on == b }); i >= 0 {
		return c.differs[i].outcome
	}
	return c.outcome
}

// watcher reads the reports of a pod one after the other: a state that has passed counts.
type watcher struct {
	pod  Pod
	row  structs.Pod
	read int
	past []string // different views so far
}

// until reads reports until the row is as wanted.
func (w *watcher) until(t *testing.T, want string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		for _, r := range w.pod.Reports()[w.read:] {
			w.read++
			w.row.Observe(&r)
			if is() {
				return
			}
			if now := fmt.Sprintf("%s (%s)", w.view(), w.row.Observed.Reason); !slices.Contains(w.past, now) {
				w.past = append(w.past, now)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("never seen:\n  %s\nseen:\n  %s", want, strings.Join(w.past, "\n  "))
		}
	}
}

// view describes a pod in one line: its phase, and of each container the state, its reason, its
// exit code, and the end of the attempt before.
func (w *watcher) view() string {
	p := &w.row
	text := string(p.Phase())
	if p.Ready() {
		text += ", ready"
	}
	for _, list := range [][]structs.PodContainer{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			seen := p.Part(list[i].Name)
			if seen == nil {
				text += fmt.Sprintf("; %s: none", list[i].Name)
				continue
			}
			text += fmt.Sprintf("; %s: %s", list[i].Name, state(&seen.PartState))
			if seen.Ready {
				text += ", ready"
			}
			if seen.Last.State != "" {
				text += ", before " + state(&seen.Last)
			}
		}
	}
	return text
}

func state(s *structs.PartState) string {
	text := s.State
	if s.Reason != "" {
		text += " " + s.Reason
	}
	if s.ExitCode != nil {
		text += fmt.Sprintf(" %d", *s.ExitCode)
	}
	return text
}

// matches reports whether a text is the pattern, in which * stands for any text.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		if _, rest, ok = strings.Cut(rest, p); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
