//go:build engine

package docker

import (
	"context"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// TestOutOfMemoryOnTheEngine: an engine tells why the kernel has killed a process, in its
// state or by an event only. Events of the engine are followed, as an agent does.
func TestOutOfMemoryOnTheEngine(t *testing.T) {
	d, owner := onEngine(t), backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Events(ctx, owner, func() { close(ready) }, func(backend.Event) {})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	<-ready
	for range 5 { // engine 20.10 gets the messages of a kill in either order
		c, _ := madeBy(t, d, owner, structs.NewID(), &structs.ContainerSpec{
			Image: dockertest.Image, Command: []string{"tail", "/dev/zero"}, Memory: 8 << 20,
		})
		if err := d.Start(t.Context(), c.EngineID); err != nil {
			t.Fatal(err)
		}
		var now *backend.Container
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			var err error
			if now, err = d.Inspect(t.Context(), c.EngineID); err != nil {
				t.Fatal(err)
			}
			if now.OOMKilled || time.Now().After(deadline) {
				break
			}
		}
		if now.State != backend.StateExited || now.ExitCode != 137 || !now.OOMKilled {
			t.Fatalf("it is %+v", now)
		}
	}
}
