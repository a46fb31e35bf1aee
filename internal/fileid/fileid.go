// Package fileid tells a file or directory from a copy of it on the same machine.
package fileid

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ID identifies a file or directory. The zero ID is of none.
type ID struct {
	Inode uint64 `json:"inode"`
	Birth int64  `json:"birth,omitempty"` // when it was made, nanoseconds since 1970; 0 if the file system doesn't know
}

// Of returns the ID of a path. It tells nothing of an image of the whole disk.
func Of(path string) (ID, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return ID{}, fmt.Errorf("%s: %w", path, err)
	}
	var id ID
	if st.Mask&unix.STATX_INO != 0 {
		id.Inode = st.Ino
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}

// Is reports whether two IDs are of one file. A time of birth that only one of
// them has, as after an update of the kernel, tells nothing.
func (id ID) Is(other ID) bool {
	return id.Inode == other.Inode && (id.Birth == other.Birth || id.Birth == 0 || other.Birth == 0)
}

// Born returns the time of birth in UTC, the zero time if the file system doesn't
// know.
func (id ID) Born() time.Time {
	if id.Birth == 0 {
		return time.Time{}
	}
	return time.Unix(0, id.Birth).UTC()
}
