package command

import (
	"fmt"
	"strings"
	"testing"
)

func serviceManifestOf(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\nspec:\n  selector: {app: %[1]s}\n  %s\n", name, spec)
}

func TestServiceCommandsWithAServer(t *testing.T) {
	s := podServer(t)
	check := func(line string, want result) {
		t.Helper()
		if r := s.run(strings.Fields(line)...); r.code != want.code || !strings.Contains(r.stdout, want.stdout) ||
			!strings.Contains(r.stderr, want.stderr) || (r.stdout == "") != (want.stdout == "") {
			t.Errorf("%s: %+v, want %+v", line, r, want)
		}
	}
	dir := t.TempDir()
	web := manifestOf("web", "nginx:1")
	web = strings.Replace(web, "  name: web\n", "  name: web\n  labels: {app: web}\n", 1)
	check("pod-create -manifest "+write(t, dir, "pod.yaml", web), result{0, "web", ""})
	two := write(t, dir, "two.yaml", serviceManifestOf("web", "type: NodePort\n  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]")+
		"---\n"+serviceManifestOf("db", "ports: [{name: sql, port: 5432}, {name: admin, port: 53, protocol: UDP}]"))
	check("service-create -format {{.name}}:{{.node_ports}} -manifest "+two, result{0, "web:[30080]\ndb:[]\n", ""})
	check("service-list", result{0, "bay_uuid", ""})
	check("service-list -bay b1 -format {{.name}}:{{.ready}}/{{.total}}", result{0, "web:1/1\ndb:0/0\n", ""})
	check("service-list -wide -name web", result{0, "| 80/TCP | [30080]    | 1/1   | None   |", ""})
	check("service-list -wide -name db", result{0, "| 5432/TCP,53/UDP | []         | 0/0   | no pod of the project", ""})
	check("service-show web", result{0, "80/TCP to 8080, node port 30080", ""})
	check("service-show web", result{0, "web at 172.18.0.2 on host-1, ready", ""})
	check("service-show db", result{0, "sql: 5432/TCP to 5432", ""})
	check("service-show -format {{.manifest}} db", result{0, "name: db", ""})
	check("service-create -manifest "+two, result{1, "", "Bay b1 has a service db already"})
	check("service-update -format {{.node_ports}} web replace manifest="+
		write(t, dir, "web2.yaml", serviceManifestOf("web", "type: NodePort\n  ports: [{port: 80}]")), result{0, "[30080]\n", ""})
	check("service-update web replace manifest="+write(t, dir, "other.yaml", serviceManifestOf("other", "ports: [{port: 80}]")),
		result{1, "", "metadata.name"})
	check("service-create -manifest "+write(t, dir, "pod.yaml", manifestOf("x", "y")), result{1, "",
		"is a Pod: this command takes manifests of kind Service only"})
	check("service-show none", result{1, "", `"magnum service-list" lists them.`})
	check("service-delete web db none", result{1, "", "Delete for service none failed:"})
	check("service-list -q", result{0, "", ""})
	check("pod-list -format {{.name}}", result{0, "web", ""})
}

// TestServiceWaitsForItsCluster: what a cluster refuses is the answer of the commands that wait,
// word for word.
func TestServiceWaitsForItsCluster(t *testing.T) {
	const uuid = "11111111-2222-4333-8444-555555555555"
	body := func(status, reason string) string {
		if reason != "null" {
			reason = `"` + reason + `"`
		}
		return `{"uuid":"` + uuid + `","name":"web","bay_uuid":"b","status":"` + status + `","status_reason":` + reason + `}`
	}
	const words = "services is forbidden: exceeded quota: small"
	file := write(t, t.TempDir(), "web.yaml", serviceManifestOf("web", "ports: [{port: 80}]"))
	for name, tt := range map[string]struct {
		last, args string
		want       result
		reads      int
	}{
		"made":     {body("Active", "null"), "", result{0, "web", ""}, 2},
		"refused":  {body("Refused", words), "", result{1, "", "service web is Refused: " + words + ". Look at it with"}, 2},
		"detached": {body("Refused", words), " -d", result{0, "Pending", ""}, 0},
		"slow": {body("Pending", "the API is away"), " -wait WAIT",
			result{1, "", "still Pending after WAIT: the API is away. It goes on"}, 0},
		"earlier": {body("", "null"), "", result{0, "web", ""}, 2}, // a server without statuses of services
	} {
		for _, command := range []string{"service-create -manifest " + file, "service-update web replace manifest=" + file} {
			f := newFakeAPI(t)
			f.answer("POST /v1/services", 201, body("Pending", "null"))
			f.answer("PATCH /v1/services/web", 200, body("Pending", "null"))
			f.answer("GET /v1/services/"+uuid, 200, body("Pending", "null"), tt.last)
			s, line := newShell(t, f), strings.Fields(command+tt.args)
			if name == "slow" {
				s.givesUp(tt.want.stderr, line...)
				continue
			}
			r := s.run(line...)
			if r.code != tt.want.code || !strings.Contains(r.stdout, tt.want.stdout) || !strings.Contains(r.stderr, tt.want.stderr) {
				t.Errorf("%s: %s: %+v, want %+v", name, command, r, tt.want)
			}
			if reads := len(f.requests()) - 1; reads != tt.reads {
				t.Errorf("%s: %s: %d reads, want %d", name, command, reads, tt.reads)
			}
		}
	}

	// apply waits for all of its documents.
	f := newFakeAPI(t)
	f.answer("GET /v1/services", 200, `{"services":[]}`)
	f.answer("POST /v1/services", 201, body("Pending", "null"))
	f.answer("GET /v1/services/"+uuid, 200, body("Pending", "null"), body("Refused", words))
	if r := newShell(t, f).run("apply", "-bay", "b", "-f", file); r.code != 1 || !strings.Contains(r.stderr, words) {
		t.Errorf("apply: %+v\n%q", r, f.requests())
	}
}

func TestServiceUsage(t *testing.T) {
	f := newFakeAPI(t)
	two := write(t, t.TempDir(), "two.yaml", serviceManifestOf("a", "ports: [{port: 80}]")+"---\n"+
		serviceManifestOf("b", "ports: [{port: 80}]"))
	for line, want := range map[string]string{
		"service-create": "-manifest is missing, or -manifest-url",
		"service-create -uuid U -manifest " + two:      "-uuid is for one service, and there are 2",
		"service-create -manifest " + two + " web":     "one argument too many",
		"service-update web":                           "PATH=VALUE",
		"service-update web replace manifest=":         "has no value",
		"service-delete":                               "SERVICE",
		"service-list -wide -quiet -watch":             "exclude each other",
		"service-update -format x web add manifest={}": "neither table nor json",
	} {
		if r := newShell(t, f).run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
	if asked := f.requests(); len(asked) != 0 {
		t.Errorf("the server was asked %q", asked)
	}
}
