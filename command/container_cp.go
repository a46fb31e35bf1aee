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
		synopsis: "Copy files and directories out of a container or into it",
		about: "As with docker: a directory is copied with all that is in it. If the target is a directory that\n" +
			"exists, the source is put into it, else it becomes the target; with \"/.\" at its end only what is in\n" +
			"the source directory is copied. Symbolic links are copied as such. PATH begins at the container's\n" +
			"root. LOCAL is \"-\" for a tar stream on standard input or output; one that goes in is unpacked in\n" +
			"the directory PATH. A local path with a colon is written as ./a:b.\n\n" +
			"What goes in belongs to root there; what comes out is yours. The container need not run. At most\n" +
			"64 MiB go at a time, as tar counts them: for more copy it in parts, or use a volume.",
		examples: []string{
			"magnum container-cp web1:/etc/nginx/nginx.conf .",
			"magnum container-cp ./html/. web1:/usr/share/nginx/html",
			"magnum container-cp db1:/var/backup - | tar -tv",
		},
		setup: func(e *env, f *flagSet) runFunc {
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
					return usagef("neither %q nor %q is in a container: write CONTAINER:PATH", args[0], args[1])
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				if out {
					return e.copyOut(ctx, client, from, args[1])
				}
				return e.copyIn(ctx, client, args[0], to)
			}
		},
	}
}

// containerPath is a path in a container.
type containerPath struct {
	ident string
	path  string // absolute and clean, but for a / or /. at its end as it was given
}

// parseContainerPath reads CONTAINER:PATH; ok is false for a local path.
func parseContainerPath(s string) (p containerPath, ok bool) {
	ident, at, found := strings.Cut(s, ":")
	if !found || ident == "" || strings.HasPrefix(s, ".") || strings.Contains(ident, "/") {
		return containerPath{}, false
	}
	return containerPath{ident: ident, path: cleanKeepingEnd("/" + at)}, true
}

// cleanKeepingEnd is path.Clean that leaves / and /. at the end.
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

// contentOnly reports whether a source means what is in the directory, not
// the directory itself.
func contentOnly(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// copyOut copies from a container.
func (e *env) copyOut(ctx context.Context, client *api.Client, from containerPath, local string) error {
	archive, err := client.Containers().ReadArchive(ctx, from.ident, path.Clean(from.path))
	if err != nil {
		return err
	}
	defer archive.Close()
	if local != "-" {
		return unpack(archive, local, contentOnly(from.path))
	}
	if _, ok := terminalOf(e.stdout); ok {
		return usagef("standard output is a terminal: send the tar stream to a file or a program")
	}
	if _, err := io.Copy(e.stdout, archive); err != nil {
		return fmt.Errorf("the archive broke off: %w", err)
	}
	return nil
}

// copyIn copies into a container.
func (e *env) copyIn(ctx context.Context, client *api.Client, local string, to containerPath) error {
	target := path.Clean(to.path)
	if local == "-" {
		if _, ok := terminalOf(e.stdin); ok {
			return usagef("standard input is a terminal: send a tar stream into it")
		}
		_, err := client.Containers().WriteArchive(ctx, to.ident, target, e.stdin)
		return err
	}
	src, err := openSource(local)
	if err != nil {
		return err
	}
	// The server tells what is there only by what it refuses: first the target
	// is taken for a directory that exists.
	root := src.name
	if contentOnly(local) {
		root = "."
	}
	err = sendArchive(ctx, client, to.ident, target, src, root)
	missing := structs.CodeOf(err) == structs.CodeNotFound
	file := structs.CodeOf(err) == structs.CodeInvalid && structs.KindOf(err) == structs.KindPath
	switch {
	case !missing && !file || target == "/":
		return err
	case src.dir && file:
		return fmt.Errorf("%s is a directory, and %s in the container is none: name another target", local, target)
	case !src.dir && strings.HasSuffix(to.path, "/"), !src.dir && contentOnly(to.path):
		return fmt.Errorf("%s is no directory in the container: create it, or leave out the / at its end", target)
	}
	// It becomes a file or directory beside its siblings.
	if missing {
		if _, _, gone := client.Containers().Get(ctx, to.ident, api.QueryOptions{}); gone != nil {
			return gone
		}
	}
	if err := sendArchive(ctx, client, to.ident, path.Dir(target), src, path.Base(target)); err != nil {
		if structs.CodeOf(err) == structs.CodeNotFound {
			return fmt.Errorf("directory %s does not exist in the container: create it first", path.Dir(target))
		}
		return err
	}
	return nil
}

// send packs a source under the name root and sends it.
func sendArchive(ctx context.Context, client *api.Client, ident, target string, src source, root string) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := src.pack(w, root)
		w.CloseWithError(err)
		packed <- err
	}()
	_, err := client.Containers().WriteArchive(ctx, ident, target, r)
	r.Close() // ends the packing if the server has heard enough
	if failed := <-packed; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return failed
	}
	return err
}
