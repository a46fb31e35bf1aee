// Package atomicfile writes files as a whole, or not at all: whoever reads one,
// or comes after a crash, finds the old content or the new one.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace gives the file new content, which is on the disk when it returns. Only
// the owner may read it. The content is first in a file beside it, with ".new"
// added to its name: two calls for one path may not run at once.
func Replace(path string, content []byte) error {
	if err := replace(path, content, (*os.File).Sync); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceSoon does the same without waiting for the disk: it holds over the end
// of the process, and a machine that loses its power may come back with the old
// content.
func ReplaceSoon(path string, content []byte) error {
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

// SyncDir has the names in a directory be on the disk: of files that were made,
// renamed or removed there.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
