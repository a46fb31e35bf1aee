package backendtest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file has the tests of images and volumes. They remove only what they have made,
// because others may use the engine.

// ImageArchive returns an image with the name in the format of docker save. It has one
// file of size bytes, which no other image has.
func ImageArchive(name string, size int) ([]byte, error) {
	content := append([]byte(structs.NewID()), bytes.Repeat([]byte("x"), size)...)
	layer, err := tarOf(map[string][]byte{"file": content})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/file"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{name},
		"Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return tarOf(map[string][]byte{"config.json": config, "layer.tar": layer, "manifest.json": manifest})
}

func tarOf(files map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// imageName returns a name that no other image has.
func imageName() string { return "magnum-test/throw-away-" + structs.NewID() + ":1" }

// noRegistry returns the name of an image in a registry where nothing listens.
func noRegistry() string { return "127.0.0.1:1/magnum-test/" + structs.NewID() + ":1" }

// load loads a new image, which is removed at the end of the test.
func (x *imageEnv) load() structs.Image {
	x.Helper()
	name := imageName()
	raw, err := ImageArchive(name, 100_000)
	x.must(err, "making an archive")
	names, err := x.images.LoadImages(x.ctx, bytes.NewReader(raw))
	x.must(err, "load")
	if !slices.Equal(names, []string{name}) {
		x.Fatalf("loaded %q, want %q", names, name)
	}
	img := x.image(name)
	if img == nil {
		x.Fatalf("image %s was loaded and is not there", name)
	}
	x.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := x.images.RemoveImage(ctx, img.ID); err != nil {
			x.Errorf("removing %s: %v", name, err)
		}
	})
	return *img
}

// image returns the image with a name, nil if the engine has none.
func (x *imageEnv) image(name string) *structs.Image {
	x.Helper()
	images, err := x.images.ListImages(x.ctx)
	x.must(err, "images")
	for _, img := range images {
		if slices.Contains(img.Names, name) {
			return &img
		}
	}
	return nil
}

func testImages(x *imageEnv) {
	img := x.load()
	name := img.Names[0]
	if img.Size < 100_000 || img.InUse || !img.UsedAt.IsZero() || time.Since(img.PulledAt.Time).Abs() > time.Minute {
		x.Fatalf("a new image is %+v", img)
	}
	spec := Sleeper()
	spec.Image = name
	c := x.create(spec)
	x.look(c)
	if now := x.image(name); now == nil || !now.InUse || time.Since(now.UsedAt.Time).Abs() > time.Minute {
		x.Fatalf("an image in use is %+v", now)
	}
	x.wantReason(x.images.RemoveImage(x.ctx, img.ID), backend.ErrInUse)
	if x.image(name) == nil {
		x.Fatal("an image in use has lost its name")
	}
	x.must(x.engine.Remove(x.ctx, c.EngineID), "remove")
	if now := x.image(name); now == nil || now.InUse || now.UsedAt.IsZero() {
		x.Fatalf("an image that was used is %+v", now)
	}
	for range 2 {
		x.must(x.images.RemoveImage(x.ctx, img.ID), "removal")
		if x.image(name) != nil {
			x.Fatal("it is still there")
		}
	}
}

// testImageEvent: images belong to the engine, so their events are in every owner's stream.
func testImageEvent(x *imageEnv) {
	ctx, cancel := context.WithCancel(x.ctx)
	events := make(chan backend.Event, 100)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- x.engine.Events(ctx, x.owner, func() { close(ready) }, func(e backend.Event) { events <- e })
	}()
	<-ready
	name := x.load().Names[0]
	for seen := false; !seen; {
		select {
		case e := <-events:
			seen = e.Kind == backend.EventImage && (e.Image == "" || backend.SameImage(e.Image, name))
		case <-time.After(patience):
			x.Fatal("no event for a new image")
		}
	}
	cancel()
	<-ended
}

func testImagePull(x *imageEnv) {
	none := noRegistry()
	err := x.images.PullImage(x.ctx, none, nil, func(string) {})
	x.wantReason(err, backend.ErrNoImage)
	if !strings.Contains(err.Error(), none) {
		x.Fatalf("%q does not name the image", err)
	}
	ctx, cancel := context.WithCancel(x.ctx)
	cancel()
	if err := x.images.PullImage(ctx, none, nil, func(string) {}); !errors.Is(err, context.Canceled) {
		x.Fatalf("a pull that nobody waits for ends with %v", err)
	}
}

