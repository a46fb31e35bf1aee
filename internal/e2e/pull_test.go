//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// requestWithImage is a request for a container of a pushed image.
func (c *cluster) requestWithImage(name string, p *pushed) *structs.ContainerRequest {
	r := c.request(name, sleepScript)
	r.Image = p.ref
	return r
}

// createOnly creates and starts a container without waiting for it.
func (c *cluster) createOnly(r *structs.ContainerRequest) string {
	c.Helper()
	body, _, err := c.client.Containers().Create(c.ctx(), r, api.CreateOptions{Run: true})
	if err != nil {
		c.Fatalf("create %s: %v", *r.Name, err)
	}
	return body.UUID
}

// awaitReason waits until a container's status reason has the words.
func (c *cluster) awaitReason(id string, words ...string) *structs.ContainerBody {
	c.Helper()
	var body *structs.ContainerBody
	c.eventually(fmt.Sprintf("the status reason of container %s has %q", id, words), time.Minute, func() (err error) {
		body, _, err = c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
		for _, w := range words {
			if err == nil && !strings.Contains(deref(body.StatusReason), w) {
				err = fmt.Errorf("it is %s (%s)", body.Status, deref(body.StatusReason))
			}
		}
		return err
	})
	return body
}

// events returns the statuses in the events of a container, up to the first one
// that is last.
func (c *cluster) events(id string, last structs.ContainerStatus) (statuses []string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	err := c.client.Events(ctx, api.EventOptions{Index: 1, Type: structs.KindContainer, UUID: id},
		func(e structs.EventBody, _ json.RawMessage) error {
			if e.Event == "tick" {
				return nil
			}
			if statuses = append(statuses, e.Status); e.Status == string(last) {
				return enough
			}
			return nil
		})
	if !errors.Is(err, enough) {
		c.Errorf("the events of %s are %v, without %s: %v", id, statuses, last, err)
	}
	return statuses
}

// sentences collects a container's status reasons until stop is called. stop
// returns each of them once.
func (c *cluster) sentences(id string) (stop func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var all []string
	var wait sync.WaitGroup
	wait.Go(func() {
		o := api.QueryOptions{}
		for ctx.Err() == nil {
			body, meta, err := c.client.Containers().Get(ctx, id, o)
			if err != nil {
				return
			}
			if s := deref(body.StatusReason); s != "" && !slices.Contains(all, s) {
				all = append(all, s)
			}
			o = api.QueryOptions{Index: meta.Index, Wait: 10 * time.Second}
		}
	})
	return func() []string {
		cancel()
		wait.Wait()
		return all
	}
}

// TestPulls: who may pull an image, what is fetched, and how often.
func TestPulls(t *testing.T) {
	t.Parallel()
	shareCluster(t,
		sharedTest{"policies", pullPolicies}, sharedTest{"credentials", pullWithCredentials}, sharedTest{"image-pull", imagePull},
		sharedTest{"one for many", onePullForMany}, sharedTest{"slow", slowPull})
}

// TestPullsThatFail: a pull is cut, the agent is killed during a pull, or the
// registry is down.
func TestPullsThatFail(t *testing.T) {
	t.Parallel()
	shareCluster(t, sharedTest{"cut", pullThatIsCut}, sharedTest{"agent killed", pullOutlivesTheAgent},
		sharedTest{"registry away", registryAway})
}

