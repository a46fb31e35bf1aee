package images

import (
	"context"
	"fmt"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
)

// Disk returns the usage of the file system of the engine's data.
func (im *Images) Disk(ctx context.Context) (backend.Disk, error) {
	var disk backend.Disk
	err := im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		info, err := im.engine.Client.Info(ctx)
		if err != nil {
			return err
		}
		fs, err := engine.FileSystem(info.DockerRootDir)
		if err != nil {
			return &backend.Failure{Reason: backend.ErrNotFound, Err: err,
				Msg: fmt.Sprintf("the engine's directory %s is not on this machine, or can't be read", info.DockerRootDir)}
		}
		// As in df, blocks reserved for root count as neither used nor free.
		disk = backend.Disk{Used: int64(fs.Blocks-fs.Bfree) * fs.Bsize, Free: int64(fs.Bavail) * fs.Bsize}
		return nil
	})
	return disk, err
}
