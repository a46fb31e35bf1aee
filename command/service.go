package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// kindOfServices is the kind of the manifests of services.
const kindOfServices = "Service"

var services = noun{
	kind: structs.KindService, group: groupServices, plural: "services", example: "web", complete: completeServices,
	columns: []string{"uuid", "name", "bay_uuid"},
	wide:    []string{"address", "ports", "node_ports", "ready", "reason", "age", "selector"},
	filters: []string{"name", "bay", "label"},
	cells: cells{
		"ports": ofService(portsText), "ready": ofService(readyText), "age": ofService(serviceAge),
		"reason": func(o object) string { return o.text("status_reason") },
	},
	show: showService,
	about: "\n\nendpoints lists the pods that the service leads to; only those that are ready get connections.\n" +
		"status_reason says why no pod gets any.",
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Services().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Services().Get(ctx, ident, o)
		return meta, err
	},
}

func serviceCommands() []*command {
	return []*command{
		serviceCreateCommand(), services.listCommand(), services.showCommand(), serviceUpdateCommand(), serviceDeleteCommand(),
		serviceActionsCommand(),
	}
}

// ofService returns the function of a column.
func ofService(text func(*structs.ServiceBody) string) func(object) string {
	return func(o object) string {
		var s structs.ServiceBody
		raw, err := o.MarshalJSON()
		if err != nil || json.Unmarshal(raw, &s) != nil {
			return "None" // of a server that shows them in another way
		}
		return text(&s)
	}
}

