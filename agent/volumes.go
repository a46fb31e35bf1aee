package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/atomicfile"
)

// claimVolumes claims, once for a data directory, the volumes that earlier agents made
// without a cluster's label. Only a host that was in the cluster before is entitled to
// them, because they may belong to another cluster. It waits for the engine: without the
// claim a container would get an empty volume instead. b is nil if the backend has no
// volumes.
func claimVolumes(ctx context.Context, dir *dataDir, b backend.Volumes, owner backend.Owner, entitled bool, log hclog.Logger) error {
	if b == nil {
		return nil
	}
	path := dir.file(fileVolumes)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	retry := backoff{min: 200 * time.Millisecond, max: 5 * time.Second}
	for entitled {
		err := b.ClaimVolumes(ctx, owner)
		if err == nil {
			break
		}
		log.Warn("volumes of an earlier agent can't be claimed yet", "error", err)
		if err := retry.wait(ctx, 0); err != nil {
			return err
		}
	}
	if err := atomicfile.Replace(path, []byte(owner.ClusterID+"\n")); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	return nil
}
