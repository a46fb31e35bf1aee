package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// takeIdentity makes the directory that of the host that the agents of a cluster share. What
// the directory has of another host is kept in a directory beside, in case it was given to
// this agent by mistake. Each step may be repeated: host_id is written last.
func (d *dataDir) takeIdentity(hostID, secret string) error {
	if !structs.IsID(hostID) || secret == "" {
		return structs.Errorf(structs.CodeInvalid, "the cluster names the host %q, which is no UUID, or has no secret of it", hostID)
	}
	was, err := d.content(fileHost)
	if err != nil {
		return err
	}
	had, err := d.content(fileSecret)
	if err != nil {
		return err
	}
	if was != hostID {
		if err := d.leaveHost(was); err != nil {
			return err
		}
	}
	if was != hostID || had != secret {
		if err := atomicfile.Replace(d.file(fileSecret), []byte(secret+"\n")); err != nil {
			return fmt.Errorf("data dir: %w", err)
		}
	}
	if was != hostID {
		if err := d.writeHostID(hostID); err != nil {
			return err
		}
	}
	return d.read()
}

// content returns the text of a file; "" if the file is missing.
func (d *dataDir) content(name string) (string, error) {
	b, err := os.ReadFile(d.file(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data dir: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// leaveHost takes the files of a host away. was is its UUID; "" if there is none.
func (d *dataDir) leaveHost(was string) error {
	keep := func(string) error { return nil }
	if structs.IsID(was) {
		kept := d.file(keptPrefix + was)
		if err := os.MkdirAll(kept, 0o700); err != nil {
			return fmt.Errorf("data dir: %w", err)
		}
		keep = func(name string) error {
			b, err := os.ReadFile(d.file(name))
			if err == nil {
				if _, there := os.Stat(filepath.Join(kept, name)); errors.Is(there, fs.ErrNotExist) {
					err = atomicfile.Replace(filepath.Join(kept, name), b)
				}
			}
			return err
		}
	}
	files := []string{fileHost, fileEngine, fileSecret, fileJournal}
	for _, name := range files {
		if err := keep(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data dir: %w", err)
		}
	}
	// host_id stays until it is replaced: without it, the step before couldn't be repeated.
	for _, name := range append(files[1:], fileNext, fileLease) {
		if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data dir: %w", err)
		}
	}
	return nil
}
