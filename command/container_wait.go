package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func containerWaitCommand() *command {
	return &command{
		name: "container-wait", group: groupContainers, args: "CONTAINER [CONTAINER...]", complete: completeContainers,
		synopsis: "Wait until containers have ended, and print their exit codes",
		about: "Prints one exit code per line, in the order of the arguments, after all containers have ended. With\n" +
			"-json or -format it prints the containers instead, except those that failed to report an exit code. It\n" +
			"also waits for containers that were never started. The wait has no limit unless -timeout is given.",
		examples: []string{
			"magnum container-wait job1 job2",
			"magnum container-wait -timeout 5m -format '{{.name}} {{.exit_code}}' job1 job2",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var limit time.Duration
			out := output{unformatted: "exit codes"}
			f.value("timeout wait", "DURATION", "stop waiting after this time, such as 90s (default never)", func(s string) error {
				d, err := time.ParseDuration(s)
				if err != nil || d <= 0 {
					return errors.New("is not a duration such as 90s or 5m")
				}
				limit = d
				return nil
			})
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				if limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeoutCause(ctx, limit, errWaitTimeout)
					defer cancel()
				}
				return e.waitMany(ctx, client, args, limit, &out)
			}
		},
	}
}

// waitMany waits for the end of each container, and prints the exit codes or, with
// -json or -format, the containers. It fails if a container has no exit code.
func (e *env) waitMany(ctx context.Context, client *api.Client, idents []string, limit time.Duration, out *output) error {
	if len(idents) == 0 {
		return usagef("CONTAINER is missing")
	}
	// One goroutine each, because the containers may end in any order.
	codes, raws, failures := make([]int, len(idents)), make([]json.RawMessage, len(idents)), make([]error, len(idents))
	done := make(chan struct{})
	for i, ident := range idents {
		go func() {
			codes[i], raws[i], failures[i] = awaitEnd(ctx, client, ident, limit)
			done <- struct{}{}
		}()
	}
	for range idents {
		<-done
	}
	failed := false
	var ended []json.RawMessage
	for i, err := range failures {
		if errors.Is(err, context.Canceled) {
			return err
		}
		if err != nil {
			failed = true
			fmt.Fprintf(e.stderr, "Wait for container %s failed: %s\n", printable(idents[i]), describe(err))
			continue
		}
		if ended = append(ended, raws[i]); !out.isUnformatted() {
			continue
		}
		if _, err := fmt.Fprintln(e.stdout, codes[i]); err != nil {
			return err
		}
	}
	if !out.isUnformatted() {
		if err := out.list(e.stdout, ended, []string{"uuid", "name", "status", "exit_code"}, nil, false); err != nil {
			return err
		}
	}
	if failed {
		return &exitError{exitFailure}
	}
	return nil
}

// awaitEnd waits until a container has ended, and returns its exit code and its JSON.
func awaitEnd(ctx context.Context, client *api.Client, ident string, limit time.Duration) (int, json.RawMessage, error) {
	var last *structs.ContainerBody
	var raw json.RawMessage
	err := watch(ctx, func(ctx context.Context, o api.QueryOptions) (*structs.ContainerBody, api.Meta, error) {
		if last != nil {
			ident = last.UUID // the container may be renamed meanwhile
		}
		return client.Containers().Get(ctx, ident, o)
	}, func(c *structs.ContainerBody, meta api.Meta) (bool, error) {
		last, raw = c, meta.Raw
		return ended(c) && (c.Status != structs.ContainerStopped || c.ExitCode != nil || !c.StartedAt.IsZero()), nil
	}, nil)
	switch {
	case errors.Is(err, errWaitTimeout) && last != nil:
		return 0, nil, fmt.Errorf("it is %s", stillText(string(last.Status), last.StatusReason, limit))
	case errors.Is(err, errWaitTimeout):
		return 0, nil, fmt.Errorf("no answer after %v", limit)
	case structs.CodeOf(err) == structs.CodeNotFound && last != nil:
		return 0, nil, errors.New("it was deleted before its exit code was known")
	case err != nil:
		return 0, nil, err
	case last.ExitCode == nil:
		return 0, nil, fmt.Errorf("it has ended without an exit code: %s", statusText(string(last.Status), last.StatusReason))
	}
	return *last.ExitCode, raw, nil
}
