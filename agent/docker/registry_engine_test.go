//go:build engine

package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

const password = "hush-8714"

// TestRegistryCredentials: containers with and without credentials fetch a private image at
// once. None shares another's refusal or permission, and the password stays out of logs and
// messages.
func TestRegistryCredentials(t *testing.T) {
	var log bytes.Buffer
	d, err := New(Config{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace, Mutex: new(sync.Mutex)})})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ref, project := dockertest.PrivateRegistry(t, password), structs.NewID()
	t.Cleanup(func() {
		_, _ = d.engine.Client.ImageRemove(context.Background(), ref, image.RemoveOptions{})
	})
	var mu sync.Mutex
	var said strings.Builder
	var wait sync.WaitGroup
	for range 3 {
		for _, c := range []struct {
			creds *structs.Registry
			want  error
		}{
			{nil, backend.ErrNoImage},
			{&structs.Registry{Username: "me", Password: "wrong-" + password}, backend.ErrNoImage},
			{&structs.Registry{Username: "me", Password: password}, nil},
		} {
			wait.Go(func() {
				spec := backendtest.Sleeper()
				spec.Image, spec.PullPolicy = ref, structs.PullAlways
				req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: structs.NewID()},
					Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: project, Spec: spec, Registry: c.creds}
				made, err := d.Create(t.Context(), req, func(s string) {
					mu.Lock()
					defer mu.Unlock()
					said.WriteString(s)
				})
				if !errors.Is(err, c.want) {
					t.Errorf("create with %+v gives %v, want %v", c.creds, err, c.want)
				}
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					said.WriteString(err.Error())
					return
				}
				raw, err := d.engine.Inspect(t.Context(), made.EngineID)
				if err != nil {
					t.Error(err)
				}
				if strings.Contains(fmt.Sprint(raw.Config.Labels, raw.Config.Env), password) {
					t.Error("the container carries the password")
				}
				if err := d.Remove(t.Context(), made.EngineID); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	if strings.Contains(log.String()+said.String(), password) {
		t.Errorf("the password was told:\n%s\n%s", &log, said.String())
	}
}
