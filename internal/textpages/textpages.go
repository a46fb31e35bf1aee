// Package textpages gives back the memory that holds the file of the running program. The
// start of a program touches most of it once. It stays resident although the kernel could
// read it again from the page cache.
package textpages

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/internal/pause"
)

// Release gives back the pages of the program's file. Those that are used are mapped again,
// from the page cache, which takes microseconds for each. It does nothing where the kernel
// doesn't tell the mappings.
func Release() {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for _, a := range areas(string(maps), path) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, a.from, a.to-a.from, unix.MADV_DONTNEED)
	}
}

// Keep calls Release after the first time, and then regularly, until the context ends.
func Keep(ctx context.Context, first, every time.Duration) {
	for wait := first; pause.For(ctx, wait) == nil; wait = every {
		Release()
	}
}

// area is a part of the address space.
type area struct{ from, to uintptr }

// areas returns where the file of a path is mapped so that it can't have been written.
func areas(maps, path string) []area {
	var all []area
	for line := range strings.Lines(maps) {
		// 00400000-014dc000 r-xp 00000000 fe:00 1234   /usr/bin/magnum
		at, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(rest, "r-") || !strings.HasSuffix(strings.TrimSuffix(rest, "\n"), " "+path) {
			continue
		}
		var a area
		if _, err := fmt.Sscanf(at, "%x-%x", &a.from, &a.to); err == nil {
			all = append(all, a)
		}
	}
	return all
}
