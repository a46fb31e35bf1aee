package console

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

func TestTarErrors(t *testing.T) {
	for said, want := range map[string]error{
		"tar: can't change directory to '/nope': No such file or directory\n":                    backend.ErrNoPath, // busybox
		"tar: nope: No such file or directory\ntar: error exit delayed from previous errors\n":   backend.ErrNoPath, // busybox
		"tar: nope: Cannot stat: No such file or directory\n":                                    backend.ErrNoPath, // GNU
		"tar: can't change directory to '/etc/passwd': Not a directory\n":                        backend.ErrNotDir, // busybox
		"tar: /etc/passwd: Cannot open: Not a directory\ntar: Error is not recoverable: exiting": backend.ErrNotDir, // GNU
		"tar: write error: No space left on device\n":                                            backend.ErrNoSpace,
		"tar: can't open 'x': Permission denied\n":                                               backend.ErrInvalid,
		"tar: invalid tar magic\n":                                                               backend.ErrInvalid,
	} {
		if err := tarError("/x", 1, said, nil); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", said, err, want)
		}
	}
	if err := tarError("/x", 0, "tar: removing leading '/'", nil); err != nil {
		t.Errorf("success: %v", err)
	}
	if err := tarError("/x", 0, "", errNoProgram); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("no tar: %v", err)
	}
	if err := tarError("/x", 0, "", errBroken); !errors.Is(err, backend.ErrAway) {
		t.Errorf("a broken connection: %v", err)
	}
}

func TestSplitPath(t *testing.T) {
	for at, want := range map[string][2]string{
		"/etc/passwd": {"/etc", "passwd"}, "/etc/": {"/etc", "."}, "/etc/.": {"/etc", "."}, "/etc": {"/", "etc"}, "/": {"/", "."},
		"/.": {"/", "."}, "etc/x": {"/etc", "x"}, "/a/../-x": {"/", "-x"},
	} {
		if dir, name := splitPath(at); dir != want[0] || name != want[1] {
			t.Errorf("%s: %s and %s, want %v", at, dir, name, want)
		}
	}
}

func TestCommands(t *testing.T) {
	for want, req := range map[string]structs.ExecRequest{
		"[ls -l]":          {Command: []string{"ls", "-l"}},
		"[env A=1 B=2 ls]": {Command: []string{"ls"}, Env: []string{"A=1", "B=2"}},
		`[sh -c cd -- "$0" && exec "$@" /tmp ls]`: {Command: []string{"ls"}, Workdir: "/tmp"},
	} {
		got, err := commandOf(req)
		if err != nil || !reflect.DeepEqual(want, "["+join(got)+"]") {
			t.Errorf("%q, %v; want %s", got, err, want)
		}
	}
}

func join(words []string) (all string) {
	for i, w := range words {
		if i > 0 {
			all += " "
		}
		all += w
	}
	return all
}

func TestParsePS(t *testing.T) {
	got := parsePS("PID   USER     TIME  COMMAND\n    1 root      0:00 sh -c  sleep 1\n   12 root      0:00 ps\n\n  13 root 0:00\n")
	want := structs.TopBody{Titles: []string{"PID", "USER", "TIME", "COMMAND"}, Processes: [][]string{
		{"1", "root", "0:00", "sh -c sleep 1"}, {"12", "root", "0:00", "ps"}, {"13", "root", "0:00"},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSinceTime(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for since, want := range map[string]time.Time{
		"": {}, "90s": now.Add(-90 * time.Second), "2026-01-01T11:00:00.5Z": now.Add(-time.Hour + 500*time.Millisecond),
	} {
		if got, err := sinceTime(since, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v, want %s", since, got, err, want)
		}
	}
}

// TestOver tells which containers won't be started again.
func TestOver(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := func(c *container) { c.init, c.spec.RestartPolicy = true, &always }
	failed := func(c *container) { c.pod.Status.Phase = corev1.PodFailed }
	deleted := func(c *container) { c.pod.DeletionTimestamp = new(metav1.Now()) }
	for name, test := range map[string]struct {
		policy corev1.RestartPolicy
		code   int32
		edit   func(*container)
		want   bool
	}{
		"always":              {policy: corev1.RestartPolicyAlways},
		"never":               {policy: corev1.RestartPolicyNever, code: 1, want: true},
		"on failure, success": {policy: corev1.RestartPolicyOnFailure, want: true},
		"on failure, failure": {policy: corev1.RestartPolicyOnFailure, code: 1},
		"init":                {policy: corev1.RestartPolicyAlways, edit: func(c *container) { c.init = true }, want: true},
		"init that failed":    {policy: corev1.RestartPolicyAlways, code: 1, edit: func(c *container) { c.init = true }},
		"sidecar":             {policy: corev1.RestartPolicyNever, edit: sidecar},
		"pod failed":          {policy: corev1.RestartPolicyAlways, edit: failed, want: true},
		"being deleted":       {policy: corev1.RestartPolicyAlways, edit: deleted},
		"running":             {policy: corev1.RestartPolicyNever, edit: func(c *container) { c.status.State.Terminated = nil }},
		"unknown":             {policy: corev1.RestartPolicyNever, edit: func(c *container) { c.status = nil }},
	} {
		c := container{pod: &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: test.policy}}, status: &corev1.ContainerStatus{
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: test.code}}}}
		if test.edit != nil {
			test.edit(&c)
		}
		if c.over() != test.want {
			t.Errorf("%s: %t", name, c.over())
		}
	}
}

func TestFindLooksAmongAllContainers(t *testing.T) {
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}},
		Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{Name: "i", RestartCount: 1}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "b", RestartCount: 2}}},
	}
	var seen []int32
	for _, name := range []string{"i", "a", "b"} {
		c, err := find(pod, name)
		if err != nil || c.spec.Name != name || c.init != (name == "i") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		seen = append(seen, c.restarts())
	}
	if !slices.Equal(seen, []int32{1, 0, 2}) {
		t.Errorf("restarts %v", seen)
	}
	if _, err := find(pod, "x"); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
