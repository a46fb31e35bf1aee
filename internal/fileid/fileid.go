// Package fileid identifies a file or directory on one machine, so that a copy of it
// can be told from the original.
package fileid

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ID identifies a file or directory. The zero ID identifies none.
type ID struct {
	Inode uint64 `json:"inode"`
	Birth int64  `json:"birth,omitempty"` // creation time in nanoseconds since 1970; 0 if the file system has none
}

// Of returns the ID of a path. A copy of the whole disk image keeps the IDs of its files.
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

// SameFile reports whether two IDs identify one file. A birth that only one of them
// has, as after a kernel update, is ignored.
func (id ID) SameFile(other ID) bool {
	return id.Inode == other.Inode && (id.Birth == other.Birth || id.Birth == 0 || other.Birth == 0)
}

// Born returns the creation time in UTC, or the zero time if the file system has none.
func (id ID) Born() time.Time {
	if id.Birth == 0 {
		return time.Time{}
	}
	return time.Unix(0, id.Birth).UTC()
}
