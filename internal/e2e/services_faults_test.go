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

// soloRC has one pod, which takes some seconds until it serves and is ready.
const soloRC = `
apiVersion: v1
kind: ReplicationController
metadata: {name: solo}
spec:
  replicas: 1
  selector: {app: solo}
  template:
    metadata: {labels: {app: solo}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: ` + image + `
        imagePullPolicy: IfNotPresent
        command: ["sh", "-c", "sleep 3; mkdir /w; hostname >/w/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /w & wait"]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, timeoutSeconds: 20} # a busy machine makes no pod unready
        lifecycle:
          preStop: {exec: {command: ["sleep", "4"]}} # a request may take seconds on a busy machine
`

const soloService = `
apiVersion: v1
kind: Service
metadata: {name: solo}
spec:
  type: NodePort
  selector: {app: solo}
  ports: [{port: 80, targetPort: 8080}]
`

// TestLongHostLeavesBayWithServices: a host is drained and given back while clients make
// requests, none of which fails, also to a service whose only pod is on that host. It no longer
// serves the services of the bay, and has no connection to the relays of the bay's hosts.
func TestLongHostLeavesBayWithServices(t *testing.T) {
	t.Parallel()
	b := newServiceBay(t)
	_, s := b.makeWeb()
	b.make("service", soloService)
	b.make("rc", soloRC)
	solo := b.service("solo", 1)
	port := b.nodePort(s, 0)
	going := slices.IndexFunc(b.hosts, func(a *hostAgent) bool { return a.name == deref((*solo.Endpoints)[0].Host) })
	staying := 1 - going
	stays, leaves := b.hosts[staying], b.hosts[going]
	b.eventually("all pods answer", time.Minute, func() error {
		if err := answered(b.at(staying, b.nodePort(solo, 0)), podsOf(solo)...); err != nil {
			return err
		}
		return answered(b.at(staying, port), podsOf(s)...) // one of them by the relay
	})
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

	l, alone := b.startLoad(b.at(staying, port)), b.startAsking(b.at(staying, b.nodePort(solo, 0)), false)
	b.as(b.token["admin"], "host-drain", leaves.name).must(t)
	b.eventually("all pods are on the host that stays", time.Minute, func() error {
		for name, ready := range map[string]int{"web": 2, "solo": 1} {
			s, _, err := b.client.Services().Get(b.ctx(), name, api.QueryOptions{})
			if err != nil {
				return err
			}
			for _, e := range *s.Endpoints {
				if deref(e.Host) != stays.name {
					return fmt.Errorf("%s is on %s", e.Pod, deref(e.Host))
				}
			}
			if s.Ready != ready {
				return fmt.Errorf("%d of %s are ready", s.Ready, name)
			}
		}
		return nil
	})
	b.as(b.token["admin"], "bay-update", "b", "replace", "node_count=1").must(t)
	b.eventually("the host that has left serves nothing", time.Minute, func() error {
		if name, err := get(b.at(going, port)); err == nil {
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
	if asked, failed := alone.end(); len(failed) > 0 || asked == 0 {
		t.Errorf("%d of %d requests to solo failed: %v", len(failed), asked, failed)
	}
	// The host's data path has the pods a moment after the server says that they are ready.
	b.eventually("both pods answer at the host that stays", time.Minute, func() error {
		return answered(b.at(staying, port), podsOf(b.service("web", 2))...)
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
