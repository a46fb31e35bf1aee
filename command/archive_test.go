package command

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree creates files below a directory: "name=text" is a file, "name/" a directory and
// "name>target" a symbolic link.
func tree(t testing.TB, dir string, files ...string) string {
	t.Helper()
	for _, f := range files {
		name, text, isFile := strings.Cut(f, "=")
		link, target, isLink := strings.Cut(f, ">")
		var err error
		switch {
		case isFile:
			os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640)
		case isLink:
			err = os.Symlink(target, filepath.Join(dir, link))
		default:
			err = os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// listing returns the files below a directory in the form of tree.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, at)
		switch {
		case err != nil || name == ".":
		case d.IsDir():
			all = append(all, name+"/")
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(at)
			all = append(all, name+">"+target)
		default:
			text, _ := os.ReadFile(at)
			all = append(all, name+"="+string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// archive returns a tar archive of headers; the content of a regular file is its name.
func archive(t testing.TB, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		h.Mode = 0o755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	w.Close()
	return &b
}

func TestUnpackTargets(t *testing.T) {
	dir := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "src/"}, {Typeflag: tar.TypeReg, Name: "src/a"}, {Typeflag: tar.TypeDir, Name: "src/sub/"},
		{Typeflag: tar.TypeSymlink, Name: "src/sub/l", Linkname: "../a"}, {Typeflag: tar.TypeLink, Name: "src/h", Linkname: "src/a"},
	}
	file := []tar.Header{{Typeflag: tar.TypeReg, Name: "f"}}
	for name, tt := range map[string]struct {
		in      []tar.Header
		have    string // in the target's directory
		local   string
		content bool
		want    string // listing afterwards, or
		fails   string // part of the error
	}{
		"dir into one":      {dir, "d/", "d", false, "d/ d/src/ d/src/a=src/a d/src/h=src/a d/src/sub/ d/src/sub/l>../a", ""},
		"dir becomes":       {dir, "x=", "n", false, "n/ n/a=src/a n/h=src/a n/sub/ n/sub/l>../a x=", ""},
		"content into one":  {dir, "d/", "d", true, "d/ d/a=src/a d/h=src/a d/sub/ d/sub/l>../a", ""},
		"content becomes":   {dir, "x=", "n/", true, "n/ n/a=src/a n/h=src/a n/sub/ n/sub/l>../a x=", ""},
		"dir over file":     {dir, "f=", "f", false, "", "is a file"},
		"dir below nothing": {dir, "x=", "no/n", false, "", "no such file"},
		"file into a dir":   {file, "d/", "d", false, "d/ d/f=f", ""},
		"file becomes":      {file, "x=", "n", false, "n=f x=", ""},
		"file over file":    {file, "n=long text", "n", false, "n=f", ""},
		"file over a link":  {file, "n>x", "d/", false, "", "does not exist"},
		"file over a dir":   {file, "d/f/", "d", false, "", "is a directory"},
		"content of a file": {file, "d/", "d", true, "", "is no directory"},
		"the root": {[]tar.Header{{Typeflag: tar.TypeDir, Name: "/"}, {Typeflag: tar.TypeReg, Name: "/a"}}, "d/", "d", false,
			"d/ d/a=/a", ""},
		"beside its name": {[]tar.Header{dir[0], {Typeflag: tar.TypeReg, Name: "other"}}, "d/", "d", false, "", "not below"},
		"beside, alike":   {[]tar.Header{dir[0], {Typeflag: tar.TypeReg, Name: "srcx"}}, "d/", "d", false, "", "not below"},
		"out of it": {[]tar.Header{{Typeflag: tar.TypeDir, Name: "./"}, {Typeflag: tar.TypeReg, Name: "../evil"}}, "d/", "d",
			true, "", "escapes"},
		"through a link": {[]tar.Header{dir[0], {Typeflag: tar.TypeSymlink, Name: "src/l", Linkname: ".."},
			{Typeflag: tar.TypeReg, Name: "src/l/../../evil"}}, "d/", "d", false, "", "not below"},
		"through a link outside": {[]tar.Header{dir[0], {Typeflag: tar.TypeSymlink, Name: "src/l", Linkname: "../../.."},
			{Typeflag: tar.TypeReg, Name: "src/l/evil"}}, "d/", "d", false, "", "escapes"},
		"a pipe": {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}, "d/", "d", false, "",
			"not copied: p is a named pipe"},
		"a device": {[]tar.Header{{Typeflag: tar.TypeChar, Name: "null"}}, "x=", "x", false, "",
			"not copied: null is a device"},
		"nothing": {nil, "d/", "d", false, "", "reading the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			at := tree(t, filepath.Join(t.TempDir(), "t"), "")
			tree(t, at, tt.have)
			err := unpack(archive(t, tt.in...), at+"/"+tt.local, tt.content)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want %q; there is %s", err, tt.fails, listing(t, at))
				}
				return
			}
			if got := listing(t, at); err != nil || got != tt.want {
				t.Errorf("%v, there is\n%s\nwant\n%s", err, got, tt.want)
			}
		})
	}
	if err := unpack(bytes.NewReader(archive(t, dir...).Bytes()[:600]), t.TempDir(), false); err == nil {
		t.Error("a truncated archive was accepted")
	}
}

