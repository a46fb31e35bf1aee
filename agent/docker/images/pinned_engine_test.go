//go:build engine

package images

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/registry"
	"github.com/stackforge/magnum/structs"
)

// rebound asks a registry, and has seen another image there if digest isn't "".
type rebound struct {
	registry.Rules
	registry.Client
	digest string
}

func (r *rebound) Check(context.Context, string) error { return nil }

func (r *rebound) Resolve(ctx context.Context, ref string, creds *structs.Registry) (*registry.Image, error) {
	img, err := r.Client.Resolve(ctx, ref, creds)
	if r.digest != "" && err == nil {
		img.Digest = r.digest
	}
	return img, err
}

// TestEngineFetchesByDigest: an image that was fetched by its digest has the name that was
// asked for, and what another registry answers under the name is refused.
func TestEngineFetchesByDigest(t *testing.T) {
	ref, creds := dockertest.PrivateRegistry(t, "hush"), &structs.Registry{Username: "me", Password: "hush"}
	host := cmp.Or(os.Getenv(client.EnvOverrideHost), client.DefaultDockerHost)
	e, err := engine.New(engine.Config{Host: host, Parallel: 2, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	im := New(e, func(image.InspectResponse) bool { return false }, registry.Rules{})
	r := &rebound{Client: registry.Client{Rules: registry.Rules{Open: true}}, digest: "sha256:" + strings.Repeat("ab", 32)}
	im.asker = func() asker { return r }
	if err := im.PullImage(t.Context(), ref, creds, func(string) {}); !errors.Is(err, backend.ErrNoImage) ||
		!strings.HasSuffix(err.Error(), silentText) {
		t.Errorf("another image than the agent has seen gives %v", err)
	}
	if id, err := im.idOf(t.Context(), ref); id != "" || err != nil {
		t.Errorf("the engine has image %s, %v", id, err)
	}
	r.digest = ""
	for range 2 {
		if err := im.PullImage(t.Context(), ref, creds, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	id, err := im.idOf(t.Context(), ref)
	if id == "" || err != nil {
		t.Fatalf("the engine has image %q, %v", id, err)
	}
	t.Cleanup(func() {
		if err := im.RemoveImage(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	raw, err := e.Client.ImageInspect(t.Context(), id)
	if err != nil || !slices.Equal(raw.RepoTags, []string{ref}) || len(raw.RepoDigests) != 1 {
		t.Errorf("its names are %q and %q, %v", raw.RepoTags, raw.RepoDigests, err)
	}
}
