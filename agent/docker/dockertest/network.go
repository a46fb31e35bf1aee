package dockertest

import (
	"context"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// RemoveNetworks removes the networks of projects that no container refers to. Agents would
// keep them for a while after the tests.
func RemoveNetworks() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cli, err := Open("")
	if err != nil {
		return err
	}
	defer cli.Close()
	list, err := cli.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "magnum.project"))})
	if err != nil {
		return err
	}
	containers, err := cli.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, c := range containers {
		used[c.HostConfig.NetworkMode] = true
	}
	for _, n := range list {
		if !used[n.Name] {
			_ = cli.NetworkRemove(ctx, n.ID) // somebody may just have connected to it
		}
	}
	return nil
}
