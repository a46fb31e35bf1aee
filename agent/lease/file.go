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

// File keeps the end of the lease over the lives of the agent: one that was killed
// and started again stops nothing. It counts by the machine's own clock, which no one
// sets and which runs while the machine sleeps; after a reboot there is no lease.
type File struct {
	path string
	boot string // identity of the machine's current run
}

// kept is what the file holds.
type kept struct {
	Boot  string        `json:"boot"`
	Until time.Duration `json:"until"` // since the boot
	Grace time.Duration `json:"grace"`
}

// NewFile returns the file at the path, which need not be there yet.
func NewFile(path string) *File {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it, no lease outlives the agent
	return &File{path: path, boot: strings.TrimSpace(string(b))}
}

// Read returns what is left of the lease, not above 0 if nothing is.
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

// Write keeps that so much is left of the lease.
func (f *File) Write(left, grace time.Duration) error {
	b, err := json.Marshal(kept{Boot: f.boot, Until: sinceBoot() + left, Grace: grace})
	if err != nil {
		return err
	}
	return atomicfile.ReplaceNoSync(f.path, b)
}

// sinceBoot is the time since the machine was started.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