// pullWithCredentials: only containers with the right credentials run. The
// others get a reason that says what to do. The password is shown nowhere.
func pullWithCredentials(t *testing.T, c *cluster) {
	password := "hush-" + structs.NewID()
	r := newRegistry(t, password)
	image := r.push("private", 100_000)
	ask := func(name string, creds *structs.Registry) *structs.ContainerRequest {
		req := c.requestWithImage(name, image)
		req.Registry, req.PullPolicy = creds, structs.PullAlways
		return req
	}
	for name, creds := range map[string]*structs.Registry{
		"none": nil, "wrong": {Username: "me", Password: "not-" + password}, "stranger": {Username: "you", Password: password},
	} {
		b := c.create(ask(name, creds), structs.ContainerError)
		if creds == nil {
			c.checkReason(b, image.ref, "its registry asks for credentials", "registry.username and registry.password")
		} else {
			c.checkReason(b, image.ref, "its registry refuses user "+creds.Username, "check registry.username and registry.password")
		}
		if list := c.events(b.UUID, structs.ContainerError); slices.Contains(list, string(structs.ContainerRunning)) {
			t.Errorf("%s went through %v", name, list)
		}
	}
	for _, path := range append(image.layers, image.path) {
		if n := r.passed(path); strings.Contains(path, "/blobs/") && n != 0 {
			t.Errorf("%d bytes of %s were sent without credentials", n, path)
		}
	}
	right := c.create(ask("right", &structs.Registry{Username: "me", Password: password}), structs.ContainerRunning)
	c.events(right.UUID, structs.ContainerRunning)
	for _, path := range image.layers {
		if r.passed(path) == 0 {
			t.Errorf("nothing of %s was fetched", path)
		}
	}
	// The image is on the host by now, but a pull without credentials is still refused.
	c.checkReason(c.create(ask("late", nil), structs.ContainerError), "its registry asks for credentials")

	// The command line reads the password from standard input.
	made := magnum(t, []string{"MAGNUM_ADDR=" + c.addr}, password, "container-run", "-d", "-name", "cli", "-pull", "always",
		"-registry-username", "me", "-registry-password-stdin", image.ref, "sh", "-c", sleepScript)
	made.must(t)
	id := strings.TrimSpace(made.stdout)
	c.await(id, structs.ContainerRunning)
	for what, text := range map[string]string{
		"container-show": c.magnum("container-show", "-json", id).must(t), "container-list": c.magnum("container-list", "-json").must(t),
		"docker inspect": fmt.Sprint(c.inspected(id)),
	} {
		if strings.Contains(text, password) {
			t.Errorf("I12: %s shows the password", what)
		}
	}
	c.act(right.UUID, api.Stop)
	for _, p := range []*process{c.server, c.agent} {
		b, err := os.ReadFile(p.log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), password) {
			t.Errorf("I12: the log of the %s has the password", p.name)
		}
	}
}

