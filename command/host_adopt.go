package command

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func adoptCommand() *command {
	return &command{
		name: "host-adopt", group: groupHosts, args: "HOST [CONTAINER...|-all]", complete: completeHosts,
		synopsis: "End the quarantine of containers: keep or remove them",
		about: "A host puts containers into quarantine that the servers don't know after a restore of older data or of\n" +
			"a snapshot. The host leaves them alone. Without CONTAINER and -all this command lists them, as\n" +
			"host-show does. With CONTAINER or -all it keeps them: the cluster must again have a container of the\n" +
			"same uuid and spec, without a newer placement. -remove stops them and removes them from the host.\n" +
			"CONTAINER is a uuid or the name that the container had. The command waits until the host is done; if\n" +
			"you interrupt it, the host continues.",
		examples: []string{
			"magnum host-adopt host-1",
			"magnum host-adopt host-1 web db",
			"magnum host-adopt -remove host-1 old",
			"magnum host-adopt -remove -all host-1",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var all, remove, detach bool
			f.switchOn(&all, "all", "all containers that are now in quarantine")
			f.switchOn(&remove, "remove", "remove them from the host")
			f.switchOn(&detach, "detach d", "don't wait until the host is done")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				switch {
				case len(args) == 0:
					return usagef("HOST is missing")
				case all && len(args) > 1:
					return usagef("-all and %q both name the containers", args[1])
				case remove && !all && len(args) == 1:
					return usagef("CONTAINER is missing: name the containers to remove, or give -all")
				}
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				host, containers := args[0], args[1:]
				if all {
					h, _, err := client.Hosts().Get(ctx, host, api.QueryOptions{})
					if err != nil {
						return err
					}
					for _, k := range h.Quarantine {
						containers = append(containers, k.ContainerUUID)
					}
				}
				var failed error
				if len(containers) > 0 {
					failed = adoptEach(ctx, e, client, host, containers, remove, detach)
				}
				h, meta, err := client.Hosts().Get(ctx, host, api.QueryOptions{})
				if err != nil {
					return err
				}
				if len(h.Quarantine) == 0 && out.isTable() {
					fmt.Fprintf(e.stderr, "Host %s keeps nothing in quarantine.\n", h.Name)
					return failed
				}
				var shown struct {
					Quarantine []json.RawMessage `json:"quarantine"`
				}
				if err := json.Unmarshal(meta.Raw, &shown); err != nil {
					return structs.Errorf(structs.CodeInternal, "the server's response can't be decoded: %w", err)
				}
				columns := []string{"container_uuid", "name", "epoch", "state", "decided", "since"}
				if err := out.list(e.stdout, shown.Quarantine, columns, nil, false); err != nil {
					return err
				}
				return failed
			}
		},
	}
}

// adoptEach keeps or removes each container, and waits until the host is done.
func adoptEach(ctx context.Context, e *env, client *api.Client, host string, containers []string, remove, detach bool) error {
	verb := "Keeping"
	if remove {
		verb = "Removing"
	}
	var mu sync.Mutex
	decided := make(map[string]bool) // by container UUID
	failed := e.forEach(ctx, verb, structs.KindContainer, containers, func(ctx context.Context, container string) error {
		h, _, err := client.Hosts().Adopt(ctx, host, container, remove)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, k := range h.Quarantine {
			if k.Decided != nil && (k.ContainerUUID == container || k.Name != nil && *k.Name == container) {
				decided[k.ContainerUUID] = true
			}
		}
		return nil
	})
	if detach || len(decided) == 0 {
		return failed
	}
	p := newProgress(e)
	defer p.clear()
	read := func(ctx context.Context, o api.QueryOptions) (*structs.HostBody, api.Meta, error) {
		return client.Hosts().Get(ctx, host, o)
	}
	err := watch(ctx, read, func(h *structs.HostBody, _ api.Meta) (bool, error) {
		left := 0
		for _, k := range h.Quarantine {
			if decided[k.ContainerUUID] && k.Decided != nil {
				left++
			}
		}
		switch {
		case left == 0:
			return true, nil
		case h.State != structs.HostReady:
			return true, structs.Errorf(structs.CodeUnavailable,
				"host %s is %s: its agent carries out the decision on %d containers when it is back", h.Name, h.State, left)
		}
		p.show("%s: %s %d containers", h.Name, strings.ToLower(verb), left)
		return false, nil
	}, p)
	if err != nil {
		return err
	}
	return failed
}

// noteQuarantine prints on standard error that a host has containers in quarantine. The
// command leaves them there.
func noteQuarantine(e *env, h *structs.HostBody) {
	if h != nil && len(h.Quarantine) > 0 {
		fmt.Fprintf(e.stderr, "Host %s keeps %d containers in quarantine: see host-show, and end the quarantine with host-adopt.\n",
			printable(h.Name), len(h.Quarantine))
	}
}
