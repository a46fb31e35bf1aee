package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
)

// request is the request that wrk repeats.
type request struct {
	url  string
	body string // JSON of a POST; "" for a GET

	header string     // an additional line of the head; "" if there is none
	in     *rig.Space // where wrk runs; nil for the network of this process
}

// measured is the result of wrk.
type measured struct {
	rate float64 // answers per second
	p50  float64 // median latency in milliseconds
}

// script makes wrk send the request, and print four numbers instead of its table.
const script = `
local body = %q
if body ~= "" then
  wrk.method, wrk.body = "POST", body
  wrk.headers["Content-Type"] = "application/json"
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("MEASURED %%d %%d %%d %%d\n", summary.requests, summary.duration,
    latency:percentile(50), e.connect + e.read + e.write + e.status + e.timeout))
end
`

// wrk repeats the request on a number of connections for a duration, after a short warm-up.
func wrk(ctx context.Context, dir string, r request, connections int, d time.Duration) (measured, error) {
	file := filepath.Join(dir, "wrk.lua")
	if err := os.WriteFile(file, fmt.Appendf(nil, script, r.body), 0o600); err != nil {
		return measured{}, err
	}
	if _, err := wrkOnce(ctx, file, r, connections, time.Second); err != nil {
		return measured{}, err
	}
	return wrkOnce(ctx, file, r, connections, d)
}

func wrkOnce(ctx context.Context, file string, r request, connections int, d time.Duration) (measured, error) {
	command := []string{"wrk", "-t", "1", "-c", strconv.Itoa(connections), "-d", fmt.Sprintf("%ds", int(d.Seconds())),
		"--timeout", "30s", "-s", file}
	if r.header != "" {
		command = append(command, "-H", r.header)
	}
	command = append(command, r.url)
	if r.in != nil {
		command = r.in.Command(command[0], command[1:]...)
	}
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return measured{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	_, line, _ := strings.Cut(string(out), "MEASURED ")
	var requests, micros, p50, errors int64
	if _, err := fmt.Sscan(line, &requests, &micros, &p50, &errors); err != nil {
		return measured{}, fmt.Errorf("wrk printed %q: %w", out, err)
	}
	if errors > 0 || requests == 0 {
		return measured{}, fmt.Errorf("%s: %d of %d answers were errors", r.url, errors, requests)
	}
	return measured{rate: float64(requests) / (float64(micros) / 1e6), p50: float64(p50) / 1e3}, nil
}