// The error names what can't be copied; all other entries are unpacked.
func TestUnpackNamesEntriesThatAreNotCopied(t *testing.T) {
	at := tree(t, filepath.Join(t.TempDir(), "t"), "")
	tree(t, at, "d/")
	tree(t, at, "d/pipe=kept")
	in := []tar.Header{{Typeflag: tar.TypeDir, Name: "src/"}, {Typeflag: tar.TypeReg, Name: "src/a"},
		{Typeflag: tar.TypeFifo, Name: "src/pipe"}}
	for range 7 {
		in = append(in, tar.Header{Typeflag: tar.TypeBlock, Name: "src/disk"})
	}
	in = append(in, tar.Header{Typeflag: tar.TypeReg, Name: "src/z"})
	err := unpack(archive(t, in...), at+"/d", true)
	if err == nil || !strings.Contains(err.Error(), "src/pipe is a named pipe, src/disk is a device") ||
		!strings.Contains(err.Error(), "and 3 more") {
		t.Errorf("got %v", err)
	}
	if got, want := listing(t, at), "d/ d/a=src/a d/pipe=kept d/z=src/z"; got != want {
		t.Errorf("there is %s, want %s", got, want)
	}
}

// FuzzUnpack checks that no stream writes outside of the target.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/b"}).Bytes(), false)
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeReg, Name: "../a"}).Bytes(), true)
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/"},
		tar.Header{Typeflag: tar.TypeReg, Name: "a/b"}).Bytes(), false)
	f.Fuzz(func(t *testing.T, stream []byte, content bool) {
		at := t.TempDir()
		tree(t, at, "d/")
		_ = unpack(bytes.NewReader(stream), at+"/d", content)
		names, err := os.ReadDir(at)
		if err != nil || len(names) != 1 {
			t.Errorf("beside the target there is %v, %v", names, err)
		}
	})
}

func TestParseContainerPath(t *testing.T) {
	for s, want := range map[string]string{
		"c:/a": "c /a", "c:a": "c /a", "c:": "c /", "c:/a/": "c /a/", "c:/a/.": "c /a/.", "c:.": "c /.", "c:/a/../b": "c /b",
		"c:/..": "c /", "c:a:b": "c /a:b",
		"./c:a": "", "/c:a": "", "a": "", "-": "", ":a": "", "a/b:c": "", "..:a": "",
	} {
		p, ok := parseContainerPath(s)
		if got := strings.TrimSpace(p.ident + " " + p.path); ok != (want != "") || got != want {
			t.Errorf("%s: %q, %v, want %q", s, got, ok, want)
		}
	}
}

// containerDisk handles copies to container c1 as a server does. root stands for the
// container's root directory.
func containerDisk(t testing.TB, f *fakeAPI, root string) {
	f.answer("GET /v1/containers/c1", 200, containerJSON("Running"))
	f.handle("PUT /v1/containers/c1/archive", func(w http.ResponseWriter, r *http.Request) {
		at := filepath.Join(root, r.FormValue("path"))
		switch info, err := os.Stat(at); {
		case err != nil:
			w.WriteHeader(404)
			io.WriteString(w, `{"errors":[{"code":"path.not_found","detail":"path does not exist in the container"}]}`)
			return
		case !info.IsDir():
			w.WriteHeader(400)
			io.WriteString(w, `{"errors":[{"code":"path.invalid","detail":"extraction point is none"}]}`)
			return
		}
		for tr := tar.NewReader(r.Body); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			if h.Uid != 0 || h.Uname != "" {
				t.Errorf("%s belongs to %d %q", h.Name, h.Uid, h.Uname)
			}
			name := filepath.Join(at, h.Name)
			switch h.Typeflag {
			case tar.TypeDir:
				os.MkdirAll(name, 0o755)
			case tar.TypeSymlink:
				os.Symlink(h.Linkname, name)
			default:
				text, _ := io.ReadAll(tr)
				os.WriteFile(name, text, 0o644)
			}
		}
		io.WriteString(w, "null")
	})
}

