package kubernetes

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestRequests: the sum over the containers, or the largest init container, is what a cluster
// reserves for the pod, and a container without a request has none.
func TestRequests(t *testing.T) {
	const mi = 1 << 20
	one := func(name, of string) string {
		if of != "" {
			of = ", resources: {" + of + "}"
		}
		return "{name: " + name + ", image: i" + of + "}"
	}
	sidecar := func(name, of string) string {
		return strings.TrimSuffix(one(name, of), "}") + ", restartPolicy: Always}"
	}
	memory := func(n string) string { return "requests: {memory: " + n + ", cpu: 100m}" }
	a, b := one("a", memory("64Mi")), one("b", memory("32Mi"))
	type counts struct {
		containers, inits []string
		rest              string
		memory, milliCPU  int64
		missing           string // the first container that has no memory
	}
	list := func(of ...string) []string { return of }
	huge, half := "requests: {memory: 9e18, cpu: 9e18}", "limits: {memory: 1Gi, cpu: 0.5}"
	for name, c := range map[string]counts{
		"sum":                    {containers: list(a, b), memory: 96 * mi, milliCPU: 200},
		"limits are requests":    {containers: list(one("a", half)), memory: 1024 * mi, milliCPU: 500},
		"requests before limits": {containers: list(one("a", half+", requests: {memory: 1, cpu: 1n}")), memory: 1, milliCPU: 1},
		"numbers":                {containers: list(one("a", "requests: {memory: 1e6, cpu: 2}")), memory: 1e6, milliCPU: 2000},
		"0 is none":              {containers: list(one("a", "requests: {memory: 0}, limits: {memory: 1Gi}")), missing: "a"},
		"less than 0 is none":    {containers: list(one("a", "requests: {memory: -1Gi, cpu: -1}")), missing: "a"},
		"none":                   {containers: list(one("a", "")), missing: "a"},
		"one without":            {containers: list(one("a", ""), b), memory: 32 * mi, milliCPU: 100, missing: "a"},
		"huge":                   {containers: list(one("a", huge)), memory: structs.MaxMemory, milliCPU: structs.MaxMilliCPU},
		"other resources":        {containers: list(one("a", "requests: {hugepages-2Mi: 4Mi}")), missing: "a"},
		"larger init":            {containers: list(a), inits: list(one("i", memory("1Gi"))), memory: 1024 * mi, milliCPU: 100},
		"sidecars": {containers: list(a), inits: list(sidecar("s", memory("1Gi")), sidecar("r", memory("2Gi"))),
			memory: 3136 * mi, milliCPU: 300},
		"init beside its sidecars": {containers: list(a), inits: list(sidecar("s", memory("1Gi")), one("i", memory("1Gi")),
			sidecar("r", memory("1Mi"))), memory: 2048 * mi, milliCPU: 300},
		"sidecars of none": {containers: list(one("a", ""), b), inits: list(sidecar("s", memory("1Gi"))), memory: 1056 * mi,
			milliCPU: 200, missing: "a"},
		"overhead": {containers: list(b, a), rest: ", overhead: {memory: 4Mi, cpu: 1}", memory: 100 * mi, milliCPU: 1200},
		"pod as a whole": {containers: list(a, b), rest: ", resources: {requests: {memory: 1Gi}}", memory: 1024 * mi,
			milliCPU: 200},
		"only the pod as a whole": {containers: list(one("a", "")), rest: ", resources: {limits: {memory: 1Gi, cpu: 2}}",
			memory: 1024 * mi, milliCPU: 2000},
	} {
		t.Run(name, func(t *testing.T) {
			spec := "containers: [" + strings.Join(c.containers, ", ") + "], initContainers: [" + strings.Join(c.inits, ", ") + "]" + c.rest
			is, err := ParsePod(podHead + "spec: {" + spec + "}\n")
			if err != nil {
				t.Fatal(err)
			}
			ofRC, err := ParseRC(rc("template: {metadata: {labels: {app: web}}, spec: {" + spec + "}}"))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []structs.PodSpec{is.Spec, ofRC.Spec.Template} {
				elsewhere := s
				elsewhere.Cluster = false // Docker bays count alike
				if got := elsewhere.Demand(); min(got.Memory, structs.MaxMemory) != c.memory || got.MilliCPU != c.milliCPU {
					t.Errorf("memory %d, %d milli CPU, not %d, %d", got.Memory, got.MilliCPU, c.memory, c.milliCPU)
				}
				missing := ""
				for i := range s.Containers {
					if s.Containers[i].Requests.Memory == 0 {
						missing = s.Containers[i].Name
						break
					}
				}
				if missing != c.missing {
					t.Errorf("container %q has no request, not %q", missing, c.missing)
				}
			}
		})
	}
}
