package main

import (
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/structs"
)

// sessions measures sessions through server and agent to the engine: the round trip of a
// command, and the time to the first byte of a log.
func (b *bench) sessions() error {
	return b.withNode(func(n *rig.Node, resident *structs.ContainerBody) error {
		label := filters.Arg("label", "magnum.container="+resident.UUID)
		list, err := n.Engine.ContainerList(b.ctx, container.ListOptions{Filters: filters.NewArgs(label)})
		if err != nil {
			return err
		}
		if len(list) != 1 {
			return fmt.Errorf("the engine has %d containers of %s, want 1", len(list), resident.UUID)
		}
		id := list[0].ID
		for _, m := range []struct {
			what         string
			ours, theirs func() error
		}{
			{"execute, round trip", func() error { return b.execute(n, resident.UUID) }, func() error { return b.executeOnEngine(n, id) }},
			{
				"logs, first byte",
				func() error { return b.firstByte(n, resident.UUID) }, func() error { return b.firstByteOnEngine(n, id) },
			},
		} {
			p, err := b.interleave(5**rounds, timed(m.ours), timed(m.theirs))
			if err != nil {
				return fmt.Errorf("%s: %w", m.what, err)
			}
			more := p.differences()
			b.report(row{
				what: m.what, ours: spread("%.1f", p.ours) + " ms", theirs: spread("%.1f", p.theirs) + " ms", other: "the engine",
				ratio: "+" + spread("%.1f", more) + " ms", gate: bound{"≤ +15 ms", median(more) <= 15},
			})
		}
		return nil
	})
}

// timed returns a measurement of the duration of f in milliseconds.
func timed(f func() error) func(int) (float64, error) {
	return func(int) (float64, error) {
		began := time.Now()
		err := f()
		return milliseconds(time.Since(began)), err
	}
}

// executed is the command that execute runs.
var executed = []string{"echo", "done"}

func (b *bench) execute(n *rig.Node, uuid string) error {
	out, _, err := n.Client.Containers().Execute(b.ctx, uuid, structs.ExecRequest{Command: executed})
	if err == nil && out.Output != "done\n" {
		return fmt.Errorf("the command printed %q", out.Output)
	}
	return err
}

func (b *bench) executeOnEngine(n *rig.Node, id string) error {
	made, err := n.Engine.ContainerExecCreate(b.ctx, id, container.ExecOptions{Cmd: executed, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return err
	}
	conn, err := n.Engine.ContainerExecAttach(b.ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.Copy(io.Discard, conn.Reader); err != nil {
		return err
	}
	_, err = n.Engine.ContainerExecInspect(b.ctx, made.ID) // for the exit code
	return err
}

func (b *bench) firstByte(n *rig.Node, uuid string) error {
	log, err := n.Client.Containers().Logs(b.ctx, uuid, structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1})
	return readOne(log, err)
}

func (b *bench) firstByteOnEngine(n *rig.Node, id string) error {
	log, err := n.Engine.ContainerLogs(b.ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	return readOne(log, err)
}

func readOne(log io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = io.ReadFull(log, make([]byte, 1))
	return err
}
