// Package atomicfile replaces the content of a file atomically: a reader sees the
// old content or the new, never a mixture, also after a crash of the process.
// It knows nothing of what the files hold.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace replaces the content of a file, or creates it, with mode 0600. The content
// is on disk when Replace returns. It is written to path+".new" first, so calls for
// one path must not run concurrently.
func Replace(path string, content []byte) error {
	if err := replace(path, content, (*os.File).Sync); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceNoSync is Replace without the fsync: the new content survives the end of
// the process, but after a power failure the file may have the old content.
func ReplaceNoSync(path string, content []byte) error {
	return replace(path, content, func(*os.File) error { return nil })
}

func replace(path string, content []byte, sync func(*os.File) error) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// SyncDir syncs a directory, so that the creations, renames and removals of files
// in it survive a power failure.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
