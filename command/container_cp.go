package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func containerCpCommand() *command {
	return &command{
		name: "container-cp", group: groupContainers, args: "CONTAINER:PATH LOCAL | LOCAL CONTAINER:PATH",
		synopsis: "Copy files and directories from a container or to it",
		about: "As with docker, a directory is copied with its content. If the target is an existing directory, the\n" +
			"source is copied into it; otherwise the source becomes the target. A source that ends with \"/.\" means\n" +
			"the content of the directory. Symbolic links are copied as links. PATH is relative to the container's\n" +
			"root. LOCAL can be \"-\" for a tar stream on standard input or output; a stream from standard input is\n" +
			"unpacked in the directory PATH. Write a local path that contains a colon as ./a:b.\n\n" +
			"Files in the container belong to root, local files to you. The container need not run. The limit of\n" +
			"one copy is 64 MiB as a tar archive: copy more in parts, or use a volume.",
		examples: []string{
			"magnum container-cp web1:/etc/nginx/nginx.conf .",
			"magnum container-cp ./html/. web1:/usr/share/nginx/html",
			"magnum container-cp db1:/var/backup - | tar -tv",
		},
		setup: func(e *env, f *flagSet) runFunc {
			return copySetup(e, f, "CONTAINER", func(client *api.Client, ident string) archiver {
				return containerArchives{client.Containers(), ident}
			})
		},
	}
}

// archiver copies from a container and to it, as tar streams.
type archiver interface {
	read(ctx context.Context, path string) (io.ReadCloser, error)
	write(ctx context.Context, path string, archive io.Reader) error
	exists(ctx context.Context) error // CodeNotFound if there is no such container
}

// containerArchives is the archiver of a container that isn't of a pod.
type containerArchives struct {
	containers api.Containers
	ident      string
}

func (c containerArchives) read(ctx context.Context, path string) (io.ReadCloser, error) {
	return c.containers.ReadArchive(ctx, c.ident, path)
}

func (c containerArchives) write(ctx context.Context, path string, archive io.Reader) error {
	_, err := c.containers.WriteArchive(ctx, c.ident, path, archive)
	return err
}

func (c containerArchives) exists(ctx context.Context) error {
	_, _, err := c.containers.Get(ctx, c.ident, api.QueryOptions{})
	return err
}

// copySetup is the setup of a command that copies files. what names the object in its
// arguments, for which of returns the archiver.
func copySetup(e *env, f *flagSet, what string, of func(client *api.Client, ident string) archiver) runFunc {
	var conn connection
	conn.flags(f)
	return func(ctx context.Context, args []string) error {
		if err := exactly(args, "SOURCE", "TARGET"); err != nil {
			return err
		}
		from, out := parseContainerPath(args[0])
		to, in := parseContainerPath(args[1])
		switch {
		case in && out:
			return usagef("both %q and %q are in containers: copy to a local path first", args[0], args[1])
		case !in && !out:
			return usagef("neither %q nor %q is in a container: write %s:PATH", args[0], args[1], what)
		}
		client, err := conn.client(e)
		if err != nil {
			return err
		}
		if out {
			return e.copyOut(ctx, of(client, from.ident), from.path, args[1])
		}
		return e.copyIn(ctx, of(client, to.ident), args[0], to.path)
	}
}

// containerPath is a path in a container.
type containerPath struct {
	ident string
	path  string // absolute and clean, except that a final / or /. is kept
}

// parseContainerPath reads CONTAINER:PATH; ok is false for a local path.
func parseContainerPath(s string) (p containerPath, ok bool) {
	ident, at, found := strings.Cut(s, ":")
	if !found || ident == "" || strings.HasPrefix(s, ".") || strings.Contains(ident, "/") {
		return containerPath{}, false
	}
	return containerPath{ident: ident, path: cleanKeepingEnd("/" + at)}, true
}

// cleanKeepingEnd is path.Clean, but keeps a final / or /.
func cleanKeepingEnd(p string) string {
	clean := path.Clean(p)
	switch {
	case clean == "/":
		if strings.HasSuffix(p, "/.") {
			return "/."
		}
	case strings.HasSuffix(p, "/."):
		return clean + "/."
	case strings.HasSuffix(p, "/"):
		return clean + "/"
	}
	return clean
}

// contentOnly reports whether a source means the content of a directory, not the
// directory itself.
func contentOnly(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// copyOut copies from a container to a local path.
func (e *env) copyOut(ctx context.Context, from archiver, at, local string) error {
	archive, err := from.read(ctx, path.Clean(at))
	if err != nil {
		return err
	}
	defer archive.Close()
	if local != "-" {
		return unpack(archive, local, contentOnly(at))
	}
	if _, ok := terminalOf(e.stdout); ok {
		return usagef("standard output is a terminal: redirect the tar stream to a file or a program")
	}
	if _, err := io.Copy(e.stdout, archive); err != nil {
		return fmt.Errorf("copying the archive: %w", err)
	}
	return nil
}

// copyIn copies a local path to a container.
func (e *env) copyIn(ctx context.Context, to archiver, local, at string) error {
	target := path.Clean(at)
	if local == "-" {
		if _, ok := terminalOf(e.stdin); ok {
			return usagef("standard input is a terminal: redirect a tar stream to it")
		}
		return to.write(ctx, target, e.stdin)
	}
	src, err := openSource(local)
	if err != nil {
		return err
	}
	// Only the error of a write tells what the target is. First assume that the
	// target is an existing directory.
	root := src.name
	if contentOnly(local) {
		root = "."
	}
	err = sendArchive(ctx, to, target, src, root)
	missing := structs.CodeOf(err) == structs.CodeNotFound
	file := structs.CodeOf(err) == structs.CodeInvalid && structs.KindOf(err) == structs.KindPath
	switch {
	case !missing && !file || target == "/":
		return err
	case src.dir && file:
		return fmt.Errorf("%s is a directory, but %s in the container is not: choose another target", local, target)
	case !src.dir && strings.HasSuffix(at, "/"), !src.dir && contentOnly(at):
		return fmt.Errorf("%s is no directory in the container: create it, or omit the final /", target)
	}
	// The source becomes the target, below the target's parent.
	if missing {
		if err := to.exists(ctx); err != nil {
			return err
		}
	}
	if err := sendArchive(ctx, to, path.Dir(target), src, path.Base(target)); err != nil {
		if structs.CodeOf(err) == structs.CodeNotFound {
			return fmt.Errorf("directory %s does not exist in the container: create it first", path.Dir(target))
		}
		return err
	}
	return nil
}

// sendArchive packs a source under the name root and sends it.
func sendArchive(ctx context.Context, to archiver, target string, src source, root string) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := src.pack(w, root)
		w.CloseWithError(err)
		packed <- err
	}()
	err := to.write(ctx, target, r)
	r.Close() // ends the packing if the server did not read to the end
	if failed := <-packed; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return failed
	}
	return err
}
