package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/structs"
)

// dataDir is the server's data directory, locked by this process.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir creates the directory if it is missing, and locks it. The error is
// CodeConflict if another process holds the lock.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("-data-dir: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("-data-dir: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer lock.Close()
		holder := ""
		if b, err := os.ReadFile(lock.Name()); err == nil && len(b) > 0 && len(b) < 20 {
			holder = " (process " + strings.TrimSpace(string(b)) + ")"
		}
		return nil, structs.Errorf(structs.CodeConflict, "-data-dir %s is in use by another magnum%s: stop it, or give another directory",
			path, holder)
	}
	// The process ID only serves the message above: a full disk must not prevent a
	// start.
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	return &dataDir{path: path, lock: lock}, nil
}

// close releases the directory's lock.
func (d *dataDir) close() { d.lock.Close() }
