//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// secondHost is a second host of a cluster, with an engine of its own. Its
// agent reaches the server through a proxy that can be cut.
type secondHost struct {
	own    *ownEngine
	engine *engine
	agent  *process
	dir    string
	cut    atomic.Bool
}

// addHost starts a second host and has the cluster's bay claim it.
func (c *cluster) addHost() *secondHost {
	c.Helper()
	own := newOwnEngine(c)
	h := &secondHost{own: own, engine: engineAt(c, own.host), dir: filepath.Join(c.dir, "data-2")}
	link := httptest.NewServer(h.link(&url.URL{Scheme: "http", Host: c.addr}))
	c.Cleanup(link.Close)
	token, err := os.ReadFile(filepath.Join(c.dir, "data", "server", "join-token"))
	if err != nil {
		c.Fatal(err)
	}
	h.agent = c.process("agent-2", "agent", "-server", link.URL, "-gossip=false", "-data-dir", h.dir, "-name", "host-2", "-log-level",
		"debug",
		"-docker-host", own.host, "-join-token", strings.TrimSpace(string(token)))
	h.agent.start()
	c.Cleanup(func() {
		if h.agent.alive() {
			h.agent.kill()
		}
		if c.Failed() {
			c.Logf("end of the log of the second agent:\n%s", tail(h.agent.log, 60))
		}
	})
	ops := []structs.PatchOp{{Op: "replace", Path: "/node_count", Value: 2}}
	if _, _, err := c.client.Bays().Update(c.ctx(), c.bay.UUID, ops, api.WriteOptions{}); err != nil {
		c.Fatal(err)
	}
	c.eventually("the bay has both hosts", time.Minute, func() error {
		host, _, err := c.client.Hosts().Get(c.ctx(), "host-2", api.QueryOptions{})
		if err == nil && deref(host.BayUUID) != c.bay.UUID {
			err = errors.New("the second host is in no bay")
		}
		return err
	})
	return h
}

