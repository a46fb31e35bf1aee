package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/internal/atomicfile"
)

// File keeps the end of the lease across restarts of the agent, so that a restart stops
// no container. Times are those of the machine's boot clock, which nobody sets and which
// runs during suspend. After a reboot there is no lease.
type File struct {
	path string
	boot string // ID of the machine's current boot
}

// kept is the file's content.
type kept struct {
	Boot  string        `json:"boot"`
	Until time.Duration `json:"until"` // since the boot
	Grace time.Duration `json:"grace"`
}

// NewFile returns the file at path. The file need not exist.
func NewFile(path string) *File {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without a boot ID, no lease outlives the agent
	return &File{path: path, boot: strings.TrimSpace(string(b))}
}

// Read returns what is left of the lease; 0 or less if it has ended.
func (f *File) Read() (left, grace time.Duration, err error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("lease: %w", err)
	}
	var k kept
	if json.Unmarshal(b, &k) != nil || k.Boot == "" || k.Boot != f.boot {
		return 0, 0, nil
	}
	return k.Until - sinceBoot(), k.Grace, nil
}

// Write writes that the lease ends after left.
func (f *File) Write(left, grace time.Duration) error {
	b, err := json.Marshal(kept{Boot: f.boot, Until: sinceBoot() + left, Grace: grace})
	if err != nil {
		return err
	}
	return atomicfile.ReplaceNoSync(f.path, b)
}

// sinceBoot returns the time since the machine was booted.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
