//go:build engine

package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

const password = "hush-8714"

// privateRegistry serves one image to user me, and refuses everybody else. It returns the
// image's name.
func privateRegistry(t *testing.T) string {
	t.Helper()
	blobs := make(map[string][]byte)
	put := func(b []byte) string {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(b))
		blobs[digest] = b
		return digest
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	text := structs.NewID() // a layer that no engine has
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))})); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	entry := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": "application/vnd.docker." + kind, "size": len(b), "digest": put(b)}
	}
	layerEntry := entry("image.rootfs.diff.tar", layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/file"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layerEntry["digest"]}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": kind, "config": entry("container.image.v1+json", config), "layers": []any{layerEntry},
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := put(manifest)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "me" || pass != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		name := path.Base(r.URL.Path)
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Docker-Content-Digest", digest)
			name = digest
		}
		if _, err := w.Write(blobs[name]); err != nil {
			t.Log(err) // the engine may have closed the connection
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/it:1"
}

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
	ref, project := privateRegistry(t), structs.NewID()
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
