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
	return []*command{imageListCommand(), imagePullCommand(), imageLoadCommand(), imagePruneCommand(), volumeListCommand(), volumeDeleteCommand()}
}

// bayOrHostFlags adds the flags that name a bay or a host.
func bayOrHostFlags(e *env, f *flagSet, bay, host *string, hostHelp string) {
	f.text(bay, "bay", "BAY", "hosts of this bay, uuid or name").predict = e.predictNames(completeBays)
	f.text(host, "host", "HOST", hostHelp).predict = e.predictNames(completeHosts)
}

// hostListing is what lists have in common that hosts are asked for.
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
			"Hosts that do not answer are named on standard error, and the others are shown all the same.",
		examples: l.examples,
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var fresh freshness
			var o api.HostListOptions
			out := output{hasWide: true}
			bayOrHostFlags(e, f, &o.Bay, &o.Host, "only this host")
			f.text(&o.Name, "name", "NAME", "only those of this name")
			f.switchOn(&o.AllProjects, "all-projects", "of all hosts and projects (operators)")
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
		about: "Those on the hosts of all bays that you can use, by host and name. Images share layers, which count in\n" +
			"the size of each. One that is not in use goes with image-prune, or when its host's disk gets full.",
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
		about: "Containers that are made of it start sooner then. What each host has got is printed at the end; if one\n" +
			"fails, the others go on, and the exit code is 1. Without -bay it is the one bay that you can use.",
		examples: []string{"magnum image-pull nginx:1.27", "magnum image-pull -bay web -registry-username joe registry.example/shop:7"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var r structs.ImagePullRequest
			var registry credentials
			bayOrHostFlags(e, f, &r.Bay, &r.Host, "this host instead (operators)")
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

// hostResults prints what became of something on each host: failures on
// standard error, and a list unless all have failed. It fails if any did.
func (e *env) printHostResults(out *output, verb string, results []structs.HostResult, columns ...string) error {
	items := make([]json.RawMessage, len(results))
	failed := 0
	for i, r := range results {
		raw, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("the answer can't be written as JSON: %w", err)
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
		about: "FILE is a tar archive as docker save writes it, also a compressed one; without FILE, or with \"-\", it is\n" +
			"standard input. At most 10 GiB are loaded at a time. Without -bay it is the one bay that you can use; in\n" +
			"a bay that is shared with other projects only operators load, for an archive may replace their images.",
		examples: []string{"magnum image-load shop.tar", "docker save shop:7 | magnum image-load -bay web"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var at api.HostTarget
			file := ""
			f.text(&file, "input i", "FILE", "the archive, instead of the argument")
			bayOrHostFlags(e, f, &at.Bay, &at.Host, "this host instead (operators)")
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

// openImages opens an archive of images; "" or - is standard input. size is 0
// if it isn't known.
func (e *env) openImages(file string) (r io.ReadCloser, size int64, err error) {
	if file == "" || file == "-" {
		if _, ok := terminalOf(e.stdin); ok {
			return nil, 0, usagef("standard input is a terminal: name a FILE, or send a tar stream into it")
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
		err = fmt.Errorf("%s is a directory: name an archive as docker save writes it", file)
	case info.Size() > structs.MaxImageFile:
		err = fmt.Errorf("%s has more than %d GiB, the most that is loaded at a time: save fewer images into it", file, int64(structs.MaxImageFile)>>30)
	default:
		return archive, info.Size(), nil
	}
	return nil, 0, errors.Join(err, archive.Close())
}

// sending is an archive on its way; a terminal shows how far it is.
type progressReader struct {
	r     io.Reader
	p     *progress
	size  int64 // bytes; 0 if it isn't known
	sent  int64
	shown int64
}

// progressStep is how many bytes go between two words about it.
const progressStep = 1 << 20

// Read reads on.
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
		about: "On the hosts of a bay, on one host, or with -all on all of them. An image that a container uses stays,\n" +
			"whether the container runs or not, whoever has made it.",
		examples: []string{"magnum image-prune -bay web", "magnum image-prune -all -json"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var at api.HostTarget
			bayOrHostFlags(e, f, &at.Bay, &at.Host, "this host")
			f.switchOn(&at.All, "all", "all hosts")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if at == (api.HostTarget{}) {
					return usagef("it is not said where: give -bay, -host or -all")
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
