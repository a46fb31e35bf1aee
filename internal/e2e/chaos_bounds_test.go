//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
)

// holding is the resources that a process holds.
type holding struct {
	goroutines, files int
	heap              int64 // bytes, including garbage that is not collected yet
}

func (h holding) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, %d MB of heap", h.goroutines, h.files, h.heap>>20)
}

// within reports whether h is about as much as base. What a server holds
// changes with who leads.
func (h holding) within(base holding) bool {
	return h.goroutines <= base.goroutines*5/4+20 && h.files <= base.files*5/4+10 && h.heap <= base.heap+64<<20
}

// holdings returns what each server and agent holds. Of agents only the open
// files are known.
func (c *chaos) holdings() (map[string]holding, error) {
	all := make(map[string]holding)
	for _, n := range c.servers {
		h, err := scrape("http://" + n.addr + "/v1/metrics")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.name, err)
		}
		all[n.name] = h
	}
	for _, a := range c.agents {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		all[a.name] = holding{files: len(files)}
	}
	return all, nil
}

func scrape(url string) (h holding, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		found++
		switch name {
		case "go_goroutines":
			h.goroutines = int(number)
		case "process_open_fds":
			h.files = int(number)
		case "go_memstats_heap_alloc_bytes":
			h.heap = int64(number)
		default:
			found--
		}
	}
	if found != 3 {
		return h, fmt.Errorf("%d of 3 metrics were found", found)
	}
	return h, nil
}

// baseline returns the most that any server, and any agent, holds before the
// faults.
func (c *chaos) baseline() (server, agent holding) {
	c.Helper()
	all, err := c.holdings()
	if err != nil {
		c.Fatal(err)
	}
	for _, n := range c.servers {
		h := all[n.name]
		server.goroutines, server.files, server.heap = max(server.goroutines, h.goroutines), max(server.files, h.files),
			max(server.heap, h.heap)
	}
	for _, a := range c.agents {
		agent.files = max(agent.files, all[a.name].files)
	}
	return server, agent
}

// awaitBaseline waits until all processes hold about what they held before:
// I11.
func (c *chaos) awaitBaseline(server, agent holding) {
	c.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	began := time.Now()
	defer func() { c.Logf("back at the baseline after %v", time.Since(began).Round(time.Millisecond)) }()
	c.eventually("I11: servers and agents hold what they held before the faults", 3*time.Minute, func() error {
		all, err := c.holdings()
		for name, h := range all {
			base := server
			if h.goroutines == 0 {
				base = agent
			}
			if !h.within(base) {
				err = fmt.Errorf("%s holds %v; before the faults it was %v at most", name, h, base)
			}
		}
		return err
	})
}

// reservations checks I8: each host's figures are the sum of its containers and pods,
// and fit on the host.
func (c *chaos) reservations() {
	c.Helper()
	hosts, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	if err != nil {
		c.Fatal(err)
	}
	containers, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	if err != nil {
		c.Fatal(err)
	}
	for _, h := range hosts {
		var memory int64
		n := 0
		var with []string
		for _, b := range c.running.listPods() {
			if deref(b.Host) == h.Name {
				n++
				memory += chaosPodMemory
				with = append(with, fmt.Sprintf("pod %s (%s, %s)", b.Name, b.UUID, b.Status))
			}
		}
		for _, b := range containers {
			if deref(b.Host) != h.Name {
				continue
			}
			n++
			if b.Memory != 0 {
				memory += int64(b.Memory)
				with = append(with, fmt.Sprintf("%s (%s, %s)", b.Name, b.UUID, b.Status))
			}
		}
		if h.MemoryUsed > h.Memory || h.CPUUsed > float64(h.Cores) {
			c.Errorf("I8: %s has %d bytes and %v cores, and %d and %v are reserved", h.Name, h.Memory, h.Cores, h.MemoryUsed, h.CPUUsed)
		}
		if n != h.Containers || memory != h.MemoryUsed {
			c.Errorf("I8: %d containers and pods of %d bytes are on %s, which counts %d of %d; with a reservation: %s", n, memory, h.Name,
				h.Containers, h.MemoryUsed, strings.Join(with, ", "))
		}
	}
}

// TestHoldingsAreCompared: a holding that has grown is not within the baseline.
func TestHoldingsAreCompared(t *testing.T) {
	base := holding{goroutines: 100, files: 40, heap: 20 << 20}
	for _, h := range []holding{{goroutines: 146}, {files: 61}, {heap: 85 << 20}} {
		if h.within(base) {
			t.Errorf("%v is within %v", h, base)
		}
	}
	if !base.within(base) {
		t.Error("an unchanged holding is not within the baseline")
	}
}