// imagePull: image-pull puts an image on the host, with credentials if needed.
// A second pull fetches nothing.
func imagePull(t *testing.T, c *cluster) {
	password := "hush-" + structs.NewID()
	open, private := newRegistry(t, ""), newRegistry(t, password)
	pull := func(stdin string, args ...string) result {
		t.Helper()
		return magnum(t, []string{"MAGNUM_ADDR=" + c.addr}, stdin, append([]string{"image-pull"}, args...)...)
	}
	for name, r := range map[string]*registry{"open": open, "private": private} {
		image, stdin, args := r.push(name, 100_000), "", []string{"-json"}
		if r == private {
			if r := pull("", image.ref); r.code != 1 || r.stdout != "" ||
				!strings.Contains(r.stderr, "Pull on host host-1 failed: image "+image.ref) ||
				!strings.Contains(r.stderr, "asks for credentials") {
				t.Errorf("a pull without credentials: %+v", r)
			}
			if r := pull("not-"+password, "-registry-username", "me", "-registry-password-stdin", image.ref); r.code != 1 ||
				!strings.Contains(r.stderr, "refuses user me") {
				t.Errorf("a pull with a wrong password: %+v", r)
			}
			stdin, args = password+"\n", append(args, "-registry-username", "me", "-registry-password-stdin")
		}
		for i, path := range image.layers {
			if n := r.count("GET", path); n != 0 {
				t.Errorf("layer %d of %s was fetched %d times before the pull", i, name, n)
			}
		}
		args = append(args, image.ref)
		for range 2 {
			done := pull(stdin, args...)
			var hosts []structs.HostResult
			if err := json.Unmarshal([]byte(done.must(t)), &hosts); err != nil || len(hosts) != 1 || hosts[0].Host != "host-1" ||
				hosts[0].Result != structs.ResultSuccess || !slices.Equal(hosts[0].Images, []string{image.ref}) {
				t.Errorf("the pull of %s ends with %v, %v", name, hosts, err)
			}
			if !strings.Contains(done.stderr, "host-1: pulling "+image.ref) || strings.Contains(done.stdout+done.stderr, password) {
				t.Errorf("the progress of the pull of %s is %q", name, done.stderr)
			}
		}
		for i, path := range image.layers {
			if n := r.count("GET", path); n != 1 {
				t.Errorf("layer %d of %s was fetched %d times by two pulls", i, name, n)
			}
		}
		info, err := c.engine.ImageInspect(c.ctx(), image.ref)
		if err != nil || !slices.Contains(r.images, info.ID) {
			t.Errorf("the engine has %s as %q, %v", image.ref, info.ID, err)
		}
		if out := c.magnum("image-list", "-name", image.ref, "-format", "{{.host}} {{.id}} {{.in_use}}").must(t); out != "host-1 "+
			info.ID+" false\n" {
			t.Errorf("image-list says %q of %s", out, name)
		}
	}
	// Containers use the pulled image without the registry.
	open.down()
	image := open.addr + "/open:1"
	c.magnum("container-run", "-d", "-name", "at-once", image, "sh", "-c", sleepScript).must(t)
	if out := c.magnum("image-list", "-name", image, "-format", "{{.in_use}}").must(t); out != "true\n" {
		t.Errorf("an image that is in use: %q", out)
	}
	for _, p := range []*process{c.server, c.agent} {
		b, err := os.ReadFile(p.log)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), password) {
			t.Errorf("I12: the log of the %s has the password", p.name)
		}
	}
}

// inspected returns the engine's raw description of a container.
func (c *cluster) inspected(id string) string {
	c.Helper()
	_, raw, err := c.engine.ContainerInspectWithRaw(context.Background(), c.onEngine(id).id, false)
	if err != nil {
		c.Fatal(err)
	}
	return string(raw)
}

// pullThatIsCut: the connection breaks twice in the middle of a layer. The
// status reason says so, and in the end the container runs.
func pullThatIsCut(t *testing.T, c *cluster) {
	r := newRegistry(t, "")
	image := r.push("cut", 4_000_000)
	big := image.layers[1]
	var mu sync.Mutex
	cuts := 0
	r.bodies(func(path string, w io.Writer, body io.Reader) error {
		mu.Lock()
		cut := path == big && cuts < 2
		if cut {
			cuts++
		}
		mu.Unlock()
		if cut {
			_, err := io.CopyN(w, body, 1_000_000)
			return errors.Join(err, errors.New("cut"))
		}
		_, err := io.Copy(w, body)
		return err
	})
	id := c.createOnly(c.requestWithImage("cut", image))
	said := c.sentences(id)
	c.awaitReason(id, "pulling "+image.ref, "trying again")
	c.await(id, structs.ContainerRunning)
	t.Logf("the status reasons were %q", said())
	if n := r.count("GET", big); n != 3 {
		t.Errorf("the layer that was cut twice was asked for %d times, want 3", n)
	}
	// A retry goes on where the attempt before ended.
	if n := r.passed(big); n > 4_100_000 {
		t.Errorf("%d bytes were fetched of a layer of 4 MB", n)
	}
	if list := c.events(id, structs.ContainerRunning); slices.Contains(list, string(structs.ContainerError)) {
		t.Errorf("it went through %v", list)
	}
	c.awaitDesired()
}

var progress = regexp.MustCompile(`: \d+ of 2 layers, ([0-9.]+) of [0-9.]+ MB`)

