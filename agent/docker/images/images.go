// Package images keeps the images of a Docker engine: it fetches, lists, loads and removes
// them. Callers that want the same image share one fetch.
//
// The Docker backend makes an Images and asks it for a container's image before it
// creates the container. Its callers decide which images are removed, and when.
package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/registry"
	"github.com/stackforge/magnum/structs"
)

// Images are the images of one engine. All methods are safe for concurrent use.
type Images struct {
	engine *engine.Engine
	hidden func(image.InspectResponse) bool
	rules  registry.Rules
	asker  func() asker
	ledger ledger
	rights rights

	mu      sync.Mutex
	pulls   map[pullKey]*pull    // in progress
	used    map[string]time.Time // by image ID: when magnum last created a container of the image
	fetched map[string]time.Time // by image ID: when the image was last pulled or loaded
	tenancy structs.Tenancy      // how far projects are kept apart
}

var _ backend.Images = (*Images)(nil)

// New returns the images of an engine. hidden tells which of them the backend itself has
// made: they aren't listed, and so nobody removes them. rules say from where projects may
// pull. New makes no call.
func New(e *engine.Engine, hidden func(image.InspectResponse) bool, rules registry.Rules) *Images {
	im := &Images{engine: e, hidden: hidden, rules: rules, ledger: ledger{list: listAll(e)},
		pulls: make(map[pullKey]*pull), used: make(map[string]time.Time), fetched: make(map[string]time.Time)}
	im.asker = im.client
	return im
}

// ListImages lists the engine's images.
func (im *Images) ListImages(ctx context.Context) ([]structs.Image, error) {
	var list []image.Summary
	err := im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
		list, err = im.engine.Client.ImageList(ctx, image.ListOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	// Containers are listed after the images, so that an image that comes into use
	// meanwhile counts as in use.
	inUse, err := im.imagesInUse(ctx)
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
			raw, err := im.inspect(ctx, s.ID)
			if tagged := raw.Metadata.LastTagTime; !tagged.IsZero() {
				images[i].PulledAt = structs.Time{Time: tagged.UTC()}
			}
			if im.hidden(raw) {
				images[i].ID = ""
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	images = slices.DeleteFunc(images, func(i structs.Image) bool { return i.ID == "" })
	im.recall(images)
	return images, nil
}

// namesOf returns the names of an image: its tags, else its digests.
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

// inspect returns an image; the zero value if it no longer exists. LastTagTime is when the
// image was last tagged or built on this engine; zero if it wasn't.
func (im *Images) inspect(ctx context.Context, id string) (raw image.InspectResponse, err error) {
	err = im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
		raw, err = im.engine.Client.ImageInspect(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
	return raw, err
}

// imagesInUse returns the IDs of the images that any container uses, and notes when
// magnum's containers were created.
func (im *Images) imagesInUse(ctx context.Context) (map[string]bool, error) {
	inUse := make(map[string]bool)
	err := im.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) error {
		list, err := im.engine.Client.ContainerList(ctx, container.ListOptions{All: true})
		for _, c := range list {
			inUse[c.ImageID] = true
			if _, ours := backend.RefOf(c.Labels); ours {
				im.NoteUse(c.ImageID, time.Unix(c.Created, 0).UTC())
			}
		}
		return err
	})
	return inUse, err
}

// NoteUse notes that magnum has created a container of the image.
func (im *Images) NoteUse(id string, at time.Time) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if at.After(im.used[id]) {
		im.used[id] = at
	}
}

// noteFetch notes that an image was pulled or loaded. The engine itself notes only tags and
// builds.
func (im *Images) noteFetch(ctx context.Context, ref string) {
	err := im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		raw, err := im.engine.Client.ImageInspect(ctx, ref)
		if err == nil {
			im.mu.Lock()
			defer im.mu.Unlock()
			im.fetched[raw.ID] = time.Now().UTC()
		}
		return err
	})
	if err != nil {
		im.engine.Log.Debug("new image not found", "image", ref, "error", err)
	}
}

// recall adds the notes to the engine's images, and forgets the notes of other images.
func (im *Images) recall(images []structs.Image) {
	im.mu.Lock()
	defer im.mu.Unlock()
	used, fetched := make(map[string]time.Time), make(map[string]time.Time)
	for i := range images {
		img := &images[i]
		if at, ok := im.used[img.ID]; ok {
			used[img.ID], img.UsedAt.Time = at, at
		}
		if at, ok := im.fetched[img.ID]; ok {
			fetched[img.ID] = at
			if at.After(img.PulledAt.Time) {
				img.PulledAt.Time = at
			}
		}
	}
	im.used, im.fetched = used, fetched
}

// loadedPrefixes precede the names in the engine's answer to a load.
var loadedPrefixes = []string{"Loaded image: ", "Loaded image ID: "}

// LoadImages loads the images of a tar stream.
func (im *Images) LoadImages(ctx context.Context, r io.Reader) (loaded []string, err error) {
	if err := im.engine.Negotiate(ctx); err != nil {
		return nil, err
	}
	if !im.Guarded() { // only operators load images onto hosts that projects share
		end, err := im.ledger.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { im.settled(end(context.WithoutCancel(ctx))) }()
	}
	from := &engine.Noted{R: r}
	resp, err := im.engine.Client.ImageLoad(ctx, from, client.ImageLoadWithQuiet(true))
	var names []string
	if err == nil {
		defer resp.Body.Close()
		names, err = readLoaded(resp.Body)
	}
	if failed := from.Failed(); failed != nil {
		return nil, failed
	}
	if err = im.loadError(ctx, err); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, &backend.Failure{Reason: backend.ErrInvalid, Msg: "the archive holds no image: make it with docker save"}
	}
	for _, name := range names {
		im.noteFetch(ctx, name)
	}
	return names, nil
}

// settled logs that what was brought is not taken down yet. It is before the ledger is next
// asked, and until then it is nobody's.
func (im *Images) settled(err error) {
	if err != nil {
		im.engine.Log.Warn("new images are not noted yet", "error", err)
	}
}

// readLoaded reads the engine's answer to a load.
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

// loadError converts the engine's error of a load. The engine reports an unreadable archive
// in many ways, as a failure of its own.
func (im *Images) loadError(ctx context.Context, err error) error {
	err = im.engine.CallError(ctx, err)
	var f *backend.Failure
	if errors.As(err, &f) && f.Reason == nil {
		f.Reason, f.Msg = backend.ErrInvalid, "the archive can't be loaded: "+shorten(f.Msg)+"; make it with docker save"
	}
	return err
}

// maxUntags is the number of rounds of an image's removal: its tags, its digests, the image
// itself.
const maxUntags = 3

// RemoveImage removes an image with all of its names. It never forces the removal,
// which would take images from stopped containers, too.
func (im *Images) RemoveImage(ctx context.Context, id string) error {
	inUse, err := im.imagesInUse(ctx)
	if err != nil {
		return err
	}
	if inUse[id] {
		return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("image %s is used by a container: delete that first", id)}
	}
	for range maxUntags {
		var raw image.InspectResponse
		err := im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
			raw, err = im.engine.Client.ImageInspect(ctx, id)
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
			if err := im.untag(ctx, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// untag removes a name of an image. With the last name the image is removed.
func (im *Images) untag(ctx context.Context, ref string) error {
	var inUse error
	err := im.engine.Change(ctx, func(ctx context.Context) error {
		_, err := im.engine.Client.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
		if errdefs.IsConflict(err) {
			inUse = &backend.Failure{Reason: backend.ErrInUse, Msg: engine.ErrorText(err)}
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