func TestContainerCpToContainer(t *testing.T) {
	for name, tt := range map[string]struct {
		have, from, to, want, fails string
	}{
		"dir into one":     {"d/", "src", "c1:/d", "d/ d/src/ d/src/a=1 d/src/sub/ d/src/sub/l>../a", ""},
		"dir becomes":      {"d/", "src", "c1:/n", "d/ n/ n/a=1 n/sub/ n/sub/l>../a", ""},
		"content into one": {"d/", "src/.", "c1:d", "d/ d/a=1 d/sub/ d/sub/l>../a", ""},
		"content becomes":  {"d/", "src/.", "c1:/n/", "d/ n/ n/a=1 n/sub/ n/sub/l>../a", ""},
		"dir over file":    {"f=", "src", "c1:/f", "", "is a directory, but /f in the container is not"},
		"dir into nothing": {"d/", "src", "c1:/no/n", "", "directory /no does not exist in the container"},
		"file into a dir":  {"d/", "src/a", "c1:/d", "d/ d/a=1", ""},
		"file into root":   {"d/", "src/a", "c1:", "a=1 d/", ""},
		"file becomes":     {"d/", "src/a", "c1:/d/n", "d/ d/n=1", ""},
		"file over file":   {"f=old", "src/a", "c1:/f", "f=1", ""},
		"file into none":   {"d/", "src/a", "c1:/n/", "", "/n is no directory in the container"},
		"no source":        {"d/", "none", "c1:/d", "", "no such file"},
		"no container":     {"d/", "src", "c2:/d", "", "Container c2 could not be found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(tree(t, t.TempDir(), "src/a=1", "src/sub/", "src/sub/l>../a"))
			root := t.TempDir()
			tree(t, root, tt.have)
			f := newFakeAPI(t)
			containerDisk(t, f, root)
			r := newShell(t, f).run("container-cp", tt.from, tt.to)
			if tt.fails != "" {
				if r.code != 1 || !strings.Contains(r.stderr, tt.fails) {
					t.Errorf("%+v, want %q", r, tt.fails)
				}
				return
			}
			if got := listing(t, root); r.code != 0 || got != tt.want {
				t.Errorf("%+v, there is\n%s\nwant\n%s", r, got, tt.want)
			}
		})
	}
}

func TestContainerCpStreams(t *testing.T) {
	f := newFakeAPI(t)
	var got []byte
	f.handle("PUT /v1/containers/c1/archive", func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		io.WriteString(w, "null")
	})
	f.handle("GET /v1/containers/c1/archive", func(w http.ResponseWriter, r *http.Request) {
		w.Write(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a"}).Bytes())
	})
	s := newShell(t, f)
	s.stdin = strings.NewReader("a tar")
	if r := s.run("container-cp", "-", "c1:/d/"); r.code != 0 || string(got) != "a tar" {
		t.Errorf("in: %+v, %q", r, got)
	}
	r := s.run("container-cp", "c1:/d/a/.", "-")
	if h, err := tar.NewReader(strings.NewReader(r.stdout)).Next(); err != nil || h.Name != "a" {
		t.Errorf("out: %+v, %v", r, err)
	}
	to := filepath.Join(t.TempDir(), "b")
	if r := s.run("container-cp", "c1:/d/a", to); r.code != 0 || r.stdout != "" {
		t.Errorf("out: %+v", r)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "a" {
		t.Errorf("%q, %v", text, err)
	}
	if asked := f.requests(); !slices.ContainsFunc(asked,
		func(a string) bool { return strings.HasPrefix(a, "PUT /v1/containers/c1/archive?path=%2Fd ") }) ||
		!slices.Contains(asked, "GET /v1/containers/c1/archive?path=%2Fd%2Fa") {
		t.Errorf("asked %q", asked)
	}
	for line, want := range map[string]string{
		"container-cp":           "SOURCE and TARGET is missing",
		"container-cp a b":       "neither",
		"container-cp c:/a d:/b": "copy to a local path first",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	big, err := os.Create(filepath.Join(t.TempDir(), "big"))
	if err != nil {
		t.Fatal(err)
	}
	big.Truncate(64 << 20) // the tar header exceeds the limit
	big.Close()
	if r := s.run("container-cp", big.Name(), "c1:/d"); r.code != 1 || !strings.Contains(r.stderr, "more than 64 MiB") {
		t.Errorf("too much: %+v", r)
	}
}
