package mirror

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/structs"
)

// showPod describes a pod.
func (w *workload) showPod(m *Mirror, pod *corev1.Pod, r *structs.ContainerReport) {
	s := &pod.Status
	r.EngineID = string(pod.UID)
	if s.StartTime != nil {
		r.StartedAt = s.StartTime.UTC()
	}
	if s.PodIP != "" {
		r.Addresses = []string{s.PodIP}
	}
	for i := range pod.Spec.Containers {
		limits := pod.Spec.Containers[i].Resources.Limits
		r.Memory, r.MilliCPU = r.Memory+limits.Memory().Value(), r.MilliCPU+limits.Cpu().MilliValue()
	}
	r.Parts = append(parts(pod.Spec.InitContainers, s.InitContainerStatuses), parts(pod.Spec.Containers, s.ContainerStatuses)...)
	for _, p := range r.Parts {
		r.RestartCount += p.RestartCount
	}
	r.Pod = &structs.PodReport{Phase: structs.PodPhase(s.Phase), Node: pod.Spec.NodeName, NodeIP: s.HostIP}
	for _, c := range s.Conditions[:min(len(s.Conditions), structs.MaxConditions)] {
		r.Pod.Conditions = append(r.Pod.Conditions, structs.Condition{
			Type: string(c.Type), Status: string(c.Status), Reason: c.Reason, Message: c.Message})
	}
	switch s.Phase {
	case corev1.PodSucceeded, corev1.PodFailed:
		r.Status = structs.ContainerStopped
		for _, p := range r.Parts {
			if p.FinishedAt.After(r.FinishedAt) {
				r.FinishedAt = p.FinishedAt
			}
		}
	case corev1.PodRunning, corev1.PodUnknown:
		r.Status = structs.ContainerRunning
		if m.nodeSilent(pod) != "" {
			r.Pod.Phase = structs.PodUnknown
		}
	default:
		r.Status = structs.ContainerCreating
	}
	if r.Reason = m.podReason(pod, w.a.Desired == structs.DesiredAbsent); r.Reason == "" && r.Status == structs.ContainerCreating {
		r.Reason = w.event
	}
	w.lookForEvents(m, pod)
	if w.found && !w.assigned {
		r.Pod.Found = m.showFound(pod)
	}
}

// podReason says what is not well with a pod. ours says that magnum deletes it.
func (v *seen) podReason(pod *corev1.Pod, ours bool) string {
	var reasons []string
	if why := podTrouble(pod, v.nodeSilent(pod), ours); why != "" {
		reasons = append(reasons, why)
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if why := partReason(&list[i]); why != "" {
				reasons = append(reasons, list[i].Name+": "+why)
			}
		}
	}
	return strings.Join(reasons, "; ")
}

// podTrouble says what is not well with a pod as a whole, whatever its containers do. silent is what
// nodeSilent says of it.
func podTrouble(pod *corev1.Pod, silent string, ours bool) string {
	var reasons []string
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	s := &pod.Status
	if silent != "" {
		reasons = append(reasons, silent)
	}
	if pod.DeletionTimestamp != nil && !ours {
		if c := condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
			add("it is being deleted by the cluster: %s: %s", c.Reason, c.Message)
		} else {
			add("it is being deleted in the cluster")
		}
	}
	if s.Reason != "" || s.Message != "" {
		reasons = append(reasons, words(s.Reason, s.Message))
	}
	if c := condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		reasons = append(reasons, words(c.Reason, c.Message))
	}
	return strings.Join(reasons, "; ")
}

// words joins a reason and its message.
func words(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + message
}

// partReason says what is not well with a container.
func partReason(s *corev1.ContainerStatus) string {
	switch state := s.State; {
	case state.Waiting != nil && state.Waiting.Reason != structs.ReasonCreating && state.Waiting.Reason != structs.ReasonInitializing:
		return words(state.Waiting.Reason, state.Waiting.Message)
	case state.Terminated != nil && (state.Terminated.ExitCode != 0 || state.Terminated.Reason != structs.ReasonCompleted):
		if text := endMessage(state.Terminated); text != "" && state.Terminated.Message == "" {
			return text // as on a Docker host
		}
		return words(state.Terminated.Reason, state.Terminated.Message)
	}
	return ""
}

// parts describes containers, in the order of the spec.
func parts(specs []corev1.Container, seen []corev1.ContainerStatus) []structs.PartReport {
	var all []structs.PartReport
	for i := range specs {
		at := slices.IndexFunc(seen, func(s corev1.ContainerStatus) bool { return s.Name == specs[i].Name })
		if at < 0 {
			continue // nothing is known of it
		}
		all = append(all, part(&seen[at]))
	}
	return all
}

