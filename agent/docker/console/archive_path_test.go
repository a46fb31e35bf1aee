package console

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/dockertest"
)

// testTree returns a container with tmpfs at /scratch and /var/tmp/deep, the volumes
// /data and /scratch/kept, and some links. Its directories are those of the image: a
// path that is not named doesn't exist.
func testTree(t *testing.T) *tree {
	links := map[string]string{
		"/l": "/scratch", "/m": "/scratch/a/b", "/etc/sys": "/sys", "/data/up": "/proc/1", "/safe": "/tmp", "/shm": "/dev/shm",
	}
	dirs := map[string]bool{"/": true, "/tmp": true, "/etc": true, "/data": true, "/var": true, "/var/tmp": true, "/scratch": true,
		"/dev": true}
	return &tree{
		mounts: []mountPoint{
			{path: "/scratch", what: "memory"}, {path: "/var/tmp/deep", what: "memory"}, {path: "/data"}, {path: "/scratch/kept"},
			{path: "/dev", what: unseen["/dev"]}, {path: "/proc", what: unseen["/proc"]}, {path: "/sys", what: unseen["/sys"]},
		},
		known: make(map[string]entry), placed: make(map[string]entry),
		stat: func(at string) (container.PathStat, error) {
			if path.Clean(at) != at {
				t.Errorf("the engine is asked for %s", at)
			}
			if to, ok := links[at]; ok {
				return container.PathStat{Mode: fs.ModeSymlink, LinkTarget: to}, nil
			}
			if dirs[at] {
				return container.PathStat{Mode: fs.ModeDir}, nil
			}
			if at == "/etc/passwd" {
				return container.PathStat{}, nil
			}
			if strings.HasPrefix(at, "/etc/passwd/") {
				t.Errorf("the engine is asked for %s, which it has no answer to", at)
			}
			return container.PathStat{}, errdefs.ErrNotFound
		},
	}
}

func isRefused(t *testing.T, what string, err error, want bool) {
	t.Helper()
	if got := errors.Is(err, backend.ErrInvalid); got != want || err != nil && !got {
		t.Errorf("%s: %v; want refused: %v", what, err, want)
	}
}

func TestCopiesOutOfWhatTheEngineDoesNotSee(t *testing.T) {
	for p, want := range map[string]bool{
		"/scratch": true, "/scratch/": true, "/scratch/.": true, "/scratch/x": true, "/scratch/x/y": true,
		"/scratch/../scratch/x": true, "//scratch": true,
		"/tmp/../scratch": true, "/l/x": true, "/l/": true, "/l/.": true,
		"/m/x": true, "/etc/sys/class": true, "/data/up/status": true, "/shm/x": true,
		"/dev/null": true, "/dev/shm/x": true, "/proc/1/status": true, "/sys": true, "/safe/../dev/x": true,
		// A copy of a directory above a mount would lack the mount's content.
		"/": true, "/.": true, "/var": true, "/var/tmp": true, "/safe/../var/": true,
		"/l": false, "/etc/sys": false, // the links themselves
		"/etc/passwd": false, "/etc/passwd/x/y": false, // the engine says in its own words that it is no directory
		"/tmp": false, "/tmp/x": false, "/scratchy": false, "/etc": false, "/data": false, "/data/x": false, "/safe/x": false,
		"/scratch/kept": false, "/scratch/kept/x": false, "/var/tmp/other": false,
		"/none/x": false, "/devices": false, "/scratch/../tmp": false,
	} {
		isRefused(t, p, testTree(t).readable(p), want)
	}
}

func TestCopiesIntoWhatTheEngineDoesNotSee(t *testing.T) {
	for _, c := range []struct {
		to   string
		in   []string
		want bool
	}{
		{"/scratch", nil, true}, {"/scratch/", []string{"x"}, true}, {"/l", []string{"x"}, true}, {"/m", []string{"x"}, true},
		{"/dev/shm", []string{"x"}, true}, {"/proc", []string{"x"}, true}, {"/data/up", []string{"x"}, true}, {"/tmp/../sys", []string{"x"},
			true},
		{"/", []string{"scratch/x"}, true}, {"/", []string{"dev/shm/x"}, true}, {"/", []string{"./proc/x"}, true}, {"/",
			[]string{"scratch/sub/"}, true},
		{"/", []string{"l/x"}, true}, {"/var", []string{"tmp/deep/x"}, true}, {"/etc", []string{"sys/x"}, true}, {"/safe/..",
			[]string{"dev/x"}, true},
		{"/", []string{"safe/", "safe/x", "scratch/"}, false}, // an empty directory is there already
		{"/", []string{"dev/", "proc/", "sys/", "etc/", "etc/passwd"}, false},
		{"/", []string{"x", "tmp/x", "l"}, false}, // the last one replaces a link
		{"/", []string{"l", "l/x"}, false},        // which the engine refuses in its own words
		{"/", []string{"scratch/kept/x", "data/x", "var/tmp/other/x"}, false},
		{"/tmp", []string{"dev/x", "scratch/x", "../scratch"}, true},
		{"/tmp", []string{"dev/x", "scratch/x"}, false},
		// These links are in the archive itself.
		{"/tmp", []string{"a->/scratch", "a/x"}, true}, {"/tmp", []string{"a->../scratch/b", "a/x"}, true}, {"/tmp",
			[]string{"new/", "new/a->/dev", "new/a/shm/x"}, true},
		{"/tmp", []string{"a->b", "b->/l", "a/x"}, true}, {"/tmp", []string{"a->a", "a/x"}, true}, {"/tmp", []string{"a->/scratch"},
			false}, {"/tmp", []string{"a->/etc", "a/x"}, false},
		{"/", []string{"l/"}, false}, {"/", []string{"l/", "l/x"}, true}, // a directory of an archive keeps a link to one
	} {
		isRefused(t, c.to+" "+strings.Join(c.in, " "), testTree(t).writable(c.to, dockertest.Archive(c.in...)), c.want)
	}
	isRefused(t, "garbage", testTree(t).writable("/tmp", strings.NewReader(strings.Repeat("garbage", 200))), true)
}

// TestCompressedArchives: the engine unpacks compressed archives, so they are checked, too.
func TestCompressedArchives(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := dockertest.Archive("scratch/x").WriteTo(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := spool(&packed)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tarred, err := plain(file)
	if err != nil {
		t.Fatal(err)
	}
	isRefused(t, "a compressed archive", testTree(t).writable("/", tarred), true)
}
