package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	docker "github.com/docker/docker/client"

	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// Node is a server, and an agent that runs containers for it on the Docker
// engine of this machine.
type Node struct {
	*Server
	Agent  *Process
	Engine *docker.Client
	Image  string
}

// SleepCommand is the command of a container that runs until SIGTERM, and then ends at
// once.
var SleepCommand = []string{"sh", "-c", `trap "exit 0" TERM; while :; do sleep 1 & wait $!; done`}

// StartNode starts server and agent with empty state, and waits until the agent's host is
// in the bay. flags are additional flags of the server.
func StartNode(ctx context.Context, program, dir, image string, flags ...string) (n *Node, err error) {
	n = &Node{Image: image}
	if n.Engine, err = dockertest.Open(""); err != nil {
		return nil, err
	}
	if n.Server, err = StartServer(ctx, program, dir, flags...); err != nil {
		return nil, err
	}
	n.Agent, err = Start(ctx, filepath.Dir(n.Dir), "agent", program,
		"agent", "-server", n.Addr, "-gossip=false", "-data-dir", n.Dir, "-name", "rig", "-image-gc-high", "0")
	if err != nil {
		n.Stop()
		return nil, err
	}
	err = Until(30*time.Second, func() bool {
		bay, _, err := n.Client.Bays().Get(ctx, n.Bay, api.QueryOptions{})
		return err == nil && bay.Status == structs.BayCreated
	})
	if err != nil {
		n.End()
		return nil, fmt.Errorf("the bay gets no host: %s", n.Agent.Tail())
	}
	return n, nil
}

// Run creates and starts a container, and waits until the API reports that it runs.
func (n *Node) Run(ctx context.Context, name string, command []string) (*structs.ContainerBody, error) {
	body, meta, err := n.Client.Containers().Create(ctx,
		&structs.ContainerRequest{Name: &name, Image: n.Image, Command: &structs.Command{Args: command}},
		api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: 2 * time.Minute}})
	if err != nil {
		return nil, err
	}
	if !meta.Done() {
		return nil, fmt.Errorf("%s is %s after two minutes", name, body.Status)
	}
	return body, nil
}

// Delete kills and deletes a container, and waits until it is deleted.
func (n *Node) Delete(ctx context.Context, uuid string) error {
	options := api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: 2 * time.Minute}}
	_, err := n.Client.Containers().Delete(ctx, uuid, options)
	return err
}

// RunPod creates a pod of two containers with a command, and waits until the API reports
// that all of them have been started.
func (n *Node) RunPod(ctx context.Context, name string, command []string) (uuid string, err error) {
	c := func(name string) map[string]any {
		return map[string]any{"name": name, "image": n.Image, "imagePullPolicy": "IfNotPresent", "command": command}
	}
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"containers": []any{c("a"), c("b")}},
	})
	if err != nil {
		return "", err
	}
	body, meta, err := n.Client.Pods().Create(ctx, &structs.PodRequest{Manifest: string(manifest)},
		api.WriteOptions{Wait: 4 * time.Minute})
	if err != nil {
		return "", err
	}
	if !meta.Done() || body.Status != structs.PodRunning {
		return "", fmt.Errorf("pod %s is %s after four minutes", name, body.Status)
	}
	return body.UUID, nil
}

// DeletePod kills and deletes a pod, and waits until it is deleted.
func (n *Node) DeletePod(ctx context.Context, uuid string) error {
	options := api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: 2 * time.Minute}}
	_, err := n.Client.Pods().Delete(ctx, uuid, options)
	return err
}

// End stops server and agent, and removes their containers and files.
func (n *Node) End() {
	n.Agent.Stop()
	RemoveContainers(n.Engine, n.Dir)
	n.Server.End()
}

// Network returns the engine's name of the network of the node's containers, "" while
// there are none.
func (n *Node) Network(ctx context.Context) (container.NetworkMode, error) {
	list, err := containersOf(ctx, n.Engine, n.Dir)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return container.NetworkMode(list[0].HostConfig.NetworkMode), nil
}

// containersOf returns the containers on the engine of the agent with the data directory.
func containersOf(ctx context.Context, engine *docker.Client, dir string) ([]container.Summary, error) {
	host, err := os.ReadFile(filepath.Join(dir, "agent", "host_id"))
	if err != nil {
		return nil, err
	}
	label := filters.Arg("label", "magnum.host="+strings.TrimSpace(string(host)))
	return engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(label)})
}

// RemoveContainers removes the containers, and their networks, of the agent with the data
// directory.
func RemoveContainers(engine *docker.Client, dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	list, _ := containersOf(ctx, engine, dir) // fails if the agent has never registered: there are none
	Workers(8, len(list), func(i int) error {
		return engine.ContainerRemove(ctx, list[i].ID, container.RemoveOptions{Force: true})
	})
	for _, c := range list { // the agent would remove their network only after a while
		_ = engine.NetworkRemove(ctx, c.HostConfig.NetworkMode)
	}
}

// Workers calls do for 0..n-1 from a number of workers, and returns an error of one of
// them. A failed call does not stop the others.
func Workers(workers, n int, do func(i int) error) error {
	next := make(chan int)
	errs := make(chan error, workers)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			var first error
			for i := range next {
				if err := do(i); err != nil && first == nil {
					first = err
				}
			}
			errs <- first
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
