package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func imageCommands() []*command {
	return []*command{
		imageListCommand(), imagePullCommand(), imageLoadCommand(), imagePruneCommand(), volumeListCommand(), volumeDeleteCommand(),
	}
}

// bayOrHostFlags adds -bay and -host.
func bayOrHostFlags(e *env, f *flagSet, bay, host *string, hostHelp string) {
	f.text(bay, "bay", "BAY", "uuid or name of the bay of the hosts").predict = e.predictNames(completeBays)
	f.text(host, "host", "HOST", hostHelp).predict = e.predictNames(completeHosts)
}

// hostListing describes a command that lists objects of hosts, such as images.
type hostListing struct {
	name, synopsis, about string
	examples              []string
	columns, wide         []string
	list                  func(context.Context, *api.Client, api.HostListOptions) ([]structs.HostError, api.Meta, error)
}

func (l hostListing) command() *command {
	return &command{
		name: l.name, group: groupImages, synopsis: l.synopsis,
		about: l.about + "\n" +
			"Hosts that do not answer are named on standard error; the other hosts are listed.",
		examples: l.examples,
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			var o api.HostListOptions
			out := output{hasWide: true}
			bayOrHostFlags(e, f, &o.Bay, &o.Host, "only this host, uuid or name")
			f.text(&o.Name, "name", "NAME", "only those of this name")
			f.switchOn(&o.AllProjects, "all-projects", "list all hosts and projects (operators)")
			out.flags(f)
			fresh.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				o.Consistent, o.Stale = fresh.consistent, fresh.stale
				missing, meta, err := l.list(ctx, client, o)
				if err != nil {
					return err
				}
				for _, h := range missing {
					fmt.Fprintf(e.stderr, "Host %s is left out: %s\n", printable(h.Host), printable(h.Message))
				}
				return out.list(e.stdout, meta.Items, l.columns, l.wide, false)
			}
		},
	}
}

func imageListCommand() *command {
	return hostListing{
		name: "image-list", synopsis: "List the images on hosts",
		about: "Lists the images on the hosts of all bays that you can use, by host and name. Shared layers count in\n" +
			"the size of every image. image-prune removes images that are not in use; so does an agent whose disk\n" +
			"gets full.",
		examples: []string{"magnum image-list -wide", "magnum image-list -bay web -format '{{.host}} {{join .names \" \"}}'"},
		columns:  []string{"host", "names", "size", "in_use"},
		wide:     []string{"id", "created_at", "pulled_at", "used_at", "host_uuid", "bay_uuid"},
		list: func(ctx context.Context, c *api.Client, o api.HostListOptions) ([]structs.HostError, api.Meta, error) {
			body, meta, err := c.Images().List(ctx, o)
			if err != nil {
				return nil, meta, err
			}
			return body.Errors, meta, nil
		},
	}.command()
}

func imagePullCommand() *command {
	return &command{
		name: "image-pull", group: groupImages, args: "IMAGE",
		synopsis: "Pull an image to all hosts of a bay",
		about: "Containers of the image then start sooner. The results of all hosts are printed at the end. If a host\n" +
			"fails, the others continue, and the exit code is 1. -bay can be omitted if you can use one bay only.",
		examples: []string{"magnum image-pull nginx:1.27", "magnum image-pull -bay web -registry-username joe registry.example/shop:7"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var r structs.ImagePullRequest
			var registry credentials
			bayOrHostFlags(e, f, &r.Bay, &r.Host, "only this host, instead of a bay (operators)")
			registry.flags(f)
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) (err error) {
				if err := exactly(args, "IMAGE"); err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				r.Image = args[0]
				if r.Registry, err = registry.read(e); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				p := newProgress(e)
				results, err := client.Images().Pull(ctx, &r, func(h structs.HostResult) {
					if h.Result == structs.ResultProgress && h.Message != nil {
						p.show("%s: %s", h.Host, *h.Message)
					}
				})
				p.clear()
				if err != nil {
					return err
				}
				return e.printHostResults(&out, "Pull", results, "host", "result", "images")
			}
		},
	}
}

