package manifest

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/manifest/manifesttest"
	"github.com/stackforge/magnum/structs"
)

// TestBombs checks that no text takes much time or memory.
func TestBombs(t *testing.T) {
	manifesttest.Bombs(t, func(text string) error {
		_, err := ParsePod(text)
		return err
	})
}

// FuzzParsePod checks that no text makes ParsePod panic, that refusals are CodeInvalid
// with a path, and that what is accepted is within the limits.
func FuzzParsePod(f *testing.F) {
	for _, seed := range []string{oneText(""), podText("containers: [{name: web, image: busybox}]"), "a: &a [*a]", "{", "[[", "- - -",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","image":"busybox"}]}}`,
		oneText("livenessProbe: {httpGet: {port: 80}}, env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]"),
		oneText("resources: {limits: {cpu: 1e3, memory: 64Mi}}, securityContext: {capabilities: {drop: [ALL]}}"),
		podText("volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}], containers: [{name: web, image: busybox, " +
			"volumeMounts: [{name: v, mountPath: /v}]}], hostAliases: [{ip: 1.2.3.4, hostnames: [a]}]"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pod, err := ParsePod(text)
		if err != nil {
			if path, _, ok := strings.Cut(err.Error(), ": "); structs.CodeOf(err) != structs.CodeInvalid || !ok || path == "" {
				t.Errorf("refused with %q", err)
			}
			return
		}
		if n := len(pod.Spec.Containers) + len(pod.Spec.InitContainers); len(pod.Spec.Containers) == 0 || n >= structs.MaxParts {
			t.Errorf("%d containers", n)
		}
		if err := Change(&pod.Spec, &pod.Spec); err != nil {
			t.Errorf("a pod can't stay as it is: %v", err)
		}
		again, err := ParsePod(text)
		if err != nil || asJSON(t, again) != asJSON(t, pod) {
			t.Errorf("the same text was read in two ways: %v", err)
		}
	})
}
