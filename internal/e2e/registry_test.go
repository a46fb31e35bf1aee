//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerimage "github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/structs"
)

// registry is a real image registry of the test's own. The engine reaches it
// through a proxy.
type registry struct {
	testing.TB
	*registryProxy
	own      string // host:port of the registry itself
	username string // "" if no credentials are needed
	password string
	images   []string // IDs of pushed images, which are removed from the engine at the end
}

// newRegistry starts a registry. With a password, only user "me" may pull. Call
// it before newCluster, so that its images are removed after the containers.
func newRegistry(t testing.TB, password string) *registry {
	t.Helper()
	r := &registry{TB: t, own: "127.0.0.1:" + freePort(t)}
	r.serve(password, r.own, exec.Command)
	r.registryProxy = newRegistryProxy(t, r.own)
	t.Cleanup(r.removeImages)
	return r
}

// newRegistryOn starts a registry on a network host, whose engine reaches it at an address
// of loopback, without a proxy.
func newRegistryOn(t testing.TB, h *netHost, password string) *registry {
	t.Helper()
	port := freePort(t)
	r := &registry{TB: t, own: h.ip + ":" + port, registryProxy: &registryProxy{TB: t, addr: "127.0.0.1:" + port}}
	r.serve(password, ":"+port, h.command)
	return r
}

// serve runs the registry at an address, and waits until it answers.
func (r *registry) serve(password, at string, command func(string, ...string) *exec.Cmd) {
	t := r.TB
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", filepath.Join(dir, "data"), at)
	if password != "" {
		r.username, r.password = "me", password
		users := filepath.Join(dir, "htpasswd")
		if out, err := exec.Command("htpasswd", "-Bbc", users, r.username, password).CombinedOutput(); err != nil {
			t.Fatalf("htpasswd: %v: %s; run scripts/peers/registry-up", err, out)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: private, path: %q}}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := command("docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run scripts/peers/registry-up", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of the registry:\n%s", tail(log.Name(), 40))
		}
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if answer, err := http.Get("http://" + r.own + "/v2/"); err == nil {
			answer.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not start:\n%s", tail(log.Name(), 20))
		}
	}
}

// pushed is an image in a registry. No engine has its layers.
type pushed struct {
	ref    string   // the name for containers, through the proxy
	path   string   // of its manifest on the registry
	layers []string // paths of its layers on the registry
}

// push pushes an image that can run sleepScript, with further layers of the
// given numbers of random bytes.
func (r *registry) push(name string, sizes ...int) *pushed {
	r.Helper()
	p := &pushed{ref: r.addr + "/" + name + ":1", path: "/v2/" + name + "/manifests/1"}
	blob := func(kind string, b []byte) map[string]any {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(b))
		begun := r.send("POST", "/v2/"+name+"/blobs/uploads/", "", nil, http.StatusAccepted)
		location := strings.TrimPrefix(begun.Get("Location"), "http://"+r.own)
		r.send("PUT", location+"&digest="+digest, "application/octet-stream", b, http.StatusCreated)
		return map[string]any{"mediaType": "application/vnd.docker." + kind, "size": len(b), "digest": digest}
	}
	contents := [][]byte{busybox(r.TB)}
	for _, n := range sizes {
		noise := make([]byte, n)
		rand.Read(noise)
		contents = append(contents, layer(r.TB, file{tar.Header{Name: "noise", Mode: 0o644}, noise}))
	}
	var layers, diffs []any
	for _, b := range contents {
		entry := blob("image.rootfs.diff.tar", b)
		layers, diffs = append(layers, entry), append(diffs, entry["digest"])
		p.layers = append(p.layers, fmt.Sprintf("/v2/%s/blobs/%s", name, entry["digest"]))
	}
	config := blob("container.image.v1+json", r.json(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/bin/sh"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}))
	r.images = append(r.images, config["digest"].(string))
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	r.send("PUT", p.path, kind, r.json(map[string]any{"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}),
		http.StatusCreated)
	return p
}

func (r *registry) json(v any) []byte {
	r.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		r.Fatal(err)
	}
	return b
}

// send sends a request to the registry itself.
func (r *registry) send(method, path, kind string, body []byte, status int) http.Header {
	r.Helper()
	req, err := http.NewRequest(method, "http://"+r.own+path, bytes.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if r.username != "" {
		req.SetBasicAuth(r.username, r.password)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != status {
		r.Fatalf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return answer.Header
}

// file is one entry of a layer.
type file struct {
	tar.Header
	content []byte
}

// busybox returns a layer with the shell, what sleepScript needs, and something
// that makes it unique.
func busybox(t testing.TB) []byte {
	t.Helper()
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v; install busybox-static", err)
	}
	return layer(t,
		file{tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		file{tar.Header{Name: "bin/busybox", Mode: 0o755}, binary},
		file{tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil},
		file{tar.Header{Name: "bin/sleep", Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil},
		file{tar.Header{Name: "id-" + structs.NewID(), Mode: 0o644}, nil})
}

func layer(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.content))
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// removeImages removes the pushed images from the machine's engine, if it has
// them.
func (r *registry) removeImages() {
	e := newEngine(r.TB)
	for _, id := range r.images {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, err := e.ImageRemove(ctx, id, dockerimage.RemoveOptions{Force: true})
		cancel()
		if err != nil && !errdefs.IsNotFound(err) {
			r.Errorf("remove image %s: %v", id, err)
		}
	}
}
