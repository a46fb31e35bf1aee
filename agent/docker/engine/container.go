package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Inspect inspects a container by ID or name.
func (e *Engine) Inspect(ctx context.Context, idOrName string) (raw container.InspectResponse, err error) {
	// The engine locks a container while it starts it, so the answer may take as long as
	// a start.
	err = e.Read(ctx, ChangeTimeout, func(ctx context.Context) error {
		raw, err = e.Client.ContainerInspect(ctx, idOrName)
		return err
	})
	return raw, err
}

// EntryOf reads the labels of a container; ok is false if they aren't magnum's.
func EntryOf(engineID string, labels map[string]string) (e backend.Entry, ok bool) {
	ref, ok := backend.RefOf(labels)
	if !ok {
		return e, false
	}
	return backend.Entry{Ref: ref, EngineID: engineID, Lease: labels[backend.LabelExclusive] == backend.LabelLease,
		Attempt: backend.AttemptOf(labels)}, true
}

// NameOf returns the name of a listed container, its ID if it has none.
func NameOf(c *container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// Inherits reports whether a container has its labels from its image. docker commit gives
// a container's labels to the image, and docker run gives the image's to its containers.
// false if the image can't be inspected. The attempt counts, because a pod's container may
// be made again from a commit of its last attempt.
func (e *Engine) Inherits(ctx context.Context, imageID string, entry backend.Entry) bool {
	e.mu.Lock()
	of, known := e.commits[imageID]
	e.mu.Unlock()
	if !known {
		ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
		defer cancel()
		img, err := e.Client.ImageInspect(ctx, imageID)
		if err != nil {
			return false
		}
		if img.Config != nil {
			image, _ := EntryOf("", img.Config.Labels)
			of = attempt{image.Ref, image.Attempt}
		}
		e.mu.Lock()
		if len(e.commits) >= maxCommits {
			clear(e.commits)
		}
		e.commits[imageID] = of
		e.mu.Unlock()
	}
	return of == attempt{entry.Ref, entry.Attempt}
}

// attempt names one container of a reference.
type attempt struct {
	ref     structs.Ref
	attempt uint64
}

// maxCommits bounds the images in Engine.commits.
const maxCommits = 10_000

// StateOf converts the engine's state of a container.
func StateOf(s *container.State) backend.State {
	switch s.Status {
	case container.StateCreated:
		return backend.StateCreated
	case container.StateRunning:
		return backend.StateRunning
	case container.StatePaused:
		return backend.StatePaused
	case container.StateRestarting:
		return backend.StateRestarting
	case container.StateRemoving:
		return backend.StateRemoving
	}
	return backend.StateExited // also dead: a removal that failed half-way
}

// TimeOf parses a time of the engine, whose zero is 0001-01-01T00:00:00Z.
func TimeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// EventOverlap is how far back an event stream begins, because the engine answers before it
// subscribes. The engine replays its last 256 events from memory.
const EventOverlap = 2 * time.Second

// ScopeName returns the prefix of the engine's names for a project's objects. The engine
// allows fewer characters in a name than magnum in a project ID.
func ScopeName(projectID string) string {
	for i := range len(projectID) {
		c := projectID[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '_' || c == '.' || c == '-')) {
			sum := sha256.Sum256([]byte(projectID))
			return "mg-x" + hex.EncodeToString(sum[:12])
		}
	}
	return "mg-" + projectID
}

// FileSystem returns the state of the file system of a directory on this machine.
func FileSystem(dir string) (fs syscall.Statfs_t, err error) {
	err = syscall.Statfs(dir, &fs)
	return fs, err
}
