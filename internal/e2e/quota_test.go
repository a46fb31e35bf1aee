//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestOpenStackQuotas runs the quota commands of OpenStack's own client, and has it create one
// container too many.
func TestOpenStackQuotas(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	is := func(got map[string]any, want string) {
		t.Helper()
		if text := fmt.Sprint(got); text != want {
			t.Errorf("%s, not %s", text, want)
		}
	}
	const project = structs.DefaultProject
	unlimited := "map[containers:-1 cpu:-1 disk:-1 memory:-1]"
	is(c.fields("quota default", project), unlimited)
	is(c.fields("quota get", project), unlimited)
	is(c.fields("quota update", "--containers", "1", "--memory", "512", "--cpu", "1.5", project),
		"map[containers:1 cpu:1.5 disk:-1 memory:512]")
	c.fields("create", "--name", "one", "--memory", "64", "--cpu", "0.5", "--image-pull-policy", "never", image, "sleep", "60")
	// The client shows a mapping of each resource.
	use := c.fields("quota get", "--usages", project)
	for resource, want := range map[string]string{"containers": "map[in_use:1 limit:1]", "memory": "map[in_use:64 limit:512]",
		"cpu": "map[in_use:0.5 limit:1.5]", "disk": "map[in_use:0 limit:-1]"} {
		if got := fmt.Sprint(use[resource]); got != want {
			t.Errorf("%s: %s, not %s", resource, got, want)
		}
	}
	r := c.openstack("create", "--name", "two", "--memory", "64", "--cpu", "0.5", image, "sleep", "60")
	if text := r.stdout + r.stderr; r.code == 0 || !strings.Contains(text, "Quota exceeded for containers: the project uses 1 of 1") {
		t.Errorf("the second container: code %d, %s", r.code, text)
	}
	is(c.fields("quota class update", "--containers", "7", "default"), "map[containers:7 cpu:-1 disk:-1 memory:-1]")
	is(c.fields("quota class get", "default"), "map[containers:7 cpu:-1 disk:-1 memory:-1]")
	if out := c.openstack("quota", "delete", project).must(t); !strings.Contains(out, "accepted") {
		t.Errorf("quota delete: %s", out)
	}
	is(c.fields("quota get", project), "map[containers:7 cpu:-1 disk:-1 memory:-1]")
	c.openstack("create", "--name", "two", "--image-pull-policy", "never", image, "sleep", "60").must(t)
}