// link is the proxy. It removes the servers' addresses from answers, or the
// agent would go around the proxy.
func (h *secondHost) link(server *url.URL) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(server)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(r *http.Response) error {
		if h.cut.Load() {
			return errors.New("the link is cut")
		}
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			return nil
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		var body map[string]json.RawMessage
		if json.Unmarshal(b, &body) == nil && body["servers"] != nil {
			delete(body, "servers")
			if b, err = json.Marshal(body); err != nil {
				return err
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		r.ContentLength = int64(len(b))
		r.Header.Set("Content-Length", strconv.Itoa(len(b)))
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.cut.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

func (h *secondHost) hostID() string {
	b, _ := os.ReadFile(filepath.Join(h.dir, "agent", "host_id"))
	return strings.TrimSpace(string(b))
}

// on creates containers on the second host.
func (c *cluster) on(h *secondHost, requests ...*structs.ContainerRequest) []*structs.ContainerBody {
	c.Helper()
	c.magnum("host-drain", "-detach", "host-1").must(c)
	defer func() { c.magnum("host-undrain", "host-1").must(c) }()
	var all []*structs.ContainerBody
	for _, r := range requests {
		b := c.create(r, structs.ContainerRunning)
		if deref(b.Host) != "host-2" {
			c.Fatalf("%s is on %s", b.Name, deref(b.Host))
		}
		all = append(all, b)
	}
	return all
}

// exclusive is a request for an exclusive container with restart policy always.
func (c *cluster) exclusive(name string, kind structs.Exclusive) *structs.ContainerRequest {
	r := c.policy(name, "always")
	r.Exclusive = kind
	return r
}

// awaitMoved waits until a container is placed on the first host under epoch 2, and then
// until it runs there, which takes as long as the engine does.
func (c *cluster) awaitMoved(id string, within time.Duration) {
	c.Helper()
	moved := func(running bool) func() error {
		return func() error {
			b, _, err := c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
			if err == nil && (deref(b.Host) != "host-1" || b.Epoch != 2 || running && b.Status != structs.ContainerRunning) {
				err = fmt.Errorf("its status is %s on %s, epoch %d (%s)", b.Status, deref(b.Host), b.Epoch, deref(b.StatusReason))
			}
			return err
		}
	}
	c.eventually("the container is placed on the other host", within, moved(false))
	c.eventually("the container runs on the other host", patience, moved(true))
}

// only waits until an engine has exactly these containers of the host.
func (c *cluster) only(e *engine, hostID string, ids ...string) {
	c.Helper()
	c.eventually("the engine has exactly the containers of the host", time.Minute, func() error {
		list, err := e.list(hostID)
		if err != nil {
			return err
		}
		for _, s := range list {
			if !strings.Contains(strings.Join(ids, " "), s.container) {
				return fmt.Errorf("it still has %s of epoch %s", s.container, s.epoch)
			}
		}
		if len(list) != len(ids) {
			return fmt.Errorf("it has %d containers, not %d", len(list), len(ids))
		}
		return nil
	})
}

func (c *cluster) status(id string) *structs.ContainerBody {
	c.Helper()
	b, _, err := c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return b
}

// times returns when the last run of a container on an engine began and ended.
func (c *cluster) times(e *engine, hostID, id string) (began, ended time.Time) {
	c.Helper()
	list, err := e.list(hostID)
	if err != nil {
		c.Fatal(err)
	}
	for _, s := range list {
		if s.container != id {
			continue
		}
		info, err := e.ContainerInspect(context.Background(), s.id)
		if err != nil {
			c.Fatal(err)
		}
		began, _ = time.Parse(time.RFC3339Nano, info.State.StartedAt)
		ended, _ = time.Parse(time.RFC3339Nano, info.State.FinishedAt)
		return began, ended
	}
	return began, ended
}

// TestHostIsLost: a host ends with its agent and engine. What may move is placed
// elsewhere within 15 s, and runs there. Exclusive containers wait for an operator. When the host is back, it has no container that runs
// elsewhere (I4, I5).
func TestHostIsLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	h := c.addHost()
	made := c.on(h, c.policy("always", "always"), c.exclusive("one", structs.ExclusiveYes), c.policy("no", "no"))
	always, one, no := made[0].UUID, made[1].UUID, made[2].UUID

	began := time.Now()
	h.agent.kill()
	h.own.kill()
	c.awaitMoved(always, patience)
	t.Logf("lost host to replacement running elsewhere: %v", time.Since(began).Round(100*time.Millisecond))
	for _, id := range []string{one, no} {
		if b := c.status(id); b.Status != structs.ContainerUnknown || deref(b.Host) != "host-2" || b.Epoch != 1 {
			t.Errorf("%s is %s on %s, epoch %d", b.Name, b.Status, deref(b.Host), b.Epoch)
		}
	}
	c.checkReason(c.status(one), "magnum host-fence host-2")
	if r := c.magnum("host-fence", "host-1"); r.code == 0 || !strings.Contains(r.stderr, "is ready") {
		t.Errorf("a ready host was fenced: %+v", r)
	}
	c.magnum("host-fence", "host-2").must(t)
	c.awaitMoved(one, patience)

	h.own.start()
	h.agent.start()
	c.only(h.engine, h.hostID(), no)
	c.only(c.engine, c.hostID(), always, one)
	c.await(no, structs.ContainerStopped) // it ended with its engine
	if err := c.engine.noDuplicates(c.hostID()); err != nil {
		t.Error(err)
	}
	for _, id := range []string{always, one} {
		if b := c.status(id); b.Status != structs.ContainerRunning || b.Epoch != 2 {
			t.Errorf("%s is %s, epoch %d", b.Name, b.Status, b.Epoch)
		}
	}
	c.deleteAll([]string{always, one, no})
}

// TestLongHostIsCutOff: an agent runs, but reaches no server. A container with
// a lease is stopped there before it runs elsewhere; an exclusive one without a
// lease runs on.
func TestLongHostIsCutOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	h := c.addHost()
	made := c.on(h, c.policy("always", "always"), c.exclusive("one", structs.ExclusiveYes), c.exclusive("lease", structs.ExclusiveLease))
	always, one, lease := made[0].UUID, made[1].UUID, made[2].UUID
	time.Sleep(12 * time.Second) // longer than a lease, so it was renewed
	before := h.engine.started(h.hostID())

	h.cut.Store(true)
	c.awaitMoved(always, patience)
	c.awaitMoved(lease, patience)
	_, ended := c.times(h.engine, h.hostID(), lease)
	again, _ := c.times(c.engine, c.hostID(), lease)
	t.Logf("the copy with a lease ended %v before the other one began", again.Sub(ended).Round(time.Millisecond))
	if ended.IsZero() || ended.Year() < 2000 || !ended.Before(again) {
		t.Errorf("two copies ran at a time: one until %v, the other one from %v", ended, again)
	}
	if now := h.engine.started(h.hostID()); now[lease] != before[lease] || now[one] != before[one] {
		t.Errorf("started at %v, and now %v", before, now)
	}

	h.cut.Store(false)
	c.only(h.engine, h.hostID(), one)
	if b := c.await(one, structs.ContainerRunning); b.Epoch != 1 || deref(b.Host) != "host-2" {
		t.Errorf("%s is on %s, epoch %d", b.Name, deref(b.Host), b.Epoch)
	}
	if now := h.engine.started(h.hostID()); now[one] != before[one] { // I6
		t.Errorf("the exclusive container began at %s, and now at %s", before[one], now[one])
	}
	c.deleteAll([]string{always, one, lease})
}

// TestDrain: a drain starts the new copy and stops what may not move. An
// undrain starts that again.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	h := c.addHost()
	made := c.on(h, c.policy("always", "always"), c.policy("no", "no"))
	r := c.magnum("host-drain", "-deadline", "3s", "host-2")
	r.must(t)
	if !strings.Contains(r.stderr, "host-2: drained") {
		t.Errorf("progress:\n%s", r.stderr)
	}
	c.awaitMoved(made[0].UUID, patience)
	if b := c.status(made[1].UUID); b.Status != structs.ContainerStopped {
		t.Errorf("what can't move is %s", b.Status)
	}
	c.magnum("host-undrain", "host-2").must(t)
	c.await(made[1].UUID, structs.ContainerRunning)
	c.deleteAll([]string{made[0].UUID, made[1].UUID})
}
