package backend

import (
	"context"
	"io"

	"github.com/stackforge/magnum/structs"
)

// Images are the images that the engine keeps. A backend without them fetches
// images by means of its own.
type Images interface {
	// ListImages lists the images of the engine, whoever brought them there.
	ListImages(ctx context.Context) ([]structs.Image, error)

	// PullImage fetches an image, also one that is there already, as Create
	// does: it shares a fetch that is under way, and tells of its progress in
	// sentences. nil credentials mean none. ErrNoImage, ErrInvalid.
	PullImage(ctx context.Context, ref string, creds *structs.Registry, progress func(string)) error

	// LoadImages takes in the images of a tar stream as docker save writes it,
	// and returns their names, or the ID of one without a name. A stream that
	// breaks off leaves no image. Errors of r are returned as they are.
	// ErrInvalid, ErrNoSpace.
	LoadImages(ctx context.Context, r io.Reader) (names []string, err error)

	// RemoveImage removes an image under all of its names; nothing happens if
	// it does not exist. One that any container of the engine is made of, or
	// another image is built on, stays: ErrInUse.
	RemoveImage(ctx context.Context, id string) error

	// Disk tells how full the file system is on which the engine keeps images
	// and containers. An engine elsewhere can't tell: ErrNotFound.
	Disk(ctx context.Context) (Disk, error)
}

// Disk is how full a file system is, as df counts it.
type Disk struct {
	Used int64 // bytes
	Free int64 // bytes that a user without privileges may write
}

// Percent returns how full it is.
func (d Disk) Percent() float64 {
	if d.Used+d.Free <= 0 {
		return 0
	}
	return 100 * float64(d.Used) / float64(d.Used+d.Free)
}
