package agent

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// pruneImages removes all images that no container uses.
func pruneImages(ctx context.Context, b backend.Images, log hclog.Logger) (structs.ImageChange, error) {
	gone := structs.ImageChange{Images: []string{}}
	images, err := b.ListImages(ctx)
	if err != nil {
		return gone, err
	}
	for _, img := range images {
		if img.InUse {
			continue
		}
		switch err := b.RemoveImage(ctx, img.ID); {
		case errors.Is(err, backend.ErrInUse): // since the list was taken, or by another image
		case err != nil:
			return gone, err
		default:
			log.Info("image removed", "image", imageNames(img), "size", img.Size, "reason", "prune")
			gone.Images, gone.Size = append(gone.Images, imageNames(img)...), gone.Size+img.Size
		}
	}
	return gone, nil
}

// imageNames returns an image's names, or its ID if it has none.
func imageNames(img structs.Image) []string {
	if len(img.Names) == 0 {
		return []string{img.ID}
	}
	return img.Names
}
