//go:build e2e

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// maxAgentRSS is the memory, in bytes, that an agent with twenty containers may
// use.
const maxAgentRSS = 30 << 20

// TestLongMemoryOfAnAgent: an agent with twenty containers stays below
// maxAgentRSS.
func TestLongMemoryOfAnAgent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			if _, _, err := c.client.Containers().Create(c.ctx(), c.request(fmt.Sprintf("napper-%d", i), sleepScript),
				api.CreateOptions{Run: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	running := 0
	for _, b := range c.awaitDesired() {
		if b.Status == structs.ContainerRunning {
			running++
		}
	}
	if running != 20 {
		t.Fatalf("%d containers run, want 20", running)
	}
	most := int64(0)
	for range 20 { // includes the peaks of polls and reports
		most = max(most, c.agent.rss())
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("an agent with 20 containers needs %.1f MiB", float64(most)/(1<<20))
	if most > maxAgentRSS {
		t.Errorf("an agent with 20 containers needs %d bytes, more than %d", most, maxAgentRSS)
	}
}
