package backendtest

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
	"github.com/stackforge/magnum/structs"
)

// This file has a Fake's images and volumes.

// volume identifies a volume.
type volume struct{ cluster, project, name string }

// newImage returns an image that has just come to the engine.
func newImage(ref string) *structs.Image {
	now := structs.Time{Time: time.Now()}
	return &structs.Image{ID: "sha256:" + backend.Hash(&structs.ContainerSpec{Image: ref}), Names: []string{ref}, Size: 1 << 20,
		CreatedAt: now, PulledAt: now}
}

// imageLocked returns the image with a name or ID, nil if the engine has none.
func (f *engine) imageLocked(ref string) *structs.Image {
	for _, img := range f.stored {
		if img.ID == ref || slices.ContainsFunc(img.Names, func(have string) bool { return backend.SameImage(have, ref) }) {
			return img
		}
	}
	return nil
}

// fetchLocked pulls an image from the registry, if it is there.
func (f *engine) fetchLocked(ref string) {
	if f.pushed[ref] {
		f.stored[ref] = newImage(ref)
	}
}

// noteCredentials notes with which credentials an image is to be pulled.
func (f *engine) noteCredentials(image string, creds *structs.Registry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asWhom == nil {
		f.asWhom = make(map[string]*structs.Registry)
	}
	f.asWhom[image] = creds
}

// importImage puts an image on the engine, with an event.
func (f *engine) importImage(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored[ref] = newImage(ref)
	for _, w := range f.watchers {
		w.queue <- backend.Event{Kind: backend.EventImage, Image: ref}
	}
}

// call calls Fault, and fails if the engine is down.
func (f *engine) call(ctx context.Context, op string) error {
	if err := errors.Join(ctx.Err(), f.fault(op, structs.Ref{})); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errDown
	}
	return nil
}

// ListImages lists the engine's images.
func (f *images) ListImages(ctx context.Context) ([]structs.Image, error) {
	if err := f.call(ctx, "images"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	images := []structs.Image{}
	for _, img := range f.stored {
		seen := *img
		seen.InUse = f.imageUsedLocked(img)
		images = append(images, seen)
	}
	return images, nil
}

func (f *images) imageUsedLocked(img *structs.Image) bool {
	for _, p := range f.containers {
		if p.image == img {
			return true
		}
	}
	return false
}

// FetchImage waits for a pull if one is needed.
func (f *runtime) FetchImage(ctx context.Context, _ string, spec *structs.ContainerSpec, creds *structs.Registry,
	progress func(string)) error {
	if err := f.call(ctx, "image fetch"); err != nil {
		return err
	}
	f.noteCredentials(spec.Image, creds)
	if spec.Image == "" {
		return nil // the one that the engine makes for infra containers
	}
	return f.fetch(ctx, spec, progress)
}

// PullImage waits for a pull.
func (f *images) PullImage(ctx context.Context, ref string, _ *structs.Registry, progress func(string)) error {
	if err := f.call(ctx, "image pull"); err != nil {
		return err
	}
	return f.fetch(ctx, &structs.ContainerSpec{Image: ref, PullPolicy: structs.PullAlways}, progress)
}

// LoadImages loads a tar stream in the format of docker save.
func (f *images) LoadImages(ctx context.Context, r io.Reader) ([]string, error) {
	if err := f.call(ctx, "image load"); err != nil {
		return nil, err
	}
	var manifest []struct{ RepoTags []string }
	from := &userland.Reader{R: r}
	refuse := func(err error) error {
		if from.Err != nil {
			return from.Err
		}
		return &backend.Failure{Reason: backend.ErrInvalid, Msg: fmt.Sprintf("the archive can't be loaded: %v", err)}
	}
	for in := tar.NewReader(from); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, refuse(err)
		}
		var content strings.Builder
		if _, err := io.Copy(&content, in); err != nil {
			return nil, refuse(err)
		}
		if h.Name == "manifest.json" {
			if err := json.Unmarshal([]byte(content.String()), &manifest); err != nil {
				return nil, refuse(err)
			}
		}
	}
	if _, err := io.Copy(io.Discard, from); err != nil {
		return nil, err
	}
	if len(manifest) == 0 {
		return nil, refuse(errors.New("it has no manifest.json"))
	}
	var names []string
	for _, m := range manifest {
		names = append(names, m.RepoTags...)
	}
	for _, n := range names {
		f.importImage(n)
	}
	return names, nil
}