// portsText returns the ports as they are reached at the service's address.
func portsText(s *structs.ServiceBody) string {
	var all []string
	for _, p := range s.Ports {
		all = append(all, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	if all == nil {
		return "None"
	}
	return strings.Join(all, ",")
}

func readyText(s *structs.ServiceBody) string { return fmt.Sprintf("%d/%d", s.Ready, s.Total) }

func serviceAge(s *structs.ServiceBody) string { return ageText(s.CreatedAt) }

// showService prints a service as a table: its fields in the server's order, but a line for
// each port and each endpoint, and the manifest last.
func showService(w io.Writer, raw json.RawMessage) error {
	obj, err := parseObject(raw)
	if err != nil {
		return err
	}
	var s structs.ServiceBody
	known := json.Unmarshal(raw, &s) == nil // else it is of a server that shows services in another way
	t := table{head: []string{"Property", "Value"}}
	for _, f := range obj {
		switch {
		case f.key == "links", f.key == "manifest":
		case f.key == "ports" && known && len(s.Ports) > 0:
			t.rows = append(t.rows, []string{f.key, portLines(s.Ports)})
		case f.key == "endpoints" && known && s.Endpoints != nil && len(*s.Endpoints) > 0:
			t.rows = append(t.rows, []string{f.key, endpointLines(*s.Endpoints)})
		case f.key == "problems" && known && s.Problems != nil && len(*s.Problems) > 0:
			t.rows = append(t.rows, []string{f.key, problemLines(*s.Problems)})
		default:
			t.rows = append(t.rows, []string{f.key, cellText(f.raw)})
		}
	}
	if manifest := obj.get("manifest"); manifest != nil {
		t.rows = append(t.rows, []string{"manifest", strings.TrimRight(cellText(manifest), "\n")})
	}
	return t.writeTo(w)
}

// portLines returns a line for each port, such as "http: 80/TCP to 8080, node port 30080".
func portLines(ports []structs.ServicePortBody) string {
	var lines []string
	for _, p := range ports {
		line := fmt.Sprintf("%d/%s to %v", p.Port, p.Protocol, p.TargetPort)
		if p.Name != nil {
			line = *p.Name + ": " + line
		}
		if p.NodePort != nil {
			line += fmt.Sprintf(", node port %d", *p.NodePort)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// problemLines returns a line for each problem, such as "h1: node port 30080 is taken".
func problemLines(problems []structs.HostProblemBody) string {
	var lines []string
	for _, p := range problems {
		line := p.Host
		if p.Peer != nil {
			line += " and " + *p.Peer
		}
		lines = append(lines, line+": "+p.Reason)
	}
	return strings.Join(lines, "\n")
}

// endpointLines returns a line for each endpoint, such as "web-1 at 172.16.0.3 on h1, ready".
func endpointLines(endpoints []structs.EndpointBody) string {
	var lines []string
	for _, e := range endpoints {
		line := fmt.Sprintf("%s at %s", e.Pod, e.Address)
		if e.Host != nil {
			line += " on " + *e.Host
		}
		if e.Ready {
			line += ", ready"
		} else {
			line += ", not ready"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// waitForService waits until the cluster of the service's bay has carried out the last change,
// or has refused it. It returns the service as the server showed it last.
func waitForService(ctx context.Context, client *api.Client, s *structs.ServiceBody, wait waitFlags, p *progress) (json.RawMessage, error) {
	limited, cancel := wait.withLimit(ctx)
	defer cancel()
	last, raw := s, json.RawMessage(nil)
	err := watch(limited, func(ctx context.Context, o api.QueryOptions) (*structs.ServiceBody, api.Meta, error) {
		return client.Services().Get(ctx, s.UUID, o)
	}, func(now *structs.ServiceBody, meta api.Meta) (bool, error) {
		if last, raw = now, meta.Raw; now.Status != structs.ServicePending { // "" of a server that has no statuses of services
			return true, nil
		}
		p.show("service %s: %s", now.Name, statusText(string(now.Status), now.StatusReason))
		return false, nil
	}, p)
	see := fmt.Sprintf("\"magnum service-show %s\"", last.UUID)
	switch {
	case errors.Is(err, errWaitTimeout):
		return raw, fmt.Errorf("service %s is %s. It goes on without you: see %s", last.Name,
			stillText(string(last.Status), last.StatusReason, wait.limit), see)
	case structs.CodeOf(err) == structs.CodeNotFound:
		return raw, fmt.Errorf("service %s was deleted meanwhile", last.Name)
	case err != nil:
		return raw, err
	case last.Status == structs.ServiceRefused:
		return raw, fmt.Errorf("service %s is %s. Look at it with %s, delete it with \"magnum service-delete %s\"", last.Name,
			statusText(string(last.Status), last.StatusReason), see, last.UUID)
	}
	return raw, nil
}

func serviceCreateCommand() *command {
	return &command{
		name: "service-create", group: groupServices,
		synopsis: "Create services from manifests",
		about: "-manifest names files with manifests of Kubernetes v1 Services. A file may have several documents; they\n" +
			"are created in their order. Nothing is created if a document is of another kind. -manifest-url has the\n" +
			"server fetch a manifest. -bay can be omitted if you can use one bay only.\n\n" +
			"Doesn't wait for pods. On a Kubernetes bay it waits until the cluster has made the service, and fails with\n" +
			"the cluster's words if it refuses that; the service then stays, until it is deleted or updated.",
		examples: []string{
			"magnum service-create -manifest web.yaml",
			"magnum service-create -bay web -manifest manifests/",
			"magnum service-create -manifest-url https://example.org/web.yaml",
		},
		setup: serviceManifests.createSetup,
	}
}

func serviceUpdateCommand() *command {
	return &command{
		name: "service-update", group: groupServices, args: "SERVICE add|replace|remove PATH=VALUE...", complete: completeServices,
		synopsis: "Replace a service's manifest",
		about: "The service keeps its address, and node ports that the new manifest leaves open. The value of manifest is\n" +
			"a file, - for standard input, or the manifest's text. manifest_url has the server fetch it.\n\n" +
			"On a Kubernetes bay it waits until the cluster has made the change, or has refused it.",
		examples: []string{
			"magnum service-update web replace manifest=web.yaml",
			"magnum service-update web replace manifest_url=https://example.org/web.yaml",
		},
		setup: serviceManifests.updateSetup("SERVICE", func(
			ctx context.Context, e *env, c *api.Client, ident string, ops []structs.PatchOp, wait waitFlags,
		) (json.RawMessage, error) {
			s, meta, err := c.Services().Update(ctx, ident, ops, api.WriteOptions{})
			if err != nil || wait.detach || s.Status != structs.ServicePending {
				return meta.Raw, err
			}
			p := newProgress(e)
			defer p.clear()
			return waitForService(ctx, c, s, wait, p)
		}),
	}
}

func serviceDeleteCommand() *command {
	return &command{
		name: "service-delete", group: groupServices, args: "SERVICE [SERVICE...]", complete: completeServices,
		synopsis: "Delete services",
		about:    "Their pods stay.",
		examples: []string{"magnum service-delete web", "magnum service-delete $(magnum service-list -q)"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.forEach(ctx, "Delete", structs.KindService, args, func(ctx context.Context, ident string) error {
					_, err := client.Services().Delete(ctx, ident, api.WriteOptions{})
					return err
				})
			}
		},
	}
}
