package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func containerTopCommand() *command {
	return &command{
		name: "container-top", group: groupContainers, literal: 1, args: "CONTAINER [PS-ARGUMENTS...]", complete: completeContainers,
		synopsis: "List the processes of a container",
		about: "Lists the processes as ps does on the container's host. PS-ARGUMENTS are -ef (the default), -e, aux,\n" +
			"or -o with columns such as pid,user,%cpu,rss,etime,args. The error for an unknown column lists all\n" +
			"columns.",
		examples: []string{"magnum container-top web1", "magnum container-top web1 -o pid,rss,args"},
		setup: func(e *env, f *flagSet) runFunc {
			return topSetup(e, f, "CONTAINER", func(ctx context.Context, c *api.Client, ident, ps string) (*structs.TopBody, api.Meta,
				error) {
				return c.Containers().Top(ctx, ident, ps)
			})
		},
	}
}

// topSetup is the setup of a command that lists processes. what names its first argument,
// whose processes top returns.
func topSetup(
	e *env, f *flagSet, what string, top func(ctx context.Context, c *api.Client, ident, ps string) (*structs.TopBody, api.Meta, error),
) runFunc {
	var conn connection
	var out output
	out.flags(f)
	conn.flags(f)
	return func(ctx context.Context, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", what)
		}
		if err := out.check(); err != nil {
			return err
		}
		client, err := conn.client(e)
		if err != nil {
			return err
		}
		body, meta, err := top(ctx, client, args[0], strings.Join(args[1:], " "))
		if err != nil {
			return err
		}
		if !out.isTable() {
			return out.show(e.stdout, meta.Raw)
		}
		t := table{head: body.Titles}
		for _, process := range body.Processes {
			row := make([]string, len(body.Titles)) // ps may leave the last columns out
			for i := range min(len(row), len(process)) {
				row[i] = printable(process[i])
			}
			t.rows = append(t.rows, row)
		}
		return t.writeTo(e.stdout)
	}
}

func containerStatsCommand() *command {
	return &command{
		name: "container-stats", group: groupContainers, args: "[CONTAINER...]", complete: completeContainers,
		synopsis: "Show the resource usage of containers",
		about: "Prints a table of CPU usage (100% is one core), memory, and bytes read and written since the start.\n" +
			"The table is updated every second until the containers have ended or you press Ctrl-C. Without\n" +
			"CONTAINER it has all running containers. -json prints a line per container and second.",
		examples: []string{
			"magnum container-stats web1 db1",
			"magnum container-stats -no-stream",
			"magnum container-stats -json web1 | jq .cpu_percent",
		},
		setup: func(e *env, f *flagSet) runFunc {
			return statsSetup(e, f, pickContainers)
		},
	}
}

// statsSetup is the setup of a command that shows resource usage. pick returns the rows: those
// of its arguments, or of all that run.
func statsSetup(e *env, f *flagSet, pick func(ctx context.Context, client *api.Client, idents []string) ([]statsRow, error)) runFunc {
	var conn connection
	once, lines := false, false
	f.switchOn(&once, "no-stream", "print the table once")
	f.switchOn(&lines, "json", "print a JSON object per container and second, each on a line")
	conn.flags(f)
	return func(ctx context.Context, args []string) error {
		client, err := conn.client(e)
		if err != nil {
			return err
		}
		s := &statsView{e: e, lines: lines}
		if s.rows, err = pick(ctx, client, args); err != nil {
			return err
		}
		if once {
			return s.once(ctx)
		}
		err = s.stream(ctx)
		if errors.Is(err, context.Canceled) {
			return &exitError{exitInterrupted} // Ctrl-C is the normal end
		}
		return err
	}
}

// statsView shows the usage of containers.
type statsView struct {
	e     *env
	lines bool // print JSON lines, not a table

	mu   sync.Mutex // guards rows and the output of lines
	rows []statsRow
}

// statsRow is a container and its last usage.
type statsRow struct {
	uuid      string             // of the container, or of the pod
	name      string             // of the container, or of the pod
	container string             // of a pod; "" for a container that isn't of a pod
	now       *structs.StatsBody // nil before the first value and after the container's end

	get    func(context.Context) (*structs.StatsBody, api.Meta, error)
	follow func(ctx context.Context, each func(structs.StatsBody) error) error
}

// title returns the row's name in the table and in messages.
func (r *statsRow) title() string {
	if r.container != "" {
		return r.name + "/" + r.container
	}
	return r.name
}

// statsLine is a line of the output of -json.
type statsLine struct {
	UUID      string `json:"uuid"`
	Name      string `json:"name"`
	Container string `json:"container,omitempty"`
	structs.StatsBody
}

