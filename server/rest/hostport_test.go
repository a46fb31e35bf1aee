package rest_test

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
)

// TestHostPortsOfProjects: members get no privileged port and none of magnum's; operators do.
func TestHostPortsOfProjects(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1")
	admin, f := newCaller(t, s).as("admin"), newCaller(t, s).as("alice")
	admin.do("POST", "/v1/bays?wait=1m", `{"name":"b","shared":true}`).is(201)
	pod := func(name, port string) string {
		return `{"manifest":` + toJSON(t,
			"{kind: Pod, apiVersion: v1, metadata: {name: "+name+"}, spec: {containers: [{name: c, image: x, "+
				"ports: [{containerPort: 80, hostPort: "+port+"}]}]}}") + `}`
	}
	rc := `{"manifest":` + toJSON(t,
		"{kind: ReplicationController, apiVersion: v1, metadata: {name: r}, spec: {replicas: 1, selector: {a: b}, "+
			"template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x, "+
			"ports: [{containerPort: 80, hostPort: 22}]}]}}}}") + `}`
	f.do("POST", "/v1/containers", `{"image":"x","ports":[{"container_port":80},{"container_port":81,"host_port":22}]}`).is(400).
		mentions("ports[1].host_port 22").mentions("1024-65535")
	f.do("POST", "/v1/pods", pod("p", "80")).is(400).mentions("spec.containers[0].ports[0].hostPort 80")
	f.do("POST", "/v1/rcs", rc).is(400).mentions("spec.template.spec.containers[0].ports[0].hostPort 22")
	f.do("POST", "/v1/pods", pod("p", "8080")).is(201)
	f.do("PATCH", "/v1/pods/p", patchManifest(t, strings.ReplaceAll("{kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {containers: "+
		"[{name: c, image: x, ports: [{containerPort: 80, hostPort: PORT}]}]}}", "PORT", "22"))).is(400).mentions("hostPort 22")
	admin.do("POST", "/v1/containers", `{"image":"x","ports":[{"container_port":80,"host_port":22}]}`).is(201)
}
