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

// machineFile has the machine's id.
const machineFile = "/etc/machine-id"

// unsteady are the file systems whose inode numbers another mount may change.
var unsteady = map[int64]bool{unix.OVERLAYFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true}

// readEngine completes an identity by what only the machine of the engine can
// tell, as far as it can be read.
func readEngine(e *structs.EngineIdentity) {
	if b, err := os.ReadFile(machineFile); err == nil && len(b) <= structs.MaxText {
		e.Machine = strings.TrimSpace(string(b))
	}
	// An agent inside a container may see another directory of that name.
	if _, err := os.Stat(filepath.Join(e.Root, "containers")); errors.Is(err, fs.ErrNotExist) {
		return
	}
	var in unix.Statfs_t
	if err := unix.Statfs(e.Root, &in); err != nil || unsteady[int64(in.Type)] {
		return
	}
	id, err := fileid.Of(e.Root)
	if err != nil {
		return
	}
	e.Inode, e.Born = id.Inode, id.Born()
}