// printHostResults prints the results of hosts: failures on standard error, and the list
// of results unless all are failures. It returns an error if any host failed.
func (e *env) printHostResults(out *output, verb string, results []structs.HostResult, columns ...string) error {
	items := make([]json.RawMessage, len(results))
	failed := 0
	for i, r := range results {
		raw, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding the results as JSON: %w", err)
		}
		items[i] = raw
		if r.Result == structs.ResultError {
			failed++
			fmt.Fprintf(e.stderr, "%s on host %s failed: %s\n", verb, printable(r.Host), printable(*r.Message))
		}
	}
	if failed == 0 || failed < len(results) {
		if err := out.list(e.stdout, items, columns, nil, false); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &exitError{exitFailure}
	}
	return nil
}

func imageLoadCommand() *command {
	return &command{
		name: "image-load", group: groupImages, args: "[FILE]", complete: completeFileNames,
		synopsis: "Load an archive of images on all hosts of a bay",
		about: "FILE is a tar archive of docker save; it may be compressed. Without FILE, or with \"-\", the archive is read\n" +
			"from standard input. Its limit is 10 GiB. -bay can be omitted if you can use one bay only. Only operators\n" +
			"can load images in a bay that projects share, because an archive can replace the images of others.",
		examples: []string{"magnum image-load shop.tar", "docker save shop:7 | magnum image-load -bay web"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var at api.HostTarget
			file := ""
			f.text(&file, "input i", "FILE", "archive, instead of the argument")
			bayOrHostFlags(e, f, &at.Bay, &at.Host, "only this host, instead of a bay (operators)")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if len(args) > 0 && file != "" {
					return usagef("-input %q and the argument %q are both given: leave out one", file, args[0])
				}
				if len(args) > 1 {
					return exactly(args, "FILE")
				}
				if len(args) == 1 {
					file = args[0]
				}
				if err := out.check(); err != nil {
					return err
				}
				archive, size, err := e.openImages(file)
				if err != nil {
					return err
				}
				defer archive.Close()
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				p := newProgress(e)
				results, _, err := client.Images().Load(ctx, at, &progressReader{r: archive, p: p, size: size})
				p.clear()
				if err != nil {
					return err
				}
				return e.printHostResults(&out, "Load", results, "host", "result", "images")
			}
		},
	}
}

// openImages opens an archive of images; "" or - means standard input. size is in bytes,
// 0 if unknown.
func (e *env) openImages(file string) (r io.ReadCloser, size int64, err error) {
	if file == "" || file == "-" {
		if _, ok := terminalOf(e.stdin); ok {
			return nil, 0, usagef("standard input is a terminal: give FILE, or redirect a tar stream to it")
		}
		return io.NopCloser(e.stdin), 0, nil
	}
	archive, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	info, err := archive.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a directory: give an archive of docker save", file)
	case info.Size() > structs.MaxImageFile:
		err = fmt.Errorf("%s has more than %d GiB, the limit of one load: save fewer images into it",
			file, int64(structs.MaxImageFile)>>30)
	default:
		return archive, info.Size(), nil
	}
	return nil, 0, errors.Join(err, archive.Close())
}

// progressReader reads an archive and shows the progress if standard error is a terminal.
type progressReader struct {
	r     io.Reader
	p     *progress
	size  int64 // bytes; 0 if unknown
	sent  int64
	shown int64
}

// progressStep is the number of bytes between two updates of the progress.
const progressStep = 1 << 20

// Read implements io.Reader.
func (s *progressReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.sent += int64(n)
	if s.p.tty && s.sent-s.shown >= progressStep {
		s.shown = s.sent
		of := ""
		if s.size > 0 {
			of = " of " + sizeText(s.size)
		}
		s.p.show("sent %s%s", sizeText(s.sent), of)
	}
	return n, err
}

func imagePruneCommand() *command {
	return &command{
		name: "image-prune", group: groupImages,
		synopsis: "Remove the images that no container uses (operators)",
		about: "Removes the images on the hosts of a bay, on one host, or with -all on all hosts. An image that a\n" +
			"container uses stays, also if the container doesn't run or was not created by magnum.",
		examples: []string{"magnum image-prune -bay web", "magnum image-prune -all -json"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var at api.HostTarget
			bayOrHostFlags(e, f, &at.Bay, &at.Host, "only this host, uuid or name")
			f.switchOn(&at.All, "all", "all hosts")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if at == (api.HostTarget{}) {
					return usagef("no hosts are selected: give -bay, -host or -all")
				}
				if err := out.check(); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				results, _, err := client.Images().Prune(ctx, at)
				if err != nil {
					return err
				}
				return e.printHostResults(&out, "Prune", results, "host", "result", "images", "size")
			}
		},
	}
}
