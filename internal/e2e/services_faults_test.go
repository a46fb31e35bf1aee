//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestLongHostLeavesBayWithServices: a host is drained and given back while clients make
// requests, none of which fails. It no longer serves the services of the bay, and has no
// connection to the relays of the bay's hosts.
func TestLongHostLeavesBayWithServices(t *testing.T) {
	t.Parallel()
	b := newServiceBay(t)
	_, s := b.makeWeb()
	port := b.nodePort(s, 0)
	stays, leaves := b.hosts[0], b.hosts[1]
	relayed := func(a *hostAgent) string {
		out, err := a.on.command("ss", "-Htn", "state", "established", "( sport = :9514 or dport = :9514 )").CombinedOutput()
		if err != nil {
			t.Fatalf("ss: %v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if relayed(stays) == "" || relayed(leaves) == "" {
		t.Error("the hosts have no connection between their relays")
	}

	l := b.startLoad(b.at(0, port))
	b.as(b.token["admin"], "host-drain", leaves.name).must(t)
	b.eventually("all pods are on the host that stays", time.Minute, func() error {
		s, _, err := b.client.Services().Get(b.ctx(), "web", api.QueryOptions{})
		if err != nil {
			return err
		}
		for _, e := range *s.Endpoints {
			if deref(e.Host) != stays.name {
				return fmt.Errorf("%s is on %s", e.Pod, deref(e.Host))
			}
		}
		if s.Ready != 2 {
			err = fmt.Errorf("%d are ready", s.Ready)
		}
		return err
	})
	b.as(b.token["admin"], "bay-update", "b", "replace", "node_count=1").must(t)
	b.eventually("the host that has left serves nothing", time.Minute, func() error {
		if name, err := get(b.at(1, port)); err == nil {
			return fmt.Errorf("%s answers at its node port", name)
		}
		for _, a := range b.hosts {
			if conns := relayed(a); conns != "" {
				return fmt.Errorf("%s has connections between relays: %s", a.name, conns)
			}
		}
		return nil
	})
	l.end()
	// The host's data path has the pods a moment after the server says that they are ready.
	b.eventually("both pods answer at the host that stays", time.Minute, func() error {
		return answered(b.at(0, port), podsOf(b.service("web", 2))...)
	})
}

// podsOf returns the names of a service's pods in order.
func podsOf(s *structs.ServiceBody) (names []string) {
	for _, e := range *s.Endpoints {
		names = append(names, e.Pod)
	}
	slices.Sort(names)
	return names
}
