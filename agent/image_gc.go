package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Limits of the garbage collection of images.
const (
	gcInterval = time.Minute     // between two looks at the disk
	gcMinAge   = 5 * time.Minute // an image stays this long after it has come or was used, because its container may be created soon
)

// imageGC removes images that no container uses when the engine's file system gets full,
// the least recently used first. Uses are kept in memory. After a restart, the engine's
// containers tell when their images were used; other images count from their pull or
// build.
type imageGC struct {
	images    backend.Images // nil: the backend keeps none
	high, low float64        // percent; high 0 means never
	log       hclog.Logger

	started time.Time            // the first look at the images
	seen    map[string]time.Time // by ID: when this agent first saw it
	stuck   bool                 // a warning says that nothing more can be removed
}

func newImageGC(c Config) *imageGC {
	return &imageGC{images: featuresOf(c.Backend).images, high: float64(c.ImageGCHigh), low: float64(c.ImageGCLow),
		log: c.Logger.Named("image-gc"), seen: make(map[string]time.Time)}
}

// run looks at the disk every gcInterval until ctx ends, and returns nil.
func (g *imageGC) run(ctx context.Context) error {
	if g.high == 0 {
		return nil
	}
	if g.images == nil {
		g.log.Info("images are not collected: the backend keeps none")
		return nil
	}
	tick := time.NewTicker(gcInterval)
	defer tick.Stop()
	for {
		err := g.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, backend.ErrNotFound):
			g.log.Warn("images are not collected: the usage of the engine's disk is unknown", "error", err)
			return nil
		case errors.Is(err, backend.ErrAway): // the reconciler logs that
		case err != nil:
			g.log.Warn("images not collected", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// pass looks at the disk, and removes images if the disk is too full.
func (g *imageGC) pass(ctx context.Context) error {
	disk, err := g.images.Disk(ctx)
	if err != nil {
		return err
	}
	if disk.Percent() < g.high {
		g.stuck = false
		if !g.started.IsZero() {
			return nil
		}
	}
	images, err := g.images.ListImages(ctx)
	if err != nil {
		return err
	}
	g.note(images)
	if disk.Percent() < g.high {
		return nil
	}
	for _, img := range g.candidates(images) {
		if disk.Percent() <= g.low {
			return nil
		}
		switch err := g.images.RemoveImage(ctx, img.ID); {
		case errors.Is(err, backend.ErrInUse): // since the list was taken, or by another image
			continue
		case err != nil:
			return err
		}
		g.log.Info("image removed", "image", imageNames(img), "size", img.Size, "last_used", g.lastUse(img).Format(time.RFC3339), "reason",
			fmt.Sprintf("the disk is %.0f %% full", disk.Percent()))
		if disk, err = g.images.Disk(ctx); err != nil {
			return err
		}
	}
	if disk.Percent() > g.low && !g.stuck {
		g.stuck = true
		g.log.Warn("the disk stays full: the other images are in use or new", "percent",
			fmt.Sprintf("%.0f", disk.Percent()), "wanted", g.low)
	}
	return nil
}

// note keeps when each image was first seen, and forgets removed ones.
func (g *imageGC) note(images []structs.Image) {
	now := time.Now()
	if g.started.IsZero() {
		g.started = now
	}
	seen := make(map[string]time.Time, len(images))
	for _, img := range images {
		if seen[img.ID] = g.seen[img.ID]; seen[img.ID].IsZero() {
			seen[img.ID] = now
		}
	}
	g.seen = seen
}

// candidates returns the images that may be removed, the least recently used first.
func (g *imageGC) candidates(images []structs.Image) []structs.Image {
	young := time.Now().Add(-gcMinAge)
	var all []structs.Image
	for _, img := range images {
		if !img.InUse && g.lastUse(img).Before(young) && g.seen[img.ID].Before(young) {
			all = append(all, img)
		}
	}
	slices.SortFunc(all, func(a, b structs.Image) int { return g.lastUse(a).Compare(g.lastUse(b)) })
	return all
}

// lastUse returns when magnum last created a container of the image, else when the image
// came to the host, else when it was built.
func (g *imageGC) lastUse(img structs.Image) time.Time {
	if !img.UsedAt.IsZero() {
		return latest(img.UsedAt.Time, img.PulledAt.Time)
	}
	came := latest(img.PulledAt.Time, img.CreatedAt.Time)
	if seen := g.seen[img.ID]; seen.After(g.started) {
		return latest(came, seen) // somebody else brought it while this agent ran
	}
	return came
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
