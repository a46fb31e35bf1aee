package backend

import (
	"context"
	"io"

	"github.com/stackforge/magnum/structs"
)

// Images are the images on the engine. The agent can't list, pull, load or remove images
// of a backend without them.
type Images interface {
	// ListImages lists all images of the engine.
	ListImages(ctx context.Context) ([]structs.Image, error)

	// PullImage fetches an image, even if the engine has it. As Create does, it shares a
	// fetch in progress and calls progress with sentences. nil credentials mean none.
	// ErrNoImage, ErrInvalid.
	PullImage(ctx context.Context, ref string, creds *structs.Registry, progress func(string)) error

	// LoadImages loads the images of a tar stream in the format of docker save, and
	// returns their names, or the ID of an image without a name. A stream that breaks off
	// leaves no image. Errors of r are returned as they are. ErrInvalid, ErrNoSpace.
	LoadImages(ctx context.Context, r io.Reader) (names []string, err error)

	// RemoveImage removes an image with all of its names. It does nothing if the image
	// doesn't exist. ErrInUse: a container of the engine uses the image, or another image
	// is built on it.
	RemoveImage(ctx context.Context, id string) error

	// Disk returns the usage of the file system on which the engine keeps images and
	// containers. ErrNotFound if the engine is on another machine.
	Disk(ctx context.Context) (Disk, error)
}

// Disk is the usage of a file system, as df counts it.
type Disk struct {
	Used int64 // bytes
	Free int64 // bytes that an unprivileged user may write
}

// Percent returns the used share.
func (d Disk) Percent() float64 {
	if d.Used+d.Free <= 0 {
		return 0
	}
	return 100 * float64(d.Used) / float64(d.Used+d.Free)
}
