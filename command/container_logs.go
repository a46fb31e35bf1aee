package command

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/stackforge/magnum/structs"
)

func containerLogsCommand() *command {
	return &command{
		name: "container-logs", group: groupContainers, args: "CONTAINER", complete: completeContainers,
		synopsis: "Print the logs of a container",
		about:    "Prints its standard output and standard error, in the order of writing, to standard output.",
		examples: []string{"magnum container-logs -f -tail 100 web1", "magnum container-logs -since 10m -stderr web1"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var o structs.LogsRequest
			logsFlags(f, &o, "continue with new lines until the container ends")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args, "CONTAINER"); err != nil {
					return err
				}
				if !o.Stdout && !o.Stderr {
					o.Stdout, o.Stderr = true, true
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return printLogs(ctx, client, e.stdout, o, func(o structs.LogsRequest) (io.ReadCloser, error) {
					return client.Containers().Logs(ctx, args[0], o)
				})
			}
		},
	}
}

// logsFlags adds the flags of a request for logs. follow is the usage of -follow.
func logsFlags(f *flagSet, o *structs.LogsRequest, follow string) {
	o.Tail = -1
	f.switchOn(&o.Follow, "follow f", follow)
	f.value("tail n", "N", "only the last N lines, or all (default all)", func(s string) error {
		if s == "all" {
			o.Tail = -1
			return nil
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < -1 {
			return errors.New("must be a number of lines or all")
		}
		o.Tail = n
		return nil
	})
	f.text(&o.Since, "since", "TIME", "only newer lines: a duration such as 10m, or a time such as 2006-01-02T15:04:05Z")
	f.switchOn(&o.Timestamps, "timestamps t", "print the time before each line")
	f.switchOn(&o.Stdout, "stdout", "only standard output, unless -stderr is also given")
	f.switchOn(&o.Stderr, "stderr", "only standard error, unless -stdout is also given")
}
