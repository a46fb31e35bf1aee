package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// Stats reports the container's usage, also while it is paused.
func (cs *Consoles) Stats(ctx context.Context, engineID string, stream bool, each func(structs.StatsBody) error) error {
	raw, err := cs.engine.Inspect(ctx, engineID)
	if err != nil {
		return err
	}
	if s := engine.StateOf(raw.State); s != backend.StateRunning && s != backend.StatePaused {
		return notRunning(raw)
	}
	if stream {
		return cs.stats(ctx, engineID, true, each)
	}
	var one structs.StatsBody
	var got bool
	err = cs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		return cs.stats(ctx, engineID, false, func(s structs.StatsBody) error { one, got = s, true; return nil })
	})
	if err == nil && !got {
		err = &backend.Failure{Reason: backend.ErrNotRunning, Msg: "the container has just ended and uses nothing"}
	}
	if err != nil {
		return err
	}
	return each(one)
}

func (cs *Consoles) stats(ctx context.Context, engineID string, stream bool, each func(structs.StatsBody) error) error {
	// The client's one-shot call lacks the previous reading, which CPU usage needs.
	resp, err := cs.engine.Client.ContainerStats(ctx, engineID, stream)
	if err != nil {
		return cs.engine.CallError(ctx, err)
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var s container.StatsResponse
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF) && ctx.Err() == nil:
			return nil
		case err != nil:
			return cs.engine.CallError(ctx, err)
		case s.Read.IsZero():
			return nil // the engine's answer for a container without a process
		case s.PreRead.IsZero():
			continue // the first reading of a stream has no CPU time to compare with
		}
		if err := each(statsOf(s)); err != nil {
			return err
		}
	}
}

// statsOf computes usage as docker stats does.
func statsOf(s container.StatsResponse) structs.StatsBody {
	b := structs.StatsBody{
		ReadAt: structs.Time{Time: s.Read.UTC()}, MemoryLimit: int64(s.MemoryStats.Limit), PIDs: int(s.PidsStats.Current),
		MemoryUsed: int64(s.MemoryStats.Usage - min(s.MemoryStats.Usage, pageCache(s.MemoryStats.Stats))),
	}
	used := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	all := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	cores := float64(s.CPUStats.OnlineCPUs)
	if cores == 0 {
		cores = float64(len(s.CPUStats.CPUUsage.PercpuUsage))
	}
	if used > 0 && all > 0 {
		b.CPUPercent = used / all * cores * 100
	}
	for _, n := range s.Networks {
		b.NetworkIn += int64(n.RxBytes)
		b.NetworkOut += int64(n.TxBytes)
	}
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) { // cgroup v1 says Read, v2 read
		case "read":
			b.BlockIn += int64(e.Value)
		case "write":
			b.BlockOut += int64(e.Value)
		}
	}
	return b
}

// pageCache returns the memory that the kernel would reclaim first, under its name in
// cgroup v1 or v2.
func pageCache(stats map[string]uint64) uint64 {
	if v, ok := stats["total_inactive_file"]; ok {
		return v
	}
	return stats["inactive_file"]
}

// Top lists the container's processes. It checks the arguments again, because a server of
// another version may allow more.
func (cs *Consoles) Top(ctx context.Context, engineID, args string) (structs.TopBody, error) {
	ps, err := structs.ParsePS(args)
	if err != nil {
		return structs.TopBody{}, &backend.Failure{Reason: backend.ErrInvalid, Msg: err.Error()}
	}
	var top container.TopResponse
	err = cs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
		top, err = cs.engine.Client.ContainerTop(ctx, engineID, []string{ps.Ask()})
		return err
	})
	var f *backend.Failure
	if errors.As(err, &f) && f.Reason == nil && strings.Contains(f.Msg, "ps") {
		f.Reason = backend.ErrInvalid // the host's ps doesn't know the columns: the engine answers 500
	}
	if err != nil {
		return structs.TopBody{}, err
	}
	body, err := ps.Arrange(structs.TopBody{Titles: top.Titles, Processes: top.Processes})
	if err != nil {
		return structs.TopBody{}, &backend.Failure{Reason: backend.ErrInvalid, Msg: err.Error()}
	}
	return body, nil
}
