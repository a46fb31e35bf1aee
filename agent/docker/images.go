package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// ListImages lists the engine's images.
func (d *Docker) ListImages(ctx context.Context) ([]structs.Image, error) {
	var list []image.Summary
	err := d.read(ctx, readTimeout, func(ctx context.Context) (err error) {
		list, err = d.cli.ImageList(ctx, image.ListOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	// After the images: one that comes into use in between is seen to be.
	inUse, err := d.imagesInUse(ctx)
	if err != nil {
		return nil, err
	}
	images := make([]structs.Image, len(list))
	var g errgroup.Group
	g.SetLimit(8)
	for i, s := range list {
		images[i] = structs.Image{
			ID: s.ID, Names: namesOf(s.RepoTags, s.RepoDigests), Size: s.Size, InUse: inUse[s.ID],
			CreatedAt: structs.Time{Time: time.Unix(s.Created, 0).UTC()},
		}
		g.Go(func() error {
			tagged, err := d.taggedAt(ctx, s.ID)
			images[i].PulledAt = structs.Time{Time: tagged}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	d.recall(images)
	return images, nil
}

// namesOf are the names of an image: its tags, else its digests.
func namesOf(tags, digests []string) []string {
	names := make([]string, 0, len(tags))
	for _, all := range [][]string{tags, digests} {
		for _, n := range all {
			if !strings.Contains(n, "<none>") {
				names = append(names, n)
			}
		}
		if len(names) > 0 {
			break
		}
	}
	slices.Sort(names)
	return names
}

// taggedAt returns when the image was last tagged or built on this engine; zero
// if it wasn't, or is gone.
func (d *Docker) taggedAt(ctx context.Context, id string) (at time.Time, err error) {
	err = d.read(ctx, readTimeout, func(ctx context.Context) error {
		raw, err := d.cli.ImageInspect(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if !raw.Metadata.LastTagTime.IsZero() {
			at = raw.Metadata.LastTagTime.UTC()
		}
		return err
	})
	return at, err
}

// imagesInUse returns the IDs of the images that containers are made of,
// whosever they are, and notes when magnum's were made.
func (d *Docker) imagesInUse(ctx context.Context) (map[string]bool, error) {
	inUse := make(map[string]bool)
	err := d.read(ctx, changeTimeout, func(ctx context.Context) error {
		list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true})
		for _, c := range list {
			inUse[c.ImageID] = true
			if _, ours := backend.RefOf(c.Labels); ours {
				d.noteUse(c.ImageID, time.Unix(c.Created, 0).UTC())
			}
		}
		return err
	})
	return inUse, err
}

// noteUse notes that a container of magnum was made of the image.
func (d *Docker) noteUse(id string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at.After(d.used[id]) {
		d.used[id] = at
	}
}

// noteFetch notes that an image was pulled or loaded: the engine itself notes
// only when one was tagged or built.
func (d *Docker) noteFetch(ctx context.Context, ref string) {
	err := d.read(ctx, readTimeout, func(ctx context.Context) error {
		raw, err := d.cli.ImageInspect(ctx, ref)
		if err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.fetched[raw.ID] = time.Now().UTC()
		}
		return err
	})
	if err != nil {
		d.log.Debug("new image not found", "image", ref, "error", err)
	}
}

// recall adds to the engine's images what was noted of them, and forgets what
// was noted of others.
func (d *Docker) recall(images []structs.Image) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used, fetched := make(map[string]time.Time), make(map[string]time.Time)
	for i := range images {
		img := &images[i]
		if at, ok := d.used[img.ID]; ok {
			used[img.ID], img.UsedAt.Time = at, at
		}
		if at, ok := d.fetched[img.ID]; ok {
			fetched[img.ID] = at
			if at.After(img.PulledAt.Time) {
				img.PulledAt.Time = at
			}
		}
	}
	d.used, d.fetched = used, fetched
}

// PullImage fetches an image.
func (d *Docker) PullImage(ctx context.Context, ref string, creds *structs.Registry, progress func(string)) error {
	return d.pull(ctx, ref, creds, progress)
}

// loadedPrefixes stand before what the engine says that it has loaded.
var loadedPrefixes = []string{"Loaded image: ", "Loaded image ID: "}

// LoadImages takes in the images of a tar stream.
func (d *Docker) LoadImages(ctx context.Context, r io.Reader) ([]string, error) {
	from := &noted{r: r}
	resp, err := d.cli.ImageLoad(ctx, from, client.ImageLoadWithQuiet(true))
	var names []string
	if err == nil {
		defer resp.Body.Close()
		names, err = readLoaded(resp.Body)
	}
	if failed := from.failed(); failed != nil {
		return nil, failed
	}
	if err = d.loadError(ctx, err); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, &backend.Failure{Reason: backend.ErrInvalid, Msg: "the archive holds no image: make it with docker save"}
	}
	for _, name := range names {
		d.noteFetch(ctx, name)
	}
	return names, nil
}

// readLoaded reads what the engine says of a load.
func readLoaded(body io.Reader) (names []string, err error) {
	for dec := json.NewDecoder(body); ; {
		var m jsonmessage.JSONMessage
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return names, nil
		} else if err != nil {
			return names, err
		}
		if m.Error != nil {
			return names, m.Error
		}
		for _, p := range loadedPrefixes {
			if name, ok := strings.CutPrefix(m.Stream, p); ok {
				names = append(names, strings.TrimSpace(name))
			}
		}
	}
}

// loadError names the engine's error of a load. What it says of an archive that
// it can't read is of many kinds, and comes as a failure of its own.
func (d *Docker) loadError(ctx context.Context, err error) error {
	err = d.callError(ctx, err)
	var f *backend.Failure
	if errors.As(err, &f) && f.Reason == nil {
		f.Reason, f.Msg = backend.ErrInvalid, "the archive can't be loaded: "+shorten(f.Msg)+"; make it with docker save"
	}
	return err
}

// maxUntags is how many rounds the removal of an image takes: its tags, its
// digests, the image itself.
const maxUntags = 3

// RemoveImage removes an image under all of its names. It is never forced: that
// would take images from under stopped containers, too.
func (d *Docker) RemoveImage(ctx context.Context, id string) error {
	inUse, err := d.imagesInUse(ctx)
	if err != nil {
		return err
	}
	if inUse[id] {
		return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("image %s is used by a container: delete that first", id)}
	}
	for range maxUntags {
		var raw image.InspectResponse
		err := d.read(ctx, readTimeout, func(ctx context.Context) (err error) {
			raw, err = d.cli.ImageInspect(ctx, id)
			return err
		})
		if errors.Is(err, backend.ErrNoImage) {
			return nil
		} else if err != nil {
			return err
		}
		refs := namesOf(raw.RepoTags, raw.RepoDigests)
		if len(refs) == 0 {
			refs = []string{id}
		}
		for _, ref := range refs {
			if err := d.untag(ctx, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// untag takes a name from an image; the last one takes the image along.
func (d *Docker) untag(ctx context.Context, ref string) error {
	var inUse error
	err := d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		_, err := d.cli.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
		if errdefs.IsConflict(err) {
			inUse = &backend.Failure{Reason: backend.ErrInUse, Msg: engineWords(err)}
			return nil
		}
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
	if inUse != nil {
		return inUse
	}
	return err
}
