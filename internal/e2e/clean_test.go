//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// tenants is three servers with tokens, and one host with an engine of its own: what is
// removed there is no other test's.
type tenants struct {
	*threeServers
	registry           *registry // asks for a password; on the host
	front              *dockertest.Front
	admin, alpha, beta string // tokens; the last two of the projects of these names
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	n := newNet(t)
	n.engines = true
	h := n.host("host-1")
	c := &tenants{threeServers: &threeServers{cluster: &cluster{TB: t, dir: t.TempDir()}, net: n}}
	own := newOwnEngines(t, h)[0]
	c.engine, c.engines = engineAt(t, own.host), map[string]*ownEngine{"host-1": own}
	t.Cleanup(c.cleanup)
	c.registry = newRegistryOn(t, h, "hush")
	c.startServers("-auth", "token")
	c.eventually("there is a first token", patience, func() error {
		r := c.as("", "operator", "bootstrap", "-q")
		if c.admin = strings.TrimSpace(r.stdout); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	for _, s := range c.servers {
		client, err := api.New(api.Config{Address: s.addr, Token: c.admin})
		if err != nil {
			t.Fatal(err)
		}
		s.client = client
	}
	c.client = c.servers[0].client
	c.awaitAll()
	for project, token := range map[string]*string{"alpha": &c.alpha, "beta": &c.beta} {
		*token = strings.TrimSpace(c.as(c.admin, "token-create", "-project", project, "-q").must(t))
	}
	var err error
	if c.front, err = dockertest.NewFrontOf(filepath.Join(c.dir, "front.sock"), "", own.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.front.Close() })
	c.change = func(p *process) {
		for i, arg := range p.args {
			if arg == own.host {
				p.args[i] = c.front.Host
			}
		}
	}
	c.addAgent("host-1", "-registry", c.registry.addr)
	return c
}

// as runs the CLI with a token.
func (c *tenants) as(token string, args ...string) result {
	c.Helper()
	return c.with(token, "", args...)
}

func (c *tenants) with(token, stdin string, args ...string) result {
	c.Helper()
	var addrs []string
	for _, s := range c.servers {
		addrs = append(addrs, s.addr)
	}
	return magnum(c.TB, []string{"MAGNUM_ADDR=" + strings.Join(addrs, ","), "OS_TOKEN=" + token}, stdin, args...)
}

// host returns the host from any server that answers.
func (c *tenants) host() (*structs.HostBody, error) {
	var failed error
	for _, s := range c.servers {
		h, _, err := s.client.Hosts().Get(c.ctx(), "host-1", api.QueryOptions{})
		if err == nil {
			return h, nil
		}
		failed = err
	}
	return nil, failed
}

// awaitCleaning waits until a cleaning of alpha's things has failed more often than before,
// for a reason with the words. It returns the number of failures. All that time beta
// doesn't have the host.
func (c *tenants) awaitCleaning(words string, before int) (attempts int) {
	c.Helper()
	c.eventually("the cleaning says "+words, 2*patience, func() error {
		h, err := c.host()
		if err != nil {
			return err
		}
		if bay := deref(h.BayUUID); bay != "" && bay != c.bay.UUID || !h.CleanedAt.IsZero() {
			c.Fatalf("the host is in bay %s, cleaned at %v", bay, h.CleanedAt)
		}
		if h.State != structs.HostCleaning || h.Cleaning == nil || h.Cleaning.ProjectID != "alpha" || h.Cleaning.Attempts <= before ||
			!strings.Contains(deref(h.Cleaning.Reason), words) {
			return fmt.Errorf("it is %s (%s), %+v", h.State, deref(h.StateReason), h.Cleaning)
		}
		attempts = h.Cleaning.Attempts
		return nil
	})
	return attempts
}

// left returns what the engine has of a project: volumes and networks.
func (c *tenants) left(project string) (all []string) {
	c.Helper()
	its := filters.NewArgs(filters.Arg("label", "magnum.project="+project))
	volumes, err := c.engine.VolumeList(context.Background(), volume.ListOptions{Filters: its})
	if err != nil {
		c.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		all = append(all, v.Labels["magnum.volume"])
	}
	networks, err := c.engine.NetworkList(context.Background(), dockernetwork.ListOptions{Filters: its})
	if err != nil {
		c.Fatal(err)
	}
	for _, n := range networks {
		all = append(all, "network "+n.Name)
	}
	slices.Sort(all)
	return all
}

// keep has a container of the operator mount a volume of alpha. It returns the container.
func (c *tenants) keep(name string) string {
	c.Helper()
	list, err := c.engine.VolumeList(context.Background(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label",
		"magnum.volume="+name))})
	if err != nil || len(list.Volumes) != 1 {
		c.Fatalf("the volumes are %+v, %v", list, err)
	}
	made, err := c.engine.ContainerCreate(context.Background(), &container.Config{Image: image},
		&container.HostConfig{Binds: []string{list.Volumes[0].Name + ":/kept"}}, nil, nil, "operators-own")
	if err != nil {
		c.Fatal(err)
	}
	return made.ID
}

