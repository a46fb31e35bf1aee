package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// podCells are the columns of pod-list that are not fields.
var podCells = cells{
	"ready":    ofPod(readyCount),
	"restarts": ofPod(func(p *structs.PodBody) string { return strconv.Itoa(restarts(p)) }),
	"reason":   ofPod(shortReason),
	"age":      ofPod(func(p *structs.PodBody) string { return ageText(p.CreatedAt) }),
}

// ofPod returns the function of a column.
func ofPod(text func(*structs.PodBody) string) func(object) string {
	return func(o object) string {
		var pod structs.PodBody
		raw, err := o.MarshalJSON()
		if err != nil || json.Unmarshal(raw, &pod) != nil {
			return "None" // of a server that shows pods in another way
		}
		return text(&pod)
	}
}

// readyCount returns how many of a pod's containers are ready, as 1/2.
func readyCount(pod *structs.PodBody) string {
	ready := 0
	for i := range pod.Containers {
		if pod.Containers[i].Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(pod.Containers))
}

// restarts returns the number of restarts of all containers.
func restarts(pod *structs.PodBody) (n int) {
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		n += c.RestartCount
	}
	return n
}

// shortReason returns the reason of the first container that isn't ready in one word.
func shortReason(pod *structs.PodBody) string {
	if pod.Ready {
		return "None"
	}
	for i := range pod.InitContainers {
		if c := &pod.InitContainers[i]; !initDone(c) && c.State.Reason != nil && !waitsForOthers(c) {
			return *c.State.Reason
		}
	}
	for i := range pod.Containers {
		if c := &pod.Containers[i]; !c.Ready && c.State.Reason != nil {
			return *c.State.Reason
		}
	}
	for _, c := range pod.Conditions {
		if c.Status != "True" && c.Reason != nil {
			return *c.Reason
		}
	}
	return "None"
}

// ageText returns the time since t in its largest unit, such as 3m.
func ageText(t structs.Time) string {
	if t.IsZero() {
		return "None"
	}
	return shortDuration(time.Since(t.Time))
}

