package dockertest

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/client"
)

// openPatience is how long an engine may take to answer the ping of Open.
const openPatience = time.Minute

// Open returns a client of the engine at host, such as unix:///var/run/docker.sock, "" for
// the one of the environment. The version of the API is negotiated, so all methods of the
// client are safe for concurrent use. The caller closes the client. The error says if no
// engine answers.
func Open(host string) (*client.Client, error) {
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	cli, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openPatience)
	defer cancel()
	ping, err := cli.Ping(ctx)
	if err != nil {
		cli.Close()
		return nil, fmt.Errorf("no Docker engine answers at %s; start dockerd, or run `make test`, which starts one: %w",
			cli.DaemonHost(), err)
	}
	cli.NegotiateAPIVersionPing(ping)
	return cli, nil
}