func testImageLoadBroken(x *imageEnv) {
	name := imageName()
	raw, err := ImageArchive(name, 500_000)
	x.must(err, "making an archive")
	left := errors.New("left")
	for what, r := range map[string]io.Reader{
		"garbage": strings.NewReader(strings.Repeat("this is no archive ", 1000)),
		"nothing": strings.NewReader(""),
		"half":    bytes.NewReader(raw[:len(raw)/2]),
		"broken":  io.MultiReader(bytes.NewReader(raw[:len(raw)/2]), iotest.ErrReader(left)),
	} {
		names, err := x.images.LoadImages(x.ctx, r)
		if what == "broken" {
			if !errors.Is(err, left) {
				x.Errorf("%s: error is %v, want that of the source", what, err)
			}
		} else if !errors.Is(err, backend.ErrInvalid) {
			x.Errorf("%s: %q, %v; want %v", what, names, err, backend.ErrInvalid)
		}
	}
	if x.image(name) != nil {
		x.Error("half an archive has left an image")
	}
}

func testVolumes(x *volumeEnv) {
	spec := Sleeper()
	spec.Volumes = []structs.Mount{{Name: "data", Target: "/data"}, {Target: "/scratch", Type: structs.MountTmpfs}}
	c := x.create(spec)
	x.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(x.engine.Remove(ctx, c.EngineID),
			x.volumes.RemoveVolume(ctx, x.owner.ClusterID, x.proj, "data")); err != nil && !errors.Is(err, backend.ErrNoVolume) {
			x.Error(err)
		}
	})
	list := func(project string) []structs.Volume {
		x.Helper()
		volumes, err := x.volumes.ListVolumes(x.ctx, x.owner.ClusterID, project)
		x.must(err, "volumes")
		return volumes
	}
	mine := list(x.proj)
	if len(mine) != 1 || mine[0].Name != "data" || mine[0].ProjectID != x.proj || !slices.Equal(mine[0].UsedBy, []string{c.ID}) ||
		time.Since(mine[0].CreatedAt.Time).Abs() > time.Minute {
		x.Fatalf("volumes are %+v", mine)
	}
	if others := list(structs.NewID()); len(others) != 0 {
		x.Fatalf("another project sees %+v", others)
	}
	if !slices.ContainsFunc(list(""), func(v structs.Volume) bool { return v.ProjectID == x.proj }) {
		x.Fatal("it is not among all volumes")
	}
	// A project of another cluster with the same ID has a volume of its own by that name.
	other := structs.NewID()
	if seen, err := x.volumes.ListVolumes(x.ctx, other, ""); err != nil || len(seen) != 0 {
		x.Fatalf("another cluster sees %+v, %v", seen, err)
	}
	x.wantReason(x.volumes.RemoveVolume(x.ctx, other, x.proj, "data"), backend.ErrNoVolume)
	err := x.volumes.RemoveVolume(x.ctx, x.owner.ClusterID, x.proj, "data")
	x.wantReason(err, backend.ErrInUse)
	if !strings.Contains(err.Error(), c.ID) {
		x.Fatalf("%q does not name the container", err)
	}
	x.wantReason(x.volumes.RemoveVolume(x.ctx, x.owner.ClusterID, structs.NewID(), "data"), backend.ErrNoVolume)
	x.must(x.engine.Remove(x.ctx, c.EngineID), "remove")
	x.must(x.volumes.RemoveVolume(x.ctx, x.owner.ClusterID, x.proj, "data"), "removal of the volume")
	x.wantReason(x.volumes.RemoveVolume(x.ctx, x.owner.ClusterID, x.proj, "data"), backend.ErrNoVolume)
	if left := list(x.proj); len(left) != 0 {
		x.Fatalf("left are %+v", left)
	}
}

func testDisk(x *imageEnv) {
	d, err := x.images.Disk(x.ctx)
	x.must(err, "disk")
	if d.Used <= 0 || d.Free <= 0 || d.Percent() <= 0 || d.Percent() >= 100 {
		x.Fatalf("the disk is %+v, full to %.1f %%", d, d.Percent())
	}
}
