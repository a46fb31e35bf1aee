package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/structs"
)

// dataDir is the server's directory, locked for this process.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if need be and locks it. The error is
// CodeConflict if another process has it.
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
		return nil, structs.Errorf(structs.CodeConflict, "-data-dir %s is in use by another magnum%s: stop it, or give another directory", path, holder)
	}
	// Who holds it, for that message only: a full disk is no reason not to start.
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	return &dataDir{path: path, lock: lock}, nil
}

// close gives the directory back.
func (d *dataDir) close() { d.lock.Close() }