// slowPull: the status reason shows the progress of a slow pull, and a delete
// ends the pull at once.
func slowPull(t *testing.T, c *cluster) {
	r := newRegistry(t, "")
	image := r.push("slow", 20_000_000)
	big := image.layers[1]
	r.bodies(func(path string, w io.Writer, body io.Reader) error {
		if path != big {
			_, err := io.Copy(w, body)
			return err
		}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.CopyN(w, body, 50_000); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-w.(*flushed).done():
				return io.ErrClosedPipe
			}
		}
	})
	id := c.createOnly(c.requestWithImage("slow", image))
	said := c.sentences(id)
	amounts := make(map[string]bool)
	c.eventually("the status reason has shown three amounts", time.Minute, func() error {
		b, _, err := c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
		if err != nil {
			return err
		}
		if m := progress.FindStringSubmatch(deref(b.StatusReason)); m != nil {
			amounts[m[1]] = true
		}
		if b.Status != structs.ContainerCreating {
			t.Fatalf("it is %s (%s)", b.Status, deref(b.StatusReason))
		}
		if len(amounts) < 3 {
			return fmt.Errorf("it has shown %v", amounts)
		}
		return nil
	})
	began := time.Now()
	if _, err := c.client.Containers().Delete(c.ctx(), id, api.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(id)
	c.eventually("no stream from the registry is open", time.Minute, func() error {
		if n := r.streams(); n > 0 {
			return fmt.Errorf("%d streams are open", n)
		}
		return nil
	})
	took := time.Since(began)
	t.Logf("the delete took %v; the status reasons were %q", took, said())
	if r.passed(big) > 15_000_000 {
		t.Errorf("the delete took %v, and %d bytes were fetched", took, r.passed(big))
	}
	if list, err := c.engine.list(c.hostID()); err != nil || len(list) != 0 {
		t.Errorf("the engine has %v, %v", list, err)
	}
}

// registryAway: a pull from a registry that is down is an error that says what
// to do. The container runs without any action once the registry is back.
func registryAway(t *testing.T, c *cluster) {
	r := newRegistry(t, "")
	image := r.push("away", 100_000)
	r.down()
	b := c.create(c.requestWithImage("away", image), structs.ContainerError)
	c.checkReason(b, image.ref, "connection refused", "check", "tried again in", "start it")
	epoch := b.Epoch
	r.up()
	c.eventually("it runs", 2*time.Minute, func() error {
		b, _, err := c.client.Containers().Get(c.ctx(), b.UUID, api.QueryOptions{})
		if err == nil && b.Status != structs.ContainerRunning {
			err = fmt.Errorf("it is %s (%s)", b.Status, deref(b.StatusReason))
		}
		return err
	})
	b = c.await(b.UUID, structs.ContainerRunning)
	if reason := deref(b.StatusReason); reason != "" || b.Epoch != epoch {
		t.Errorf("it runs under epoch %d, was %d, with reason %q", b.Epoch, epoch, reason)
	}
	c.awaitDesired()

	// A start by the user retries at once.
	other := r.push("away-too", 100_000)
	r.down()
	b = c.create(c.requestWithImage("away-too", other), structs.ContainerError)
	r.up()
	c.act(b.UUID, api.Start)
	c.await(b.UUID, structs.ContainerRunning)
	c.awaitDesired()
}

