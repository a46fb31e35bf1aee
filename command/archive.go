package command

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// source is a local file or directory to copy.
type source struct {
	at   string // path
	name string // last element of the path
	dir  bool
}

// openSource examines a local path. A path that ends with / or /. must be a directory.
func openSource(local string) (source, error) {
	info, err := os.Lstat(local)
	if err != nil {
		return source{}, err
	}
	abs, err := filepath.Abs(local)
	if err != nil {
		return source{}, err
	}
	s := source{at: filepath.Clean(local), name: filepath.Base(abs), dir: info.IsDir()}
	if strings.HasSuffix(local, "/") || contentOnly(local) {
		s.at += "/" // follows a link to a directory, as cp does
	}
	return s, nil
}

// pack writes the source as a tar stream, under the name root. All entries belong to
// root, because local owners mean nothing in a container.
func (s source) pack(w io.Writer, root string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(s.at, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(s.at, at)
		if err != nil {
			return err
		}
		return packEntry(tw, at, path.Join(root, filepath.ToSlash(below)), info)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

// packEntry writes one entry.
func packEntry(tw *tar.Writer, at, name string, info fs.FileInfo) error {
	link := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		var err error
		if link, err = os.Readlink(at); err != nil {
			return err
		}
	case info.Mode()&fs.ModeSocket != 0:
		return nil // nothing listens on a copy
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return fmt.Errorf("%s can't be copied: %w", at, err)
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	if err := tw.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(at)
	if err != nil {
		return err
	}
	defer file.Close()
	// Of a file that grows meanwhile, the size in its header is copied.
	if _, err := io.Copy(tw, io.LimitReader(file, h.Size)); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// unpack unpacks a tar stream at a local path. The names of all entries begin with
// the same element. If local is a directory, the entries go into it: below that
// element, or with content directly. Otherwise the first entry becomes local. unpack
// never writes outside of local, whatever the stream has.
func unpack(r io.Reader, local string, content bool) error {
	tr := tar.NewReader(r)
	first, err := tr.Next()
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	isDir := first.Typeflag == tar.TypeDir
	if content && !isDir {
		return fmt.Errorf("%s is no directory in the container: leave out the /. at its end", path.Clean(first.Name))
	}
	top := path.Clean(first.Name)
	base, name := local, top // the directory to write to, and the name of top in it
	info, err := os.Stat(local)
	switch {
	case err == nil && info.IsDir():
		if content {
			name = "."
		}
	case err == nil && isDir:
		return fmt.Errorf("%s is a file: a directory can't replace it", local)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil && !isDir && strings.HasSuffix(local, "/"):
		return fmt.Errorf("directory %s does not exist: create it first", local)
	default:
		base, name = filepath.Dir(filepath.Clean(local)), filepath.Base(local)
	}
	if name == ".." || name == "/" || path.IsAbs(name) {
		name = "." // the container's root has no name: copy its content
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root}
	for h := first; ; {
		below, ok := strings.CutPrefix(path.Clean(h.Name), top)
		if top == "." || top == "/" {
			below, ok = path.Clean(h.Name), true
		}
		if !ok || below != "" && below[0] != '/' && top != "." && top != "/" {
			return fmt.Errorf("the archive has the entry %q, which is not below %q", h.Name, top)
		}
		if h.Typeflag == tar.TypeLink {
			if linked, ok := strings.CutPrefix(path.Clean(h.Linkname), top); ok {
				h.Linkname = path.Join(name, linked)
			}
		}
		if err := u.writeEntry(h, tr, path.Join(name, below)); err != nil {
			return err
		}
		if h, err = tr.Next(); errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
	}
}

// unpacker writes the entries of a tar stream below a directory.
type unpacker struct {
	root         *os.Root
	dirs         []dirMode
	skipped      []string // the first maxSkipped entries that can't be copied, with the reason
	skippedCount int
}

// unsupported are the types of entries that are not copied: they mean something only
// inside the container.
var unsupported = map[byte]string{tar.TypeFifo: "a named pipe", tar.TypeChar: "a device", tar.TypeBlock: "a device"}

// maxSkipped is the number of skipped entries that the error names.
const maxSkipped = 5

// skip records an entry that isn't copied.
func (u *unpacker) skip(name, what string) {
	if u.skippedCount++; u.skippedCount <= maxSkipped {
		u.skipped = append(u.skipped, fmt.Sprintf("%s is %s", name, what))
	}
}

// dirMode is the mode of a directory. It is set after the directory's entries are
// written, because it may forbid writing.
type dirMode struct {
	name string
	mode fs.FileMode
}

// writeEntry writes one entry.
func (u *unpacker) writeEntry(h *tar.Header, r io.Reader, name string) error {
	mode := h.FileInfo().Mode().Perm()
	if h.Typeflag == tar.TypeDir {
		if err := u.root.MkdirAll(name, 0o700); err != nil {
			return err
		}
		if name != "." {
			u.dirs = append(u.dirs, dirMode{name, mode})
		}
		return nil
	}
	if what := unsupported[h.Typeflag]; what != "" {
		u.skip(path.Clean(h.Name), what)
		return nil
	}
	// Replace an existing file instead of writing through it: it may be a link.
	if info, err := u.root.Lstat(name); err == nil {
		if info.IsDir() {
			return fmt.Errorf("%s is a directory: a file can't replace it", name)
		}
		if h.Typeflag != tar.TypeReg || !info.Mode().IsRegular() {
			if err := u.root.Remove(name); err != nil {
				return err
			}
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.writeFile(name, mode, h, r)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return u.root.Link(h.Linkname, name)
	}
	u.skip(path.Clean(h.Name), fmt.Sprintf("an entry of type %q", h.Typeflag))
	return nil
}

// writeFile writes the content, mode and time of a file.
func (u *unpacker) writeFile(name string, mode fs.FileMode, h *tar.Header, r io.Reader) error {
	file, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	if err == nil {
		err = file.Chmod(mode)
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

// finish sets the modes of directories, innermost first, and returns an error that
// names the skipped entries.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.root.Chmod(u.dirs[i].name, u.dirs[i].mode|0o700); err != nil {
			return err
		}
	}
	switch {
	case u.skippedCount == 0:
		return nil
	case u.skippedCount > len(u.skipped):
		u.skipped = append(u.skipped, fmt.Sprintf("and %d more", u.skippedCount-len(u.skipped)))
	}
	return fmt.Errorf("not copied: %s; only files, directories and links can be copied", strings.Join(u.skipped, ", "))
}