// RemoveImage removes an image from the engine, but not from its registry.
func (f *images) RemoveImage(ctx context.Context, id string) error {
	if err := f.call(ctx, "image remove"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	img := f.imageLocked(id)
	if img == nil {
		return nil
	}
	if f.imageUsedLocked(img) {
		return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("image %s is used by a container: delete that first", id)}
	}
	delete(f.stored, img.Names[0])
	f.pushed[img.Names[0]] = true
	return nil
}

// Disk returns the usage of the file system, including the images.
func (f *images) Disk(ctx context.Context) (backend.Disk, error) {
	if err := f.call(ctx, "disk"); err != nil {
		return backend.Disk{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.disk
	for _, img := range f.stored {
		d.Used, d.Free = d.Used+img.Size, d.Free-img.Size
	}
	return d, nil
}

// ClaimVolumes claims the volumes without a cluster.
func (f *volumes) ClaimVolumes(ctx context.Context, owner backend.Owner) error {
	if err := f.call(ctx, "volume claim"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for v, made := range f.kept {
		if v.cluster == "" {
			delete(f.kept, v)
			v.cluster = owner.ClusterID
			f.kept[v] = made
		}
	}
	return nil
}

// ListVolumes lists the volumes of a project, or of all projects.
func (f *volumes) ListVolumes(ctx context.Context, clusterID, projectID string) ([]structs.Volume, error) {
	if err := f.call(ctx, "volumes"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	volumes := []structs.Volume{}
	for v, made := range f.kept {
		if clusterID == v.cluster && (projectID == "" || projectID == v.project) {
			users, _ := f.volumeUsersLocked(v)
			volumes = append(volumes, structs.Volume{Name: v.name, ProjectID: v.project, CreatedAt: structs.Time{Time: made},
				UsedBy: users})
		}
	}
	return volumes, nil
}

// volumeUsersLocked returns the UUIDs of what mounts a volume, and a list of it for a
// message.
func (f *volumes) volumeUsersLocked(v volume) (users []string, text string) {
	users = []string{}
	var texts []string
	for _, p := range f.containers {
		if p.owner.ClusterID == v.cluster && p.project == v.project &&
			(slices.ContainsFunc(p.spec.Volumes, func(m structs.Mount) bool { return m.Name == v.name }) || p.mountsClaim(v.name)) &&
			!slices.Contains(users, p.ID) {
			users, texts = append(users, p.ID), append(texts, string(p.Kind)+" "+p.ID)
		}
	}
	return users, strings.Join(texts, ", ")
}

// claimLocked makes a named volume unless it exists.
func (f *engine) claimLocked(v volume) {
	if f.kept[v].IsZero() {
		f.kept[v] = time.Now()
	}
}

// RemoveVolume removes a volume.
func (f *volumes) RemoveVolume(ctx context.Context, clusterID, projectID, name string) error {
	if err := f.call(ctx, "volume remove"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := volume{clusterID, projectID, name}
	if f.kept[v].IsZero() {
		return &backend.Failure{Reason: backend.ErrNoVolume, Msg: fmt.Sprintf("the host has no volume %q of this project", name)}
	}
	if users, text := f.volumeUsersLocked(v); len(users) > 0 {
		return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("volume %s is used by %s: delete that first", name, text)}
	}
	delete(f.kept, v)
	delete(f.claimed, v)
	return nil
}
