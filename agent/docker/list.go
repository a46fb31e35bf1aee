package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// owned is the filter for an owner's containers.
func owned(o backend.Owner) filters.Args {
	return filters.NewArgs(
		filters.Arg("label", backend.LabelCluster+"="+o.ClusterID),
		filters.Arg("label", backend.LabelHost+"="+o.HostID))
}

// entryOf reads the labels of a container; ok is false if they aren't ours.
func entryOf(engineID string, labels map[string]string) (e backend.Entry, ok bool) {
	ref, ok := backend.RefOf(labels)
	if !ok {
		return e, false
	}
	return backend.Entry{Ref: ref, EngineID: engineID, Lease: labels[backend.LabelExclusive] == backend.LabelLease}, true
}

// List returns all containers of the owner.
func (d *Docker) List(ctx context.Context, owner backend.Owner) ([]backend.Entry, error) {
	var entries []backend.Entry
	err := d.read(ctx, changeTimeout, func(ctx context.Context) error {
		list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: owned(owner)})
		for _, c := range list {
			if e, ok := entryOf(c.ID, c.Labels); ok {
				e.CreatedAt = time.Unix(c.Created, 0).UTC()
				e.Name = strings.TrimPrefix(slices.Concat(c.Names, []string{c.ID})[0], "/")
				e.Inherited = d.inherits(ctx, c.ImageID, e.Ref)
				entries = append(entries, e)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// inherits reports whether the labels of a container are those of its image: docker
// commit gives them to the image, and docker run to what is made of it. An image
// that can't be looked at is taken for one without.
func (d *Docker) inherits(ctx context.Context, imageID string, ref structs.Ref) bool {
	d.mu.Lock()
	of, known := d.commits[imageID]
	d.mu.Unlock()
	if !known {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		img, err := d.cli.ImageInspect(ctx, imageID)
		if err != nil {
			return false
		}
		if img.Config != nil {
			e, _ := entryOf("", img.Config.Labels)
			of = e.Ref
		}
		d.mu.Lock()
		if len(d.commits) >= maxCommits {
			clear(d.commits)
		}
		d.commits[imageID] = of
		d.mu.Unlock()
	}
	return of == ref
}

// maxCommits bounds the images that are remembered.
const maxCommits = 10_000

// Owners returns whose containers the engine has.
func (d *Docker) Owners(ctx context.Context) ([]backend.Owner, error) {
	var owners []backend.Owner
	err := d.read(ctx, changeTimeout, func(ctx context.Context) error {
		list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", backend.LabelEpoch))})
		for _, c := range list {
			o := backend.Owner{ClusterID: c.Labels[backend.LabelCluster], HostID: c.Labels[backend.LabelHost]}
			e, ok := entryOf(c.ID, c.Labels)
			if ok && d.inherits(ctx, c.ImageID, e.Ref) {
				continue // its image may have come from anywhere
			}
			if !slices.Contains(owners, o) {
				owners = append(owners, o)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return owners, nil
}

// eventKinds are the engine's events that may change what Inspect says. Exec
// and attach events, which can come many times a second, stay away.
var eventKinds = map[events.Action]backend.EventKind{
	events.ActionCreate:  backend.EventCreated,
	events.ActionDestroy: backend.EventRemoved,
	events.ActionStart:   backend.EventChanged,
	events.ActionDie:     backend.EventChanged,
	events.ActionPause:   backend.EventChanged,
	events.ActionUnPause: backend.EventChanged,
	events.ActionRename:  backend.EventChanged,
	events.ActionUpdate:  backend.EventChanged,
	// Of a health that is another than before; the event says which one
	// behind a colon.
	events.ActionHealthStatus: backend.EventChanged,
}

// eventOverlap is how far back the stream begins: the engine answers before it
// subscribes, and replays its last 256 events from memory.
const eventOverlap = 2 * time.Second

// imageKinds are the engine's events that may make a missing image be there. An
// import and a build tag their image.
var imageKinds = []events.Action{events.ActionPull, events.ActionTag, events.ActionLoad}

// Events follows the engine's event streams: of the owner's containers, and of
// images, which have no owner.
func (d *Docker) Events(ctx context.Context, owner backend.Owner, ready func(), event func(backend.Event)) error {
	if err := d.alive(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := make(chan error, 1)
	go func() {
		defer close(silent)
		silent <- d.watch(ctx)
	}()
	defer func() {
		cancel()
		<-silent
	}()
	ofContainers, ofImages := owned(owner), filters.NewArgs()
	ofContainers.Add("type", string(events.ContainerEventType))
	for action := range eventKinds {
		ofContainers.Add("event", string(action))
	}
	ofImages.Add("type", string(events.ImageEventType))
	for _, action := range imageKinds {
		ofImages.Add("event", string(action))
	}
	since := time.Now().Add(-eventOverlap)
	open := func(args filters.Args) (<-chan events.Message, <-chan error) {
		return d.cli.Events(ctx, events.ListOptions{Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()), Filters: args})
	}
	images, imageErrs := open(ofImages)
	containers, containerErrs := open(ofContainers)
	select {
	case err := <-imageErrs:
		return d.streamEnd(ctx, err)
	case err := <-containerErrs:
		return d.streamEnd(ctx, err)
	default:
		ready()
	}
	for {
		select {
		case m := <-containers:
			action, _, _ := strings.Cut(string(m.Action), ":")
			kind := eventKinds[events.Action(action)]
			if e, ok := entryOf(m.Actor.ID, m.Actor.Attributes); ok && kind != "" {
				event(backend.Event{Entry: e, Kind: kind})
			}
		case m := <-images:
			event(imageEvent(m))
		case err := <-silent:
			return err
		case err := <-imageErrs:
			return d.streamEnd(ctx, err)
		case err := <-containerErrs:
			return d.streamEnd(ctx, err)
		}
	}
}

// imageEvent reads an image's event. An archive is told of by its images' ids,
// not by their names.
func imageEvent(m events.Message) backend.Event {
	e := backend.Event{Kind: backend.EventImage}
	switch m.Action {
	case events.ActionTag:
		e.Image = m.Actor.Attributes["name"]
	case events.ActionPull:
		e.Image = m.Actor.ID
	}
	return e
}

// streamEnd is why the event stream ended: never nil.
func (d *Docker) streamEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &backend.Failure{Reason: backend.ErrAway, Msg: "the Docker engine's event stream ended", Err: err}
}
