package command

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// statusBody is the output of status. Null means that the server didn't send the value.
type statusBody struct {
	Server     string         `json:"server"`
	Version    *string        `json:"version"`
	Leader     *string        `json:"leader"` // "name (address)"
	Index      *uint64        `json:"index"`
	Hosts      *string        `json:"hosts"` // "1/2 ready"
	Bays       int            `json:"bays"`
	BayStatus  map[string]int `json:"bays_by_status"`
	Containers int            `json:"containers"`
	ByStatus   map[string]int `json:"containers_by_status"`
	Pods       *int           `json:"pods"`
	PodStatus  map[string]int `json:"pods_by_status"`
	Client     string         `json:"client"` // version of this program
}

func statusCommand() *command {
	return &command{
		name: "status", group: groupClient,
		synopsis: "Show the status of server, hosts, bays, containers and pods",
		about:    "None means that the server doesn't send the value, or that you may not see it.",
		examples: []string{"magnum status", "magnum status -addr 192.0.2.1 -json"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			all := false
			f.switchOn(&all, "all-projects", "count bays, containers and pods of all projects (operators)")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				s, err := readStatus(ctx, client, all)
				if err != nil {
					return err
				}
				raw, err := json.Marshal(s)
				if err != nil {
					return fmt.Errorf("encoding the status as JSON: %w", err)
				}
				return out.show(e.stdout, raw)
			}
		},
	}
}

// readStatus reads the status from the server. Values that only operators can see, or
// that an older server doesn't have, stay null.
func readStatus(ctx context.Context, client *api.Client, all bool) (*statusBody, error) {
	s := &statusBody{Client: version(), BayStatus: map[string]int{}, ByStatus: map[string]int{}}
	versions, _, err := client.Versions(ctx)
	if err := tolerate(err); err != nil {
		return nil, err
	}
	s.Server = client.Address() // known only after a call if it is in Keystone's catalogue
	if versions != nil && versions.Version != "" {
		s.Version = &versions.Version
	}
	state, _, err := client.OperatorState(ctx)
	if err := tolerate(err); err != nil {
		return nil, err
	}
	if state != nil {
		s.Index = &state.Index
		if state.Leader != "" {
			s.Leader = &state.Leader
		}
	}
	leader, _, err := client.Leader(ctx)
	if structs.CodeOf(err) == structs.CodeNoLeader {
		s.Leader, err = nil, nil
	}
	if err := tolerate(err); err != nil {
		return nil, err
	}
	if leader != nil && leader.Address != "" {
		text := fmt.Sprintf("%s (%s)", leader.Name, leader.Address)
		s.Leader = &text
	}
	hosts, _, err := client.Hosts().List(ctx, api.QueryOptions{})
	if err := tolerate(err); err != nil {
		return nil, err
	}
	if err == nil {
		ready := 0
		for _, h := range hosts {
			if h.State == structs.HostReady {
				ready++
			}
		}
		text := fmt.Sprintf("%d/%d ready", ready, len(hosts))
		s.Hosts = &text
	}
	bays, _, err := client.Bays().List(ctx, api.QueryOptions{AllProjects: all})
	if err != nil {
		return nil, err
	}
	for _, b := range bays {
		s.BayStatus[string(b.Status)]++
	}
	list, _, err := client.Containers().List(ctx, api.QueryOptions{AllProjects: all})
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		s.ByStatus[string(c.Status)]++
	}
	s.Bays, s.Containers = len(bays), len(list)
	pods, _, err := client.Pods().List(ctx, api.QueryOptions{AllProjects: all})
	if structs.CodeOf(err) == structs.CodeNotFound {
		return s, nil // a server of an earlier version
	}
	if err != nil {
		return nil, err
	}
	s.Pods, s.PodStatus = intOf(len(pods)), map[string]int{}
	for _, p := range pods {
		s.PodStatus[string(p.Status)]++
	}
	return s, nil
}

// tolerate returns nil for errors that mean that the caller may not see a value, or
// that the server doesn't have it.
func tolerate(err error) error {
	switch structs.CodeOf(err) {
	case structs.CodeForbidden, structs.CodeNotFound, structs.CodeMethod:
		return nil
	}
	return err
}
