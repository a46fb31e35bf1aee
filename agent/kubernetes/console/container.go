package console

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/stackforge/magnum/agent/backend"
)

// container is a container of a pod as the cluster shows it.
type container struct {
	pod    *corev1.Pod
	spec   corev1.Container
	init   bool
	status *corev1.ContainerStatus // nil while the node has reported none
}

// find returns the container of a pod. ErrNotFound.
func find(pod *corev1.Pod, name string) (container, error) {
	c := container{pod: pod}
	found := false
	for _, list := range []struct {
		specs    []corev1.Container
		statuses []corev1.ContainerStatus
		init     bool
	}{
		{pod.Spec.InitContainers, pod.Status.InitContainerStatuses, true},
		{pod.Spec.Containers, pod.Status.ContainerStatuses, false},
	} {
		for _, spec := range list.specs {
			if spec.Name == name {
				c.spec, c.init, found = spec, list.init, true
			}
		}
		for i, status := range list.statuses {
			if status.Name == name {
				c.status = &list.statuses[i]
			}
		}
	}
	if !found {
		return c, &backend.Failure{Reason: backend.ErrNotFound, Msg: "the pod has no container " + name}
	}
	return c, nil
}

// running reports whether its process runs.
func (c container) running() bool { return c.status != nil && c.status.State.Running != nil }

// restarts returns how often it was started again.
func (c container) restarts() int32 {
	if c.status == nil {
		return 0
	}
	return c.status.RestartCount
}

// exit returns how its process has ended: the present one, or with before the one before it;
// nil if it hasn't.
func (c container) exit(before bool) *corev1.ContainerStateTerminated {
	switch {
	case c.status == nil:
		return nil
	case before:
		return c.status.LastTerminationState.Terminated
	}
	return c.status.State.Terminated
}

// over reports whether its process has ended, and won't be started again as long as there is
// the pod. One that is being deleted isn't over before it is gone: another one may follow.
func (c container) over() bool {
	if c.pod.Status.Phase == corev1.PodSucceeded || c.pod.Status.Phase == corev1.PodFailed {
		return true
	}
	ended := c.exit(false)
	if ended == nil {
		return false
	}
	policy := c.pod.Spec.RestartPolicy
	switch {
	case c.spec.RestartPolicy != nil:
		policy = corev1.RestartPolicy(*c.spec.RestartPolicy)
	case c.init && policy == corev1.RestartPolicyAlways:
		policy = corev1.RestartPolicyOnFailure
	}
	return policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && ended.ExitCode == 0
}

// notRunning explains that no process runs.
func (c container) notRunning() error {
	why := "it has not been started yet"
	switch {
	case c.exit(false) != nil:
		why = "its process has ended"
	case c.status != nil && c.status.State.Waiting != nil && c.status.State.Waiting.Reason != "":
		why = "it waits (" + c.status.State.Waiting.Reason + ")"
	}
	return &backend.Failure{Reason: backend.ErrNotRunning, Msg: "container " + c.spec.Name + " is not running: " + why}
}
