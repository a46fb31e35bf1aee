//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSessionsAreRelayed: an agent can't reach the CLI's server: its
// connections are refused, or get no answer. Sessions go through the server
// that has the agent's poll. If that server ends, the CLI says so and ends, and
// another server relays the next sessions.
func TestSessionsAreRelayed(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		relayed(t, func(n *network, from, to *netHost) netFault {
			return netFault{from.name + " is refused by " + to.name, func(context.Context) (func(), error) {
				return n.filter(from.namespace(), "ip", "output", 0,
					[]string{fmt.Sprintf("ip daddr %s tcp dport 9511 counter reject with tcp reset", to.ip)})
			}}
		})
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		relayed(t, func(n *network, from, to *netHost) netFault { return n.cut(from, to) })
	})
}

func relayed(t *testing.T, between func(n *network, from, to *netHost) netFault) {
	n := newNet(t)
	c := newThreeServersOn(t, n, 1)
	b := c.run("talks", `trap "exit 0" TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.2 & wait $!; done`)
	relays := c.awaitPoll()
	through := c.except(relays)[0]
	heal := n.with(between(n, c.agents[0].on, through.on))
	c.use(through)
	t.Logf("%s relays for %s, and %s leads", relays.name, through.name, c.awaitLeader().name)
	execute := func(word string) {
		t.Helper()
		began := time.Now()
		if out := c.magnum("container-execute", b.UUID, "echo", word).must(t); !strings.Contains(out, word) {
			t.Errorf("execute prints %q", out)
		}
		t.Logf("%s: execute took %v", word, time.Since(began).Round(time.Millisecond))
	}
	execute("relayed")
	logs := c.follow(through, "container-logs", "--follow", b.UUID)
	logs.awaitLines(10)
	term := (&commandLine{c.cluster}).atTerminal(80, 24, "container-execute", "-it", b.UUID, "sh")
	term.types("echo $((40 + 2)) here\r")
	term.shows("42 here")
	if now := c.awaitPoll(); now != relays {
		t.Fatalf("%s has the agent's poll, and %s had it when the sessions began", now.name, relays.name)
	}

	relays.kill()
	code, said := logs.ended()
	if code == 0 || !strings.Contains(said, "ERROR: ") {
		t.Errorf("container-logs ended with code %d and says %q", code, said)
	}
	t.Logf("container-logs ended with code %d: %s", code, strings.TrimSpace(said))
	select {
	case <-term.done:
	case <-time.After(time.Minute):
		t.Fatalf("container-execute does not end; the terminal shows %q", term.shown())
	}
	term.shows("ERROR: ")
	if code := term.cmd.ProcessState.ExitCode(); code == 0 || code == 130 {
		t.Errorf("container-execute ended with code %d", code)
	}
	t.Logf("container-execute ended with code %d: %q", term.cmd.ProcessState.ExitCode(), term.shown())

	undo := c.askOnly(c.except(relays)...)
	c.client = through.client
	c.awaitLeader()
	c.awaitAll()
	if now := c.awaitPoll(); now == through {
		t.Errorf("%s has the poll of an agent that is cut from it", now.name)
	}
	execute("relayed-by-another")
	undo()
	relays.start()
	heal()
	c.awaitAll()
	execute("direct")
	c.deleteAll([]string{b.UUID})
}
