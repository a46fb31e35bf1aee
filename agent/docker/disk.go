package docker

import (
	"context"
	"fmt"
	"syscall"

	"github.com/stackforge/magnum/agent/backend"
)

func fileSystem(dir string) (fs syscall.Statfs_t, err error) {
	err = syscall.Statfs(dir, &fs)
	return fs, err
}

// Disk tells how full the file system of the engine's data is.
func (d *Docker) Disk(ctx context.Context) (backend.Disk, error) {
	var disk backend.Disk
	err := d.read(ctx, readTimeout, func(ctx context.Context) error {
		engine, err := d.cli.Info(ctx)
		if err != nil {
			return err
		}
		fs, err := fileSystem(engine.DockerRootDir)
		if err != nil {
			return &backend.Failure{Reason: backend.ErrNotFound, Err: err,
				Msg: fmt.Sprintf("the engine's directory %s is not on this machine, or can't be read", engine.DockerRootDir)}
		}
		// As df: what is kept for root is neither used nor free.
		disk = backend.Disk{Used: int64(fs.Blocks-fs.Bfree) * fs.Bsize, Free: int64(fs.Bavail) * fs.Bsize}
		return nil
	})
	return disk, err
}
