//go:build engine

package agent

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker"
	"github.com/stackforge/magnum/structs"
)

// ownImages shows only the test's images of a real engine that others use, on a disk
// whose usage the test sets.
type ownImages struct {
	*docker.Docker
	own  []string // names
	disk func() backend.Disk
}

func (o *ownImages) ListImages(ctx context.Context) ([]structs.Image, error) {
	all, err := o.Docker.ListImages(ctx)
	return slices.DeleteFunc(all, func(img structs.Image) bool {
		return !slices.ContainsFunc(img.Names, func(n string) bool { return slices.Contains(o.own, n) })
	}), err
}

func (o *ownImages) Disk(context.Context) (backend.Disk, error) { return o.disk(), nil }

func (o *ownImages) left(t *testing.T) []string {
	t.Helper()
	images, err := o.ListImages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, img := range images {
		names = append(names, img.Names...)
	}
	slices.Sort(names)
	return names
}

// newOwnImages loads images a, b and c. A container uses b.
func newOwnImages(t *testing.T) *ownImages {
	t.Helper()
	d, err := docker.New(docker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	o := &ownImages{Docker: d}
	for _, letter := range "abc" {
		name := fmt.Sprintf("magnum-test/throw-away-%s:%c", structs.NewID(), letter)
		raw, err := backendtest.ImageArchive(name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.LoadImages(t.Context(), bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		o.own = append(o.own, name)
	}
	spec := backendtest.Sleeper()
	spec.Image = o.own[1]
	c, err := d.Create(t.Context(), backend.CreateRequest{
		Owner: backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}, Ref: structs.ContainerRef(structs.NewID(), 1),
		ProjectID: structs.NewID(), Spec: spec,
	}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), c.EngineID); err != nil {
			t.Error(err)
		}
		images, err := o.ListImages(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, img := range images {
			if err := d.RemoveImage(context.Background(), img.ID); err != nil {
				t.Error(err)
			}
		}
	})
	return o
}

func TestImageGCOnDocker(t *testing.T) {
	o := newOwnImages(t)
	full := backend.Disk{Used: 95, Free: 5}
	o.disk = func() backend.Disk { return full }
	g := newImageGC(Config{Backend: o, ImageGCHigh: 90, ImageGCLow: 80, Logger: hclog.NewNullLogger()})
	if err := g.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := o.left(t); len(left) != 3 {
		t.Fatalf("left are %q: young ones were removed", left)
	}
	// For a second agent the images are not new, and its engine doesn't know when they
	// came.
	d, err := docker.New(docker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	o.Docker = d
	later := newImageGC(Config{Backend: o, ImageGCHigh: 90, ImageGCLow: 80, Logger: hclog.NewNullLogger()})
	later.started, later.seen = time.Now().Add(-time.Hour), make(map[string]time.Time)
	for id := range g.seen {
		later.seen[id] = later.started
	}
	if err := later.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := o.left(t); !slices.Equal(left, o.own[1:2]) {
		t.Fatalf("left are %q, want the one in use, %q", left, o.own[1])
	}
}

func TestImagePruneOnDocker(t *testing.T) {
	o := newOwnImages(t)
	gone, err := pruneImages(t.Context(), o, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(gone.Images)
	want := []string{o.own[0], o.own[2]}
	slices.Sort(want)
	if !slices.Equal(gone.Images, want) || gone.Size < 2<<20 {
		t.Errorf("a prune has removed %+v, want %q", gone, want)
	}
	if left := o.left(t); !slices.Equal(left, o.own[1:2]) {
		t.Errorf("left are %q, want the one in use, %q", left, o.own[1])
	}
}