// TestHostIsCleanedForAnotherProject: alpha's bay gives its host back, with a container that
// can't be removed at first, and a volume that can't be removed for long. Meanwhile the
// leader is killed, then the engine, then the agent. Each time the host says why it is not
// clean, and beta, whose bay waits for it, gets it only once nothing of alpha is left.
func TestHostIsCleanedForAnotherProject(t *testing.T) {
	t.Parallel()
	c := newTenants(t)
	private := c.registry.push("private", 1000)
	c.as(c.alpha, "bay-create", "-name", "a", "-wait", "2m").must(t)
	given, err := c.host()
	if err != nil || given.BayUUID == nil {
		t.Fatalf("%+v, %v", given, err)
	}
	c.bay = &structs.BayBody{UUID: *given.BayUUID}
	id := strings.TrimSpace(c.with(c.alpha, c.registry.password, "container-run", "-d", "-name", "a1", "-v", "a-first:/first", "-v",
		"b-kept:/kept", "-registry-username", "me", "-registry-password-stdin", private.ref, "sh", "-c",
		"echo secret >/first/file; "+sleepScript).must(t))
	c.with(c.alpha, c.registry.password, "image-pull", "-registry-username", "me", "-registry-password-stdin",
		c.registry.push("unused", 1000).ref).must(t)
	kept := c.keep("b-kept")
	if all := c.left("alpha"); len(all) != 3 {
		t.Fatalf("alpha has %q", all)
	}
	c.as(c.beta, "bay-create", "-name", "b", "-d").must(t)
	beta, err := api.New(api.Config{Address: c.servers[0].addr, Token: c.beta})
	if err != nil {
		t.Fatal(err)
	}
	waiting := c.request("b1", sleepScript)
	waiting.BayUUID = "b"
	if _, _, err := beta.Containers().Create(c.ctx(), waiting,
		api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: -1}}); err != nil {
		t.Fatal(err)
	}

	// As long as the container is there, the host is alpha's, and the bay says why.
	c.front.Refuse(func(r *http.Request) bool {
		return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/containers/")
	})
	c.as(c.alpha, "bay-delete", "-d", "a").must(t)
	c.eventually("the container says why it is still there", 2*patience, func() error {
		says := c.as(c.alpha, "container-show", "a1", "-format", "{{.status}} {{.status_reason}}")
		if !strings.Contains(says.stdout, "device is busy") {
			return fmt.Errorf("%+v", says)
		}
		return nil
	})
	if h, err := c.host(); err != nil || h.BayUUID == nil || h.Cleaning != nil {
		t.Fatalf("the host of a container that is still there is %+v, %v", h, err)
	}
	c.front.Refuse(nil)

	failures := c.awaitCleaning("volume", 0)
	if all := c.left("alpha"); slices.Contains(all, "a-first") || !slices.Contains(all, "b-kept") {
		t.Errorf("in the middle of the cleaning alpha has %q", all)
	}
	if list := c.as(c.admin, "host-list", "-status", "cleaning", "-format", "{{.name}}").must(t); list != "host-1\n" {
		t.Errorf("hosts that are being cleaned: %q", list)
	}
	leader := c.awaitLeader()
	leader.kill()
	failures = c.awaitCleaning("volume", failures)
	leader.start()
	own := c.engines["host-1"]
	own.kill()
	failures = c.awaitCleaning("does not answer", failures)
	own.start()
	c.awaitCleaning("volume", failures)

	agent := c.agents[0]
	agent.kill()
	if err := c.engine.ContainerRemove(context.Background(), kept, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if h, err := c.host(); err != nil || h.BayUUID != nil || h.Cleaning == nil {
		t.Errorf("without an agent the host is %+v, %v", h, err)
	}
	agent.start()
	c.eventually("beta has the host", 2*patience, func() error {
		h, err := c.host()
		if err == nil && h.BayUUID == nil {
			err = fmt.Errorf("it is %s (%s), %+v", h.State, deref(h.StateReason), h.Cleaning)
		}
		return err
	})
	c.clean(id)
	c.eventually("beta's container runs", 2*patience, func() error {
		if says := c.as(c.beta, "container-show", "b1", "-format", "{{.status}} {{.status_reason}}"); !strings.HasPrefix(says.stdout,
			"Running") {
			return fmt.Errorf("%+v", says)
		}
		return nil
	})
	c.clean(id)
}

// clean checks that nothing of alpha is left on the host.
func (c *tenants) clean(containerID string) {
	c.Helper()
	if h, err := c.host(); err != nil || h.CleanedAt.IsZero() || h.Cleaning != nil || h.State != structs.HostReady {
		c.Errorf("the clean host is %+v, %v", h, err)
	}
	if all := c.left("alpha"); len(all) > 0 {
		c.Errorf("alpha has left %q", all)
	}
	list, err := c.engine.list(c.agents[0].hostID())
	if err != nil || slices.ContainsFunc(list, func(s seen) bool { return s.container == containerID }) {
		c.Errorf("the engine has %v, %v", list, err)
	}
	for _, id := range c.registry.images {
		if _, err := c.engine.ImageInspect(context.Background(), id); !errdefs.IsNotFound(err) {
			c.Errorf("alpha's image %s is there: %v", id, err)
		}
	}
	if _, err := c.engine.ImageInspect(context.Background(), image); err != nil {
		c.Errorf("the operator's image: %v", err)
	}
}
