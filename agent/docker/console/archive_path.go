package console

import (
	"archive/tar"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// The engine copies from and to a container's file system on the host's disk, with only the
// container's volumes mounted. It does not see what is mounted only inside the running
// container. A copy out would find nothing there, and a copy in would land under the mount,
// where nobody sees it. Such copies are refused.

// unseen are the mounts that every container has.
var unseen = map[string]string{
	"/dev":  "the container's devices and shared memory",
	"/proc": "the kernel's processes",
	"/sys":  "the kernel's devices",
}

// mountPoint is a mount in a container.
type mountPoint struct {
	path string // absolute and clean, without links
	// what describes a mount that only the running container sees; "" if the engine mounts
	// it for copies, too.
	what string
}

// tree is the file system of one container as the engine's copies see it, with the entries
// of an archive that is to be unpacked.
type tree struct {
	// stat is the engine's. Of a link it returns the link itself, with its final target.
	stat   func(at string) (container.PathStat, error)
	mounts []mountPoint
	known  map[string]entry
	placed map[string]entry // by the archive
}

// entry is what exists at a path: nothing, a link, or anything else.
type entry struct {
	missing bool
	file    bool   // nothing can exist below it
	link    string // its target: absolute, or relative to the link's directory
}

// tree reads the mounts of a container.
func (cs *Consoles) tree(ctx context.Context, engineID string) (*tree, error) {
	raw, err := cs.engine.Inspect(ctx, engineID)
	if err != nil {
		return nil, err
	}
	t := &tree{known: make(map[string]entry), placed: make(map[string]entry)}
	t.stat = func(at string) (s container.PathStat, err error) {
		callCtx, cancel := context.WithTimeout(ctx, engine.ReadTimeout)
		defer cancel()
		return cs.engine.Client.ContainerStatPath(callCtx, engineID, at)
	}
	memory := make(map[string]bool)
	for at := range raw.HostConfig.Tmpfs {
		memory[at] = true
	}
	for _, m := range raw.HostConfig.Mounts {
		if m.Type == mount.TypeTmpfs {
			memory[m.Target] = true
		}
	}
	for _, m := range raw.Mounts {
		if m.Type == mount.TypeTmpfs {
			memory[m.Destination] = true
		} else {
			t.mounts = append(t.mounts, mountPoint{path: path.Clean(m.Destination)})
		}
	}
	for at, what := range unseen {
		t.mounts = append(t.mounts, mountPoint{path: at, what: what})
	}
	for at := range memory {
		// A mount follows the image's links.
		resolved, err := t.resolve(at, true)
		if err != nil {
			return nil, err
		}
		t.mounts = append(t.mounts, mountPoint{path: resolved, what: "memory of the container (tmpfs)"})
	}
	return t, nil
}

// at returns the mount that contains a path without links; nil if that is the container's
// own file system.
func (t *tree) at(p string) *mountPoint {
	var in *mountPoint
	for i := range t.mounts {
		m := &t.mounts[i]
		// If two mounts have the same path, the container has the volume.
		if within(p, m.path) && (in == nil || len(m.path) > len(in.path) || len(m.path) == len(in.path) && m.what == "") {
			in = m
		}
	}
	return in
}

// below returns the first mount below a path without links that only the running container
// sees; nil if there is none.
func (t *tree) below(p string) *mountPoint {
	var all []*mountPoint
	for i := range t.mounts {
		if m := &t.mounts[i]; m.what != "" && m.path != p && within(m.path, p) && t.at(m.path) == m {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, func(a, b *mountPoint) int { return strings.Compare(a.path, b.path) })
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// maxLinks is the most links that one path may lead through.
const maxLinks = 255

// resolve returns the path without links to which the engine resolves a path. Like the
// engine, it resolves .. before links. last says whether a link at the very end is
// followed.
func (t *tree) resolve(p string, last bool) (string, error) {
	rest := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	cur, links := "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			cur = path.Dir(cur)
			continue
		}
		next := path.Join(cur, name)
		e, err := t.look(next)
		if err != nil {
			return "", err
		}
		if e.link == "" || len(rest) == 0 && !last {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", &backend.Failure{Reason: backend.ErrInvalid, Msg: fmt.Sprintf("path %s leads through too many links", p)}
		}
		if path.IsAbs(e.link) {
			cur = "/"
		}
		rest = append(strings.Split(strings.Trim(e.link, "/"), "/"), rest...)
	}
	return cur, nil
}

// look returns what exists at a path whose directory contains no links.
func (t *tree) look(p string) (entry, error) {
	if e, ok := t.placed[p]; ok {
		return e, nil
	}
	if e, ok := t.known[p]; ok {
		return e, nil
	}
	e := entry{}
	dir := path.Dir(p)
	switch m := t.at(p); {
	case m != nil && m.what != "", dir != p && (t.known[dir].missing || t.known[dir].file):
		e.missing = true // the engine can't see what is there, or nothing can be
	default:
		s, err := t.stat(p)
		switch {
		case errdefs.IsNotFound(err):
			e.missing = true
		case err != nil:
			return e, engine.Failure(err)
		case s.Mode&fs.ModeSymlink != 0:
			e.link = s.LinkTarget
		default:
			e.file = !s.Mode.IsDir()
		}
	}
	t.known[p] = e
	return e, nil
}

// refused returns the refusal of a copy.
func refused(m *mountPoint, format string, args ...any) error {
	return &backend.Failure{Reason: backend.ErrInvalid, Msg: fmt.Sprintf(format, args...) + fmt.Sprintf(
		" %s, which is %s: only its processes see it, and copies don't reach it. Execute a command in it instead, such as tar",
		m.path, m.what)}
}

// readable refuses to copy out what the engine doesn't see.
func (t *tree) readable(p string) error {
	at, err := t.resolve(p, strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/."))
	if err != nil {
		return err
	}
	if m := t.at(at); m != nil && m.what != "" {
		return refused(m, "path %s is in", p)
	}
	if m := t.below(at); m != nil {
		return refused(m, "path %s has below it", p)
	}
	return nil
}

// writable refuses to copy in what would land where nobody sees it. It reads the archive to
// its end.
func (t *tree) writable(p string, archive io.Reader) error {
	dir, err := t.resolve(p, true)
	if err != nil {
		return err
	}
	if m := t.at(dir); m != nil && m.what != "" {
		return refused(m, "path %s is in", p)
	}
	for in := tar.NewReader(archive); ; {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &backend.Failure{Reason: backend.ErrInvalid, Msg: "what was sent is not a tar archive, or is damaged: " + err.Error()}
		}
		// The engine refuses names that lead out of the directory.
		at, err := t.resolve(path.Join(dir, path.Dir(path.Clean(h.Name))), true)
		if err != nil {
			return err
		}
		at = path.Join(at, path.Base(path.Clean("/"+h.Name)))
		if m := t.at(at); m != nil && m.what != "" && !(at == m.path && h.Typeflag == tar.TypeDir) {
			return refused(m, "%s of the archive would be in", short(h.Name))
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			t.placed[at] = entry{link: h.Linkname}
		case tar.TypeDir:
			// An existing directory, or a link to one, is kept.
			if e, err := t.look(at); err != nil {
				return err
			} else if e.link == "" {
				t.placed[at] = entry{}
			}
		default:
			t.placed[at] = entry{}
		}
	}
}

// short shortens a name of an archive for a message.
func short(name string) string {
	const most = 200
	if len(name) > most {
		name = name[:most] + "..."
	}
	return fmt.Sprintf("%q", name)
}

// spool writes an archive to an unnamed file, so that it can be read twice. The archive may
// be compressed, as the engine unpacks those, too. The caller closes the file. Errors of r
// are returned as they are.
func spool(r io.Reader) (*os.File, error) {
	file, err := os.CreateTemp("", "magnum-archive-")
	if err != nil {
		return nil, noRoom(err)
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, noRoom(err)
	}
	from := &engine.Noted{R: r}
	_, err = io.Copy(file, from)
	if failed := from.Failed(); failed != nil {
		err = failed
	} else if err != nil {
		err = noRoom(err)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func noRoom(err error) error {
	cause := err
	if at := new(fs.PathError); errors.As(err, &at) {
		cause = at.Err // users aren't told where the host keeps it
	}
	return &backend.Failure{Reason: backend.ErrNoSpace, Msg: "the host can't keep the archive on its way: " + cause.Error(), Err: err}
}

// plain returns the tar stream of an archive, which may be compressed.
func plain(archive *os.File) (io.Reader, error) {
	var magic [3]byte
	n, err := archive.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, noRoom(err)
	}
	var tarred io.Reader = archive
	switch head := string(magic[:n]); {
	case strings.HasPrefix(head, "\x1f\x8b"):
		if tarred, err = gzip.NewReader(archive); err != nil {
			return nil, &backend.Failure{Reason: backend.ErrInvalid, Msg: "what was sent is not a tar archive: " + err.Error()}
		}
	case head == "BZh":
		tarred = bzip2.NewReader(archive)
	default:
		return archive, nil
	}
	return io.LimitReader(tarred, structs.MaxArchive), nil
}