// part describes a container.
func part(s *corev1.ContainerStatus) structs.PartReport {
	p := structs.PartReport{Part: s.Name, State: stateOf(s.State), Last: stateOf(s.LastTerminationState), Ready: s.Ready,
		ImageID: s.ImageID}
	p.EngineID, p.RestartCount = s.ContainerID, int(s.RestartCount)
	p.Started = s.Started != nil && *s.Started
	switch {
	case s.State.Running != nil:
		p.Status = structs.ContainerRunning
	case s.State.Terminated != nil:
		p.Status = structs.ContainerStopped
	case s.LastTerminationState.Terminated != nil:
		p.Status = structs.ContainerRunning // it will be again
	default:
		p.Status = structs.ContainerCreating
	}
	p.Reason, p.ExitCode = p.State.Message, p.State.ExitCode
	p.StartedAt, p.FinishedAt = p.State.StartedAt, p.State.FinishedAt
	return p
}

// stateOf returns the state of one attempt of a container; zero if there was none.
func stateOf(s corev1.ContainerState) structs.PartState {
	switch {
	case s.Running != nil:
		return structs.PartState{State: structs.PartRunning, StartedAt: s.Running.StartedAt.UTC()}
	case s.Terminated != nil:
		code := int(s.Terminated.ExitCode)
		return structs.PartState{State: structs.PartTerminated, Reason: s.Terminated.Reason, Message: endMessage(s.Terminated),
			ExitCode: &code, StartedAt: utc(s.Terminated.StartedAt.Time), FinishedAt: utc(s.Terminated.FinishedAt.Time)}
	case s.Waiting != nil:
		return structs.PartState{State: structs.PartWaiting, Reason: s.Waiting.Reason, Message: s.Waiting.Message}
	}
	return structs.PartState{}
}

// utc returns a time in UTC. The cluster has the epoch of Unix for a time that it doesn't
// know.
func utc(t time.Time) time.Time {
	if t.IsZero() || t.Unix() == 0 {
		return time.Time{}
	}
	return t.UTC()
}

// endMessage says how a process has ended, as it does on Docker hosts, unless the process
// itself has left a message.
func endMessage(s *corev1.ContainerStateTerminated) string {
	switch {
	case s.Message != "":
		return s.Message
	case s.Reason == structs.ReasonOOMKilled:
		return "its process was killed because it needed more than its memory limit; raise resources.limits.memory"
	case s.ExitCode == 0:
		return ""
	case s.ExitCode > 128 && s.ExitCode < 128+65:
		return fmt.Sprintf("its process was ended by signal %d (exit code %d), not by magnum", s.ExitCode-128, s.ExitCode)
	}
	return fmt.Sprintf("its process has ended with exit code %d; its logs may say why", s.ExitCode)
}

// vanished says why a pod that is gone is gone.
func vanished(pod *corev1.Pod) string {
	switch {
	case pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "":
		return words(pod.Status.Reason, pod.Status.Message)
	case condition(pod, corev1.DisruptionTarget) != nil:
		c := condition(pod, corev1.DisruptionTarget)
		return "the cluster has deleted it: " + words(c.Reason, c.Message)
	}
	return wasDeleted
}

// lostForGood reports whether a pod that is to run always has ended, because the cluster
// has ended it: its containers would be started again.
func lostForGood(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed && pod.Spec.RestartPolicy == corev1.RestartPolicyAlways &&
		pod.Status.Reason != structs.ReasonDeadline
}

// showFound describes a pod for the servers, which don't know it.
func (v *seen) showFound(pod *corev1.Pod) *structs.FoundPod {
	id := owner(pod)
	f := &structs.FoundPod{RCID: id, Name: pod.Name, Labels: users(pod.Labels), Annotations: users(pod.Annotations), Spec: specOf(pod)}
	if rc, ok := v.objects[v.mine[name{structs.WorkloadObject, structs.KindRC + "/" + id}]].(*corev1.ReplicationController); ok {
		f.Updated = present(pod, rc)
	}
	return f
}

// specOf returns what servers keep of the spec of a pod.
func specOf(pod *corev1.Pod) *structs.PodSpec {
	s := &structs.PodSpec{Cluster: true, RestartPolicy: string(pod.Spec.RestartPolicy)}
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		s.GracePeriod = int(*seconds)
	}
	if seconds := pod.Spec.ActiveDeadlineSeconds; seconds != nil {
		s.ActiveDeadline = *seconds
	}
	containers := func(list []corev1.Container) []structs.PodContainer {
		var all []structs.PodContainer
		for i := range list {
			c := &list[i]
			p := structs.PodContainer{Name: c.Name, Image: c.Image, PullPolicy: string(c.ImagePullPolicy), TTY: c.TTY, Stdin: c.Stdin,
				StdinOnce: c.StdinOnce}
			for _, port := range c.Ports {
				p.Ports = append(p.Ports, structs.PodPort{Name: port.Name, Port: structs.Port{
					ContainerPort: int(port.ContainerPort), Protocol: strings.ToLower(string(port.Protocol))}})
			}
			all = append(all, p)
		}
		return all
	}
	s.InitContainers, s.Containers = containers(pod.Spec.InitContainers), containers(pod.Spec.Containers)
	return s
}