// shortDuration returns a duration in its largest unit, such as 3m.
func shortDuration(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// showPod prints a pod as a table: its fields in the server's order, the manifest last, and
// after "ready" why it isn't.
func showPod(w io.Writer, raw json.RawMessage) error {
	obj, err := parseObject(raw)
	if err != nil {
		return err
	}
	var pod structs.PodBody
	if err := json.Unmarshal(raw, &pod); err != nil {
		return fmt.Errorf("decoding the response: %w", err)
	}
	t := table{head: []string{"Property", "Value"}}
	add := func(key, text string) { t.rows = append(t.rows, []string{key, text}) }
	lines := func(key string, lines []string) {
		text := "None"
		if len(lines) > 0 {
			text = printable(strings.Join(lines, "\n"))
		}
		add(key, text)
	}
	for _, f := range obj {
		switch f.key {
		case "links", "manifest":
		case "ready":
			add(f.key, cellText(f.raw))
			if !pod.Ready {
				lines("why_not_ready", whyNotReady(&pod))
			}
		case "conditions":
			var texts []string
			for _, c := range pod.Conditions {
				text := c.Type + "=" + c.Status
				if c.Reason != nil {
					text += " (" + *c.Reason + ")"
				}
				texts = append(texts, text)
			}
			lines(f.key, texts)
		case "init_containers":
			lines(f.key, containerLines(pod.InitContainers))
		case "containers":
			lines(f.key, containerLines(pod.Containers))
		default:
			add(f.key, cellText(f.raw))
		}
	}
	if manifest := obj.get("manifest"); manifest != nil {
		add("manifest", strings.TrimRight(cellText(manifest), "\n"))
	}
	return t.writeTo(w)
}

// containerLines returns a line for each container with its state, image and ports, and
// one for how it ended before its last restart.
func containerLines(containers []structs.PodContainerBody) (texts []string) {
	for i := range containers {
		c := &containers[i]
		text := c.Name + ": " + cmp.Or(c.State.State, removed)
		if c.State.State == structs.PartTerminated && c.State.ExitCode != nil {
			text += fmt.Sprintf(" with exit code %d", *c.State.ExitCode)
		}
		if c.Ready {
			text += ", ready"
		}
		text += restartText(c) + ", " + c.Image
		if len(c.Ports) > 0 {
			text += ", " + joinPorts(c.Ports)
		}
		texts = append(texts, text)
		if c.LastState != nil {
			texts = append(texts, "  before: "+stateText(c.LastState, ""))
		}
	}
	return texts
}

// removed stands for the state of a container of a pod that is being deleted.
const removed = "removed"

// restartText returns how often a container was restarted, "" if it wasn't.
func restartText(c *structs.PodContainerBody) string {
	switch c.RestartCount {
	case 0:
		return ""
	case 1:
		return ", 1 restart"
	}
	return fmt.Sprintf(", %d restarts", c.RestartCount)
}

// whyNotReady returns all that keeps a pod from being ready, in lines: the unmet conditions,
// and each container that isn't ready with its state and how its last attempt ended.
// Lines that belong to the one before are indented. It is empty for a ready pod.
func whyNotReady(pod *structs.PodBody) (why []string) {
	if pod.Ready {
		return nil
	}
	if pod.StatusReason != nil && *pod.StatusReason != "" && !saidByContainer(pod) {
		why = append(why, *pod.StatusReason)
	}
	for _, c := range pod.Conditions {
		if c.Status == "True" || c.Reason == nil || *c.Reason == "ContainersNotReady" || *c.Reason == "ContainersNotInitialized" ||
			c.Type == "ContainersReady" { // Ready says the same
			continue
		}
		text := c.Type + ": " + *c.Reason
		if c.Message != nil && !slices.Contains(why, *c.Message) {
			text += ": " + *c.Message
		}
		why = append(why, text)
	}
	initializing := false
	for i := range pod.InitContainers {
		if c := &pod.InitContainers[i]; !initDone(c) && !waitsForOthers(c) {
			initializing = true
			why = append(why, containerWhy(c, "init container ")...)
		}
	}
	for i := range pod.Containers {
		if c := &pod.Containers[i]; !c.Ready && (!initializing || !waitsForOthers(c)) {
			why = append(why, containerWhy(c, "")...)
		}
	}
	return why
}

// saidByContainer reports whether the status reason of a pod is that of a container, which
// says more.
func saidByContainer(pod *structs.PodBody) bool {
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if m := c.State.Message; m != nil && *m != "" && strings.Contains(*pod.StatusReason, *m) {
			return true
		}
	}
	return false
}

// initDone reports whether an init container has ended with exit code 0.
func initDone(c *structs.PodContainerBody) bool {
	return c.State.State == structs.PartTerminated && c.State.ExitCode != nil && *c.State.ExitCode == 0
}

// waitsForOthers reports whether a container waits until init containers before it have
// ended.
func waitsForOthers(c *structs.PodContainerBody) bool {
	return c.State.State == structs.PartWaiting && (c.State.Reason == nil || *c.State.Reason == structs.ReasonInitializing)
}

// containerWhy returns why a container isn't ready, and how its last attempt ended.
func containerWhy(c *structs.PodContainerBody, prefix string) []string {
	why := []string{prefix + containerText(c)}
	if c.LastState != nil {
		why = append(why, "  before: "+stateText(c.LastState, ""))
	}
	return why
}

// containerText returns the state of a container that isn't ready, in one line.
func containerText(c *structs.PodContainerBody) string {
	more := restartText(c)
	if c.State.State == structs.PartRunning {
		more += ", not ready"
	}
	return c.Name + ": " + stateText(&c.State, more)
}

// stateText returns a state with its reason, exit code and message, in one line. more is
// written before the message.
func stateText(s *structs.PartStateBody, more string) string {
	text := cmp.Or(s.State, removed)
	if s.Reason != nil {
		text += ": " + *s.Reason
	}
	if s.ExitCode != nil {
		text += fmt.Sprintf(", exit code %d", *s.ExitCode)
	}
	if s.State == structs.PartTerminated && !s.StartedAt.IsZero() && !s.FinishedAt.IsZero() {
		text += fmt.Sprintf(" after %s, at %s", shortDuration(s.FinishedAt.Sub(s.StartedAt.Time)), s.FinishedAt.UTC().Format(time.RFC3339))
	}
	if text += more; s.Message != nil {
		text += ": " + strings.ReplaceAll(*s.Message, "\n", " ")
	}
	return text
}
