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
	"github.com/stackforge/magnum/agent/docker/engine"
)

// owned returns the filter for an owner's containers.
func owned(o backend.Owner) filters.Args {
	return filters.NewArgs(
		filters.Arg("label", backend.LabelCluster+"="+o.ClusterID),
		filters.Arg("label", backend.LabelHost+"="+o.HostID))
}

// List returns all containers of the owner.
func (rt *runtime) List(ctx context.Context, owner backend.Owner) ([]backend.Entry, error) {
	var entries []backend.Entry
	err := rt.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) error {
		list, err := rt.engine.Client.ContainerList(ctx, container.ListOptions{All: true, Filters: owned(owner)})
		for _, c := range list {
			if e, ok := engine.EntryOf(c.ID, c.Labels); ok {
				e.CreatedAt = time.Unix(c.Created, 0).UTC()
				e.Name = engine.NameOf(&c)
				e.Inherited = rt.engine.Inherits(ctx, c.ImageID, e)
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

// Owners returns the owners of the engine's containers.
func (rt *runtime) Owners(ctx context.Context) ([]backend.Owner, error) {
	var owners []backend.Owner
	err := rt.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) error {
		list, err := rt.engine.Client.ContainerList(ctx,
			container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", backend.LabelEpoch))})
		for _, c := range list {
			o := backend.Owner{ClusterID: c.Labels[backend.LabelCluster], HostID: c.Labels[backend.LabelHost]}
			e, ok := engine.EntryOf(c.ID, c.Labels)
			if ok && rt.engine.Inherits(ctx, c.ImageID, e) {
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

// eventKinds are the engine's events that may change what Inspect returns. Exec and attach
// events are left out, because they may come many times a second.
var eventKinds = map[events.Action]backend.EventKind{
	events.ActionCreate:  backend.EventCreated,
	events.ActionDestroy: backend.EventRemoved,
	events.ActionStart:   backend.EventChanged,
	events.ActionDie:     backend.EventChanged,
	events.ActionPause:   backend.EventChanged,
	events.ActionUnPause: backend.EventChanged,
	events.ActionRename:  backend.EventChanged,
	events.ActionUpdate:  backend.EventChanged,
	// The event comes when the health changes; the new health follows a colon.
	events.ActionHealthStatus: backend.EventChanged,
}

// imageKinds are the engine's events after which a missing image may exist. An import and a
// build tag their image.
var imageKinds = []events.Action{events.ActionPull, events.ActionTag, events.ActionLoad}

// networkKinds are the engine's events after which a container may have another address, or
// none. Their attributes have no label, so those of all containers are followed.
var networkKinds = []events.Action{events.ActionConnect, events.ActionDisconnect}

// Events follows the engine's event streams of the owner's containers, and of images and
// networks, which have no owner.
func (rt *runtime) Events(ctx context.Context, owner backend.Owner, ready func(), event func(backend.Event)) error {
	if err := rt.engine.Ping(ctx); err != nil {
		return err
	}
	if err := rt.engine.Negotiate(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := make(chan error, 1)
	go func() {
		defer close(silent)
		silent <- rt.engine.Monitor(ctx)
	}()
	defer func() {
		cancel()
		<-silent
	}()
	ofContainers, ofImages, ofNetworks := owned(owner), filters.NewArgs(), filters.NewArgs()
	ofContainers.Add("type", string(events.ContainerEventType))
	ofContainers.Add("event", string(events.ActionOOM))
	for action := range eventKinds {
		ofContainers.Add("event", string(action))
	}
	ofImages.Add("type", string(events.ImageEventType))
	for _, action := range imageKinds {
		ofImages.Add("event", string(action))
	}
	ofNetworks.Add("type", string(events.NetworkEventType))
	for _, action := range networkKinds {
		ofNetworks.Add("event", string(action))
	}
	since := time.Now().Add(-engine.EventOverlap)
	open := func(args filters.Args) (<-chan events.Message, <-chan error) {
		return rt.engine.Client.Events(ctx, events.ListOptions{Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
			Filters: args})
	}
	images, imageErrs := open(ofImages)
	connections, connectionErrs := open(ofNetworks)
	containers, containerErrs := open(ofContainers)
	select {
	case err := <-connectionErrs:
		return rt.streamEnd(ctx, err)
	case err := <-imageErrs:
		return rt.streamEnd(ctx, err)
	case err := <-containerErrs:
		return rt.streamEnd(ctx, err)
	default:
		ready()
	}
	for {
		select {
		case m := <-containers:
			action, _, _ := strings.Cut(string(m.Action), ":")
			kind := eventKinds[events.Action(action)]
			if m.Action == events.ActionOOM && rt.ooms.note(m.Actor.ID, time.Unix(0, m.TimeNano)) {
				kind = backend.EventChanged // the process was inspected as one that had ended otherwise
			}
			if e, ok := engine.EntryOf(m.Actor.ID, m.Actor.Attributes); ok && kind != "" {
				event(backend.Event{Entry: e, Kind: kind})
			}
		case m := <-images:
			event(imageEvent(m))
		case m := <-connections:
			event(backend.Event{Kind: backend.EventNetwork, Entry: backend.Entry{EngineID: m.Actor.Attributes["container"]}})
		case err := <-connectionErrs:
			return rt.streamEnd(ctx, err)
		case err := <-silent:
			return err
		case err := <-imageErrs:
			return rt.streamEnd(ctx, err)
		case err := <-containerErrs:
			return rt.streamEnd(ctx, err)
		}
	}
}

// imageEvent converts an image's event. The event of a load names images by ID.
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

// streamEnd returns the reason for the end of the event stream; never nil.
func (rt *runtime) streamEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &backend.Failure{Reason: backend.ErrAway, Msg: "the Docker engine's event stream ended", Err: err}
}
