package docker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/infra"
)

// infraImage is the image of infra containers on the engine.
type infraImage struct {
	mu sync.Mutex // held while the image is made
	id string     // the engine's; "" if it was never seen, or somebody has removed it
}

// isInfra reports whether an image of the engine is one that the backend has made for infra
// containers. Anybody may put its label on an image, or build one on its layer that starts
// something else: such an image is an image as any other.
func isInfra(raw image.InspectResponse) bool {
	c := raw.Config
	return c != nil && c.Labels[infra.Label] != "" && infra.Is(raw.RootFS.Layers) && slices.Equal(c.Entrypoint, infra.Entrypoint()) &&
		len(c.Cmd) == 0 && len(c.Env) == 0 && c.User == "" && len(c.Volumes) == 0
}

// ensureInfra loads the image of infra containers unless the engine has it, and returns its
// ID. Containers are made by ID, because somebody may give its name to another image.
func (rt *runtime) ensureInfra(ctx context.Context) (id string, err error) {
	rt.infra.mu.Lock()
	defer rt.infra.mu.Unlock()
	if rt.infra.id != "" {
		return rt.infra.id, nil
	}
	find := func(ctx context.Context) error {
		raw, err := rt.engine.Client.ImageInspect(ctx, infra.Name)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err == nil && isInfra(raw) {
			id = raw.ID
		}
		return err
	}
	if err := rt.engine.Read(ctx, engine.ReadTimeout, find); err != nil {
		return "", err
	}
	if id == "" {
		var arch string
		err := rt.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
			v, err := rt.engine.Client.ServerVersion(ctx)
			arch = v.Arch
			return err
		})
		if err != nil {
			return "", err
		}
		img, ok := infra.New(arch)
		if !ok {
			return "", &backend.Failure{Reason: backend.ErrConfig, Msg: fmt.Sprintf(
				"the agent has no infra image for the architecture %s of the host: give the pod an infra_image", arch)}
		}
		if _, err := rt.images.LoadImages(ctx, bytes.NewReader(img.Archive)); err != nil {
			return "", err
		}
		if err := rt.engine.Read(ctx, engine.ReadTimeout, find); err != nil {
			return "", err
		}
		if id == "" {
			return "", &backend.Failure{Reason: backend.ErrNoImage, Msg: fmt.Sprintf(
				"the engine has loaded the infra image, but has not given it the name %s: look at the engine's log", infra.Name)}
		}
		rt.engine.Log.Info("infra image made", "image", infra.Name, "id", id)
	}
	rt.infra.id = id
	return id, nil
}

// forgetInfra has ensureInfra look for the image again.
func (rt *runtime) forgetInfra() {
	rt.infra.mu.Lock()
	defer rt.infra.mu.Unlock()
	rt.infra.id = ""
}
