package docker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/internal/fileid"
	"github.com/stackforge/magnum/structs"
)

// machineFile holds the machine's ID.
const machineFile = "/etc/machine-id"

// unstable are the file systems whose inode numbers may change with another mount.
var unstable = map[int64]bool{unix.OVERLAYFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true}

// readEngine adds to an engine's identity what can be read only on its machine.
func readEngine(e *structs.EngineIdentity) {
	if b, err := os.ReadFile(machineFile); err == nil && len(b) <= structs.MaxText {
		e.Machine = strings.TrimSpace(string(b))
	}
	// In a container, the agent may see another directory of that name.
	if _, err := os.Stat(filepath.Join(e.Root, "containers")); errors.Is(err, fs.ErrNotExist) {
		return
	}
	var in unix.Statfs_t
	if err := unix.Statfs(e.Root, &in); err != nil || unstable[int64(in.Type)] {
		return
	}
	id, err := fileid.Of(e.Root)
	if err != nil {
		return
	}
	e.Inode, e.Born = id.Inode, id.Born()
}
