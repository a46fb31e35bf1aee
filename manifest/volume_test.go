package manifest

import (
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestMemoryVolumesHaveASize: a volume in memory never takes what it likes of the host.
func TestMemoryVolumesHaveASize(t *testing.T) {
	const mount = "volumeMounts: [{name: v, mountPath: /v}]"
	for _, c := range []struct {
		name, volume, init, a, b string
		want                     int64
	}{
		{"given", "{medium: Memory, sizeLimit: 1Mi}", mount, mount, mount, 1 << 20},
		{"sum of limits", "{medium: Memory}", "resources: {limits: {memory: 8Mi}}, " + mount,
			"resources: {limits: {memory: 100Mi}}, " + mount, "resources: {limits: {memory: 28Mi}}, " + mount, 136 << 20},
		{"limits of those that mount it", "{medium: Memory, sizeLimit: 0}", "", "resources: {limits: {memory: 100Mi}}, " + mount,
			"resources: {limits: {memory: 28Mi}}", 100 << 20},
		{"one without a limit", "{medium: Memory}", "", "resources: {limits: {memory: 100Mi}}, " + mount, mount, 64 << 20},
		{"an init container without a limit", "{medium: Memory}", mount, "resources: {limits: {memory: 100Mi}}, " + mount, "", 64 << 20},
		{"a request is no limit", "{medium: Memory}", "", "resources: {requests: {memory: 100Mi}}, " + mount, "", 64 << 20},
		{"mounted by none", "{medium: Memory}", "", "resources: {limits: {memory: 100Mi}}", "", 64 << 20},
		{"more than there may be", "{medium: Memory}", "", "resources: {limits: {memory: 1000Ti}}, " + mount,
			"resources: {limits: {memory: 1000Ti}}, " + mount, structs.MaxMemory},
		{"on disk", "{}", "", "resources: {limits: {memory: 100Mi}}, " + mount, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := mustParse(t, podText("volumes: [{name: v, emptyDir: "+c.volume+"}], initContainers: [{name: i, image: x, "+c.init+
				"}], containers: [{name: a, image: x, "+c.a+"}, {name: b, image: x, "+c.b+"}]"))
			if got := pod.Spec.Volumes[0].Size; got != c.want {
				t.Errorf("its size is %d, want %d", got, c.want)
			}
		})
	}
}
