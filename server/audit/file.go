package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stackforge/magnum/structs"
)

// file is the open file of a Log.
type file struct {
	disk      *os.File
	regular   bool
	size      int64 // of a regular file
	allocated int64 // size up to which disk blocks are allocated
	// allocates says that the file system allocates blocks on request. Without it, proven
	// says that a write has succeeded, and that none has failed since.
	allocates bool
	proven    bool
	torn      bool // the file ends in the middle of a line
	// flooded are the bytes of lines of each kind that floods, since the file was opened.
	flooded [floods]int64
}

// chunk is how many bytes are allocated at a time.
const chunk = 256 << 10

// open opens the file by its name. flags are those beside O_APPEND.
func (l *Log) open(flags int) (*file, error) {
	path := l.config.Path
	if err := l.config.fault("open"); err != nil {
		return nil, err
	}
	// A pipe without a reader would block the server at its start, and a slow one later.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeCharDevice == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "-audit-log %s is neither a file nor a character device", path)
	}
	opened, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|flags, 0o600)
	if errors.Is(err, os.ErrPermission) {
		opened, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|flags, 0o600) // a device, or a file that others read
	}
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-audit-log can't be opened: %w", err)
	}
	f := &file{disk: opened}
	if err := f.look(); err != nil {
		opened.Close()
		return nil, err
	}
	return f, nil
}

// look locks a regular file, and finds out how it ends.
func (f *file) look() error {
	info, err := f.disk.Stat()
	if err != nil {
		return err
	}
	if f.regular = info.Mode().IsRegular(); !f.regular {
		return nil
	}
	if err := syscall.Flock(int(f.disk.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return structs.Errorf(structs.CodeConflict,
			"-audit-log %s is in use by another server: each needs a file of its own", f.disk.Name())
	}
	f.size, f.allocates = info.Size(), true
	f.allocated = f.size
	if f.size > 0 { // a machine that crashed may have left a piece of a line
		last := []byte{'\n'}
		if _, err := f.disk.ReadAt(last, f.size-1); err == nil || errors.Is(err, io.EOF) {
			f.torn = last[0] != '\n'
		}
	}
	return nil
}

// reserve makes sure that n bytes can be written.
func (f *file) reserve(n int64, fault func(string) error) error {
	if f.allocates && f.size+n+1 <= f.allocated {
		return nil
	}
	if err := fault("allocate"); err != nil {
		return err
	}
	if f.allocates {
		err := f.allocate(n + chunk)
		if err != nil {
			err = f.allocate(n + 1) // the newline of a torn line
		}
		if !cannotAllocate(err) {
			return err
		}
		f.allocates = false
	}
	if f.proven {
		return nil
	}
	return f.put([]byte(" "), fault)
}

// allocate allocates blocks for n bytes behind the end.
func (f *file) allocate(n int64) error {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE
	for {
		err := syscall.Fallocate(int(f.disk.Fd()), keepSize, f.size, n)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil {
			f.allocated = f.size + n
		}
		return err
	}
}

// cannotAllocate reports whether an error says that the file system allocates no blocks on
// request.
func cannotAllocate(err error) bool {
	return errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENODEV) ||
		errors.Is(err, syscall.EINVAL)
}

// write writes one line.
func (f *file) write(line []byte, fault func(string) error) error {
	if f.torn {
		if err := f.put([]byte("\n"), fault); err != nil {
			return err
		}
		f.torn = false
	}
	return f.put(line, fault)
}

// put writes bytes completely, or not at all if the file system can cut them off again.
func (f *file) put(b []byte, fault func(string) error) error {
	err := fault("write")
	n := 0
	if err == nil {
		n, err = f.disk.Write(b)
	}
	f.proven = err == nil
	if err == nil {
		if f.regular {
			f.size += int64(n)
		}
		return nil
	}
	if n > 0 && f.regular && f.disk.Truncate(f.size) != nil {
		f.size, f.torn = f.size+int64(n), true
	}
	return err
}

// takes reports whether the file has room for n bytes of a kind of lines that floods, if its
// largest size is most.
func (f *file) takes(flood, n int, most int64) bool {
	return !f.regular || f.flooded[flood]+int64(n) <= most/refusalShare
}

// named reports whether a path leads to the file.
func (f *file) named(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	own, err := f.disk.Stat()
	return err == nil && os.SameFile(info, own)
}

// close closes the file and gives back the blocks behind its end.
func (f *file) close() {
	if f.regular && f.allocated > f.size {
		_ = f.disk.Truncate(f.size) // they would stay allocated, which harms nobody
	}
	f.disk.Close()
}

// stampFormat is what is appended to the name of a rotated file. Names sort by time.
const stampFormat = "20060102T150405.000000000Z"

// rotate renames the file and goes on in a new one. If that fails, the old file goes on,
// under its name if possible.
func (l *Log) rotate(now time.Time) error {
	if !l.file.regular {
		return nil
	}
	path, renamed := l.config.Path, ""
	if l.file.named(path) {
		renamed = l.nextName(now)
		if err := l.config.fault("rename"); err != nil {
			return err
		}
		if err := os.Rename(path, renamed); err != nil {
			return err
		}
	} // else another program has moved it
	f, err := l.open(os.O_CREATE)
	if err == nil {
		err = l.replace(f)
	}
	if err != nil && renamed != "" {
		if back := os.Rename(renamed, path); back != nil {
			err = fmt.Errorf("%w; and the file, which goes on, stays at %s: %w", err, renamed, back)
		}
	}
	if err == nil {
		l.prune()
	}
	return err
}

// nextName returns the name for a file that is rotated now. It sorts behind the others,
// also if the clock was set back.
func (l *Log) nextName(now time.Time) string {
	names := l.rotated()
	stamp := now.UTC().Format(stampFormat)
	if len(names) > 0 {
		prefix := l.config.Path + "."
		newest := strings.TrimPrefix(names[len(names)-1], prefix)
		if at, err := time.Parse(stampFormat, newest); err == nil && stamp <= newest {
			stamp = at.Add(1).Format(stampFormat)
		}
	}
	return l.config.Path + "." + stamp
}

// rotated returns the paths of the rotated files, the oldest first.
func (l *Log) rotated() []string {
	entries, err := os.ReadDir(filepath.Dir(l.config.Path))
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), filepath.Base(l.config.Path)+".")
		if _, err := time.Parse(stampFormat, stamp); ok && err == nil && len(stamp) == len(stampFormat) {
			paths = append(paths, l.config.Path+"."+stamp)
		}
	}
	slices.Sort(paths)
	return paths
}

// prune removes rotated files that are neither among the newest nor young.
func (l *Log) prune() {
	paths := l.rotated()
	oldest := l.config.now().Add(-max(0, l.config.KeepFor))
	for _, path := range paths[:max(0, len(paths)-l.config.MaxFiles)] {
		info, err := os.Stat(path)
		if err == nil && info.ModTime().Before(oldest) {
			err = os.Remove(path)
		}
		if err != nil {
			l.config.Logger.Warn("old audit log can't be removed", "file", path, "error", err)
		}
	}
}