// onePullForMany: fifty containers wait for one fetch.
func onePullForMany(t *testing.T, c *cluster) {
	const many = 50
	r := newRegistry(t, "")
	image := r.push("many", 1_000_000)
	gate := make(chan struct{})
	r.bodies(func(path string, w io.Writer, body io.Reader) error {
		if path == image.layers[1] {
			<-gate
		}
		_, err := io.Copy(w, body)
		return err
	})
	var ids []string
	for i := range many {
		body, _, err := c.client.Containers().Create(c.ctx(), c.requestWithImage(fmt.Sprint("many-", i), image), api.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, body.UUID)
	}
	for _, id := range ids {
		c.awaitReason(id, "pulling "+image.ref)
	}
	close(gate)
	for _, id := range ids {
		c.await(id, structs.ContainerStopped)
	}
	for _, path := range image.layers {
		if n := r.count("GET", path); n != 1 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	if n := r.count("GET", image.path) + r.count("HEAD", image.path); n > 2 {
		t.Errorf("the manifest was asked for %d times", n)
	}
	c.awaitDesired()
	c.deleteAll(ids)
}

// pullOutlivesTheAgent: the agent is killed during a pull. The next instance
// gets the container running, once. The engine discards even complete layers
// when the last pull of the image ends, so they are fetched again.
func pullOutlivesTheAgent(t *testing.T, c *cluster) {
	r := newRegistry(t, "")
	image := r.push("outlives", 1_000_000, 1_000_000)
	last := image.layers[2]
	gate := make(chan struct{})
	r.bodies(func(path string, w io.Writer, body io.Reader) error {
		if path == last {
			select {
			case <-gate:
			case <-w.(*flushed).done():
				return io.ErrClosedPipe
			}
		}
		_, err := io.Copy(w, body)
		return err
	})
	id := c.createOnly(c.requestWithImage("outlives", image))
	c.awaitReason(id, "2 of 3 layers")
	c.agent.kill()
	c.agent.start()
	c.eventually("the new agent asks for the layer", time.Minute, func() error {
		if n := r.count("GET", last); n < 2 {
			return fmt.Errorf("it was asked for %d times", n)
		}
		return nil
	})
	close(gate)
	b := c.await(id, structs.ContainerRunning)
	for _, path := range image.layers {
		if n := r.count("GET", path); n > 2 {
			t.Errorf("%s was asked for %d times by two agents", path, n)
		}
	}
	if b.Epoch != 1 {
		t.Errorf("it runs under epoch %d", b.Epoch)
	}
	if list := c.events(id, structs.ContainerRunning); slices.Contains(list, string(structs.ContainerError)) {
		t.Errorf("it went through %v", list)
	}
	c.awaitDesired()
}

// pullPolicies: always asks the registry each time, ifnotpresent only for a
// missing image, and never never.
func pullPolicies(t *testing.T, c *cluster) {
	r := newRegistry(t, "")
	image := r.push("policies", 100_000)
	ask := func(name, policy string) *structs.ContainerRequest {
		req := c.requestWithImage(name, image)
		req.PullPolicy = policy
		return req
	}
	c.checkReason(c.create(ask("never-1", structs.PullNever), structs.ContainerError), image.ref, "not on the host", "never",
		"ifnotpresent")
	if n := r.requests(); n != 0 {
		t.Errorf("never made %d requests", n)
	}
	c.create(ask("lacking", structs.PullIfNotPresent), structs.ContainerRunning)
	if n := r.count("GET", image.layers[1]); n != 1 {
		t.Errorf("a missing layer was fetched %d times", n)
	}
	n := r.requests()
	c.create(ask("there", structs.PullIfNotPresent), structs.ContainerRunning)
	c.create(ask("default", ""), structs.ContainerRunning)
	c.create(ask("never-2", structs.PullNever), structs.ContainerRunning)
	if now := r.requests(); now != n {
		t.Errorf("an image on the host was requested: %d requests, before %d", now, n)
	}
	// Another image is pushed under the same name.
	old := image.layers[0]
	image = r.push("policies", 100_000)
	b := c.create(ask("always", structs.PullAlways), structs.ContainerRunning)
	if n := r.count("GET", image.layers[0]); n != 1 || image.layers[0] == old {
		t.Errorf("the new layer was fetched %d times", n)
	}
	n = r.requests()
	c.create(ask("again", structs.PullAlways), structs.ContainerRunning)
	if r.requests() == n || r.count("GET", image.layers[0]) != 1 {
		t.Errorf("always made %d requests, and fetched the layer %d times", r.requests()-n, r.count("GET", image.layers[0]))
	}
	// The policy is for the create: a stop and a start do not ask the registry.
	n = r.requests()
	c.act(b.UUID, api.Stop)
	c.act(b.UUID, api.Start)
	if now := r.requests(); now != n {
		t.Errorf("a start made %d requests", now-n)
	}
	c.awaitDesired()
}