// pickContainers returns the rows of the containers of idents, or of all running ones.
func pickContainers(ctx context.Context, client *api.Client, idents []string) (rows []statsRow, err error) {
	add := func(c *structs.ContainerBody) {
		rows = append(rows, statsRow{uuid: c.UUID, name: c.Name,
			get: func(ctx context.Context) (*structs.StatsBody, api.Meta, error) {
				return client.Containers().Stats(ctx, c.UUID)
			},
			follow: func(ctx context.Context, each func(structs.StatsBody) error) error {
				return client.Containers().FollowStats(ctx, c.UUID, each)
			}})
	}
	if len(idents) == 0 {
		running, _, err := client.Containers().List(ctx, api.QueryOptions{
			Filters: map[string][]string{"status": {string(structs.ContainerRunning)}},
		})
		if err != nil {
			return nil, err
		}
		if len(running) == 0 {
			return nil, errors.New(`no container runs: "magnum container-list" lists all`)
		}
		for i := range running {
			add(&running[i])
		}
	}
	for _, ident := range idents {
		c, _, err := client.Containers().Get(ctx, ident, api.QueryOptions{})
		if err != nil {
			return nil, err
		}
		add(c)
	}
	return rows, nil
}

// once prints the usage of each container once.
func (s *statsView) once(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range s.rows {
		g.Go(func() error {
			now, _, err := s.rows[i].get(ctx)
			if err != nil {
				return fmt.Errorf("container %s: %w", s.rows[i].title(), err)
			}
			s.rows[i].now = now
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if !s.lines {
		return s.draw(s.e.stdout)
	}
	for i := range s.rows {
		if err := s.line(i); err != nil {
			return err
		}
	}
	return nil
}

// stream shows the usage every second until all containers have ended.
func (s *statsView) stream(ctx context.Context) error {
	watching, leave := context.WithCancel(ctx)
	defer leave()
	g, all := errgroup.WithContext(watching)
	for i := range s.rows {
		g.Go(func() error {
			err := s.rows[i].follow(all, func(now structs.StatsBody) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.rows[i].now = &now
				if s.lines {
					return s.line(i)
				}
				return nil
			})
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rows[i].now = nil
			if err != nil && all.Err() == nil {
				return fmt.Errorf("container %s: %w", s.rows[i].title(), err)
			}
			return err
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		case <-tick.C:
			if s.lines {
				continue
			}
			if err := s.redraw(); err != nil {
				leave()
				<-ended
				return err
			}
		}
	}
}

// redraw draws the table over the last one if standard output is a terminal, and below
// it otherwise. It draws nothing before the first value.
func (s *statsView) redraw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := false
	for _, r := range s.rows {
		known = known || r.now != nil
	}
	if !known {
		return nil
	}
	var b bytes.Buffer
	if err := s.draw(&b); err != nil {
		return err
	}
	text := b.String()
	if _, ok := terminalOf(s.e.stdout); ok {
		// Start at the top. Each line clears the rest of its line, and the last one
		// everything below.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(s.e.stdout, text)
	return err
}

// draw writes the table.
func (s *statsView) draw(w io.Writer) error {
	t := table{head: []string{"name", "cpu", "memory", "limit", "memory %", "network in", "network out", "disk in", "disk out", "pids"}}
	for _, r := range s.rows {
		row := []string{printable(r.title()), "-", "-", "-", "-", "-", "-", "-", "-", "-"}
		if n := r.now; n != nil {
			share := "-"
			if n.MemoryLimit > 0 {
				share = percent(100 * float64(n.MemoryUsed) / float64(n.MemoryLimit))
			}
			row = []string{row[0], percent(n.CPUPercent), sizeText(n.MemoryUsed), sizeText(n.MemoryLimit), share,
				sizeText(n.NetworkIn), sizeText(n.NetworkOut), sizeText(n.BlockIn), sizeText(n.BlockOut), strconv.Itoa(n.PIDs)}
		}
		t.rows = append(t.rows, row)
	}
	return t.writeTo(w)
}

// line prints a row as JSON.
func (s *statsView) line(i int) error {
	r := s.rows[i]
	text, err := json.Marshal(statsLine{UUID: r.uuid, Name: r.name, Container: r.container, StatsBody: *r.now})
	if err != nil {
		return err
	}
	_, err = s.e.stdout.Write(append(text, '\n'))
	return err
}

func percent(p float64) string { return strconv.FormatFloat(p, 'f', 2, 64) + "%" }

// sizeText formats a number of bytes with a unit of powers of 1024, such as 1.5m. Flags
// accept the same units.
func sizeText(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10)
	}
	v, unit := float64(n), -1
	for v >= 1<<10 && unit < 3 {
		v, unit = v/(1<<10), unit+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + string("kmgt"[unit])
}
