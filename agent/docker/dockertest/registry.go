package dockertest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// PrivateRegistry serves one image to user me with the password until the test ends, and
// refuses everybody else. It returns the image's name.
func PrivateRegistry(t testing.TB, password string) string {
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
