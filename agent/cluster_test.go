package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/structs"
)

// kube is a Kubernetes cluster in memory, with the lease that its agents lead under.
type kube struct {
	mu             sync.Mutex
	holder, next   *kubeClient // the active agent, and the one that is to be active next; nil for none, and for any
	hostID, secret string
	status         structs.KubernetesCluster
	starting       bool                               // of pods: the next look at a log comes too early
	note           string                             // that the agents remember
	uid            string                             // of pods, beside a prefix
	replacePod     bool                               // they are made again during the next look at a log
	noteErr        error                              // of Recall and Remember; nil for none
	has            map[structs.Ref]structs.Assignment // by keyOf
	made           int                                // objects made or removed so far
	takes          []structs.Work
	changed        chan struct{} // closed at each change
}

func newKube() *kube {
	return &kube{
		hostID: structs.NewID(), secret: structs.NewSecret(), has: map[structs.Ref]structs.Assignment{},
		changed: make(chan struct{}), status: structs.KubernetesCluster{APIAddress: "https://kube:6443", Ready: 2},
	}
}

// change calls f under the lock and wakes Follow.
func (k *kube) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
}

// kubeClient is what one agent has of a cluster. It is a backend.Cluster.
type kubeClient struct {
	*kube
	backend.Consoles // those that a test calls are overridden

	mu     sync.Mutex
	revoke context.CancelFunc // ends the time as the active agent
	err    error              // of Follow; nil for none
}

func (c *kubeClient) Fingerprint(context.Context) (structs.Fingerprint, error) {
	c.kube.mu.Lock()
	defer c.kube.mu.Unlock()
	engine := structs.EngineIdentity{ID: "0a1b2c3d-uid"}
	return structs.Fingerprint{Backend: structs.BackendKubernetes, Engine: engine, Cluster: new(c.status)}, nil
}

func (c *kubeClient) Identity(context.Context) (hostID, secret string, err error) {
	c.kube.mu.Lock()
	defer c.kube.mu.Unlock()
	return c.hostID, c.secret, nil
}

func (c *kubeClient) Recall(context.Context) (string, error) {
	c.kube.mu.Lock()
	defer c.kube.mu.Unlock()
	return c.note, c.noteErr
}

func (c *kubeClient) Remember(_ context.Context, text string) error {
	c.kube.mu.Lock()
	defer c.kube.mu.Unlock()
	if c.noteErr == nil {
		c.note = text
	}
	return c.noteErr
}

func (c *kubeClient) Lead(ctx context.Context, f func(context.Context) error) error {
	if c.acquire(ctx) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c.mu.Lock()
		c.revoke = cancel
		c.mu.Unlock()
		err := f(ctx)
		c.change(func() { c.holder = nil })
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return nil
}

// acquire waits until the agent is the active one; false if ctx ends first.
func (c *kubeClient) acquire(ctx context.Context) bool {
	for {
		c.kube.mu.Lock()
		changed, free := c.changed, c.holder == nil && (c.next == nil || c.next == c)
		if free {
			c.holder, c.next = c, nil
		}
		c.kube.mu.Unlock()
		if free {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (c *kubeClient) isActive() bool {
	c.kube.mu.Lock()
	defer c.kube.mu.Unlock()
	return c.holder == c
}

// lose takes the lease away, and gives it to another agent.
func (c *kubeClient) lose(to *kubeClient) {
	c.change(func() { c.next = to })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoke()
}

func (c *kubeClient) Follow(ctx context.Context, owner backend.Owner, to backend.Observer) error {
	if c.err != nil {
		return c.err
	}
	for {
		c.kube.mu.Lock()
		to.SetCluster(c.status)
		for _, a := range c.has {
			r := structs.ReportOf(a.Ref())
			r.Status, r.Generation = structs.ContainerRunning, a.Generation
			switch a.Kind {
			case structs.WorkloadPod:
				r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "n1",
					Conditions: []structs.Condition{{Type: "Ready", Message: strings.Repeat("é", structs.MaxBody)}}}
			case structs.WorkloadObject:
				r.Object = &structs.ObjectReport{Service: &structs.ServiceReport{Address: "10.0.0.7",
					Endpoints: make([]structs.Endpoint, structs.MaxEndpoints+1)}}
			}
			to.Observe(r, nil)
		}
		changed := c.changed
		c.kube.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Take makes the objects that are missing, and removes those that a confirmed answer doesn't
// name.
func (c *kubeClient) Take(w *structs.Work) {
	c.change(func() {
		c.takes = append(c.takes, *w)
		named := make(map[structs.Ref]bool)
		for _, a := range w.Assignments {
			key := keyOf(a.Ref())
			named[key] = true
			if had, there := c.has[key]; !there || had.Generation != a.Generation {
				c.has[key] = a
				c.made++
			}
		}
		for key := range c.has {
			if w.Full && w.Confirmed && !named[key] {
				delete(c.has, key)
				c.made++
			}
		}
	})
}

func (c *kubeClient) Locate(ref structs.Ref) string {
	c.kube.mu.Lock()
	defer c.kube.mu.Unlock()
	if _, there := c.has[keyOf(ref).Whole()]; !there || ref.Kind != structs.WorkloadPod {
		return ""
	}
	part := ref.Part
	if part == "" {
		part = "first"
	}
	return "ns/" + ref.ID + "/uid" + c.uid + "/" + part
}

func (c *kubeClient) Logs(_ context.Context, engineID string, req structs.LogsRequest, to backend.LogStreams) error {
	c.kube.mu.Lock()
	starting := c.starting
	c.starting = false
	if c.replacePod { // while its log is followed
		c.replacePod, c.starting, c.uid = false, true, c.uid+"2"
	}
	c.kube.mu.Unlock()
	if starting {
		return &backend.Failure{Reason: backend.ErrNotRunning, Msg: "waiting to start"}
	}
	if req.Previous {
		return &backend.Failure{Reason: backend.ErrNotFound, Msg: "no previous one"}
	}
	_, err := io.WriteString(to.Stdout, engineID+"\n")
	return err
}

// Forward connects to a process that answers in upper case, or on port 81 to nothing.
func (c *kubeClient) Forward(_ context.Context, engineID string, port int) (backend.Conn, error) {
	if port == 81 {
		return &upcase{err: &backend.Failure{Msg: "nothing listens on port 81"}}, nil
	}
	return &upcase{in: bytes.NewBufferString(engineID + " "), ended: make(chan struct{})}, nil
}

// Credential returns a token that names the project; project "none" is refused.
func (c *kubeClient) Credential(_ context.Context, projectID string) (structs.BayCredentialBody, error) {
	if projectID == "none" {
		return structs.BayCredentialBody{}, structs.Errorf(structs.CodeConflict, "apply the YAML")
	}
	expires := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return structs.BayCredentialBody{Token: "token-of-" + projectID, ExpiresAt: structs.Time{Time: expires}}, nil
}

func (c *kubeClient) Close() error { return nil }

type upcase struct {
	in    *bytes.Buffer
	ended chan struct{} // closed once nothing more comes
	err   error         // of each Read; nil for none
}

func (e *upcase) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	<-e.ended
	return e.in.Read(p)
}

func (e *upcase) Write(p []byte) (int, error) {
	if e.err != nil {
		return len(p), nil
	}
	return e.in.Write(bytes.ToUpper(p))
}

func (e *upcase) CloseWrite() error {
	if e.err == nil {
		close(e.ended)
	}
	return nil
}

func (e *upcase) Close() error { return nil }

// runClusterAgent runs an agent of a cluster in dir.
func runClusterAgent(t *testing.T, dir string, k *kube, adapt func(*Config), s *fakeServer) (*running, *kubeClient) {
	t.Helper()
	c := &kubeClient{kube: k}
	return runAgent(t, dir, nil, func(conf *Config) {
		conf.Backend, conf.Cluster, conf.Name = nil, c, ""
		if adapt != nil {
			adapt(conf)
		}
	}, s), c
}

func wantObject(id string, generation uint64) structs.Assignment {
	return structs.Assignment{
		Kind: structs.WorkloadObject, ID: "service/" + id, Epoch: 1, Generation: generation, Name: id, Desired: structs.DesiredRunning,
		Object: &structs.ObjectAssignment{Kind: structs.KindService, OwnerID: id, Manifest: "kind: Service"},
	}
}

func TestAgentOfACluster(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	pod, object := wantPod("p"), wantObject("web", 1)
	s.assign(pod, object)
	dir := t.TempDir()
	r, _ := runClusterAgent(t, dir, k, func(c *Config) { c.Labels = map[string]string{"zone": "a"} }, s)
	defer r.stop()
	s.is(pod.ID, structs.ContainerRunning)
	s.is(object.ID, structs.ContainerRunning)
	k.change(func() { k.status.Away = "connection refused" })
	s.eventually("the cluster's state is reported", func() bool {
		return slices.ContainsFunc(s.reports, func(r structs.StatusReport) bool { return r.Cluster != nil && r.Cluster.Away != "" })
	})

	s.mu.Lock()
	defer s.mu.Unlock()
	reg := s.registers[0]
	if reg.HostID != k.hostID || reg.Secret != k.secret || reg.Name != "kubernetes-0a1b2c3d" {
		t.Errorf("the agent registers as %s (%s), want the cluster's identity", reg.HostID, reg.Name)
	}
	if f := reg.Fingerprint; f.Cluster == nil || f.Cluster.Ready != 2 || f.Labels["zone"] != "a" || f.Relay != (structs.Relay{}) ||
		!slices.Equal(f.Kinds, []structs.WorkloadKind{structs.WorkloadObject, structs.WorkloadPod}) {
		t.Errorf("fingerprint %+v", f)
	}
	p, o := s.reported[pod.ID].Pod, s.reported[object.ID].Object
	if p == nil || p.Node != "n1" || len(p.Conditions) != 1 || len(p.Conditions[0].Message) > maxConditionText {
		t.Errorf("the pod's part of its report is missing or unbounded")
	}
	if o == nil || o.Service == nil || o.Service.Address != "10.0.0.7" || len(o.Service.Endpoints) != structs.MaxEndpoints {
		t.Errorf("the service's part of its report is missing or unbounded")
	}
}

// TestAgentsOfAClusterTakeOver: one agent at a time registers, and what runs is left alone.
func TestAgentsOfAClusterTakeOver(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	s.assign(wantObject("web", 1))
	first, a := runClusterAgent(t, t.TempDir(), k, nil, s)
	defer first.stop()
	s.is("service/web", structs.ContainerRunning)
	second, b := runClusterAgent(t, t.TempDir(), k, nil, s)

	a.lose(b)
	s.eventually("the second agent is active", func() bool { return s.registration == 2 && b.isActive() })
	if a.isActive() {
		t.Error("two agents are active")
	}
	s.mu.Lock()
	last := s.registers[1]
	s.mu.Unlock()
	if last.HostID != k.hostID || last.Registration != 0 {
		t.Errorf("the second agent registers as %s after registration %d, want another instance", last.HostID, last.Registration)
	}
	s.assign(wantObject("db", 1)) // by a poll of the second
	s.is("service/db", structs.ContainerRunning)
	second.stop()
	s.eventually("the first agent is active again", func() bool { return s.registration == 3 && a.isActive() })
	s.assign(wantObject("mail", 1))
	s.is("service/mail", structs.ContainerRunning)
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, again := s.registers[0].Instance, s.registers[2].Instance; first == again {
		t.Error("the first agent registers as the instance that the second has superseded")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.made != 3 {
		t.Errorf("%d objects were made or removed, want the 3 that were asked for", k.made)
	}
}

// TestIdentityOfACluster: the directory follows the cluster, and another host's files are
// kept.
func TestIdentityOfACluster(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	dir := t.TempDir()
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	was, had := d.hostID, d.secret
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileJournal), []byte("another host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, c := runClusterAgent(t, dir, k, nil, s)
	s.eventually("the agent is registered", func() bool { return s.registration == 1 && c.isActive() })
	r.stop()
	for name, want := range map[string]string{
		fileHost: k.hostID, fileSecret: k.secret,
		keptPrefix + was + "/" + fileHost: was, keptPrefix + was + "/" + fileSecret: had,
		keptPrefix + was + "/" + fileJournal: "another host's",
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s holds %q (%v), want %q", name, b, err, want)
		}
	}

	// The cluster has got another identity: a new host, which has followed nothing.
	k.mu.Lock()
	k.hostID, k.secret = structs.NewID(), structs.NewSecret()
	k.mu.Unlock()
	s.change(func() { s.secret = "" })
	r, _ = runClusterAgent(t, dir, k, nil, s)
	s.eventually("the new host is registered", func() bool { return s.registration == 2 })
	r.stop()
	if last := s.registers[1]; last.HostID != k.hostID || last.Follows.ClusterID != "" {
		t.Errorf("registered as %s, following %+v", last.HostID, last.Follows)
	}
	// A secret that somebody has replaced is the same host's.
	d, err = lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.takeIdentity(k.hostID, "another secret"); err != nil || d.hostID != k.hostID || d.secret != "another secret" {
		t.Errorf("the directory is of %s: %v", d.hostID, err)
	}
	if err := d.takeIdentity("nonsense", "x"); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("an identity that is none: %v", err)
	}
}

// TestClusterKeepsWhatAnotherHistoryDoesNotName: nothing is removed because of an answer of
// another history, whatever agents with whatever data directories come, until an operator
// decides.
func TestClusterKeepsWhatAnotherHistoryDoesNotName(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	s.diverged = func(f structs.Following) bool { return f.ClusterID != "" && f.Incarnation != s.incarnation }
	db := wantObject("db", 1)
	s.assign(wantObject("web", 1), db)
	run := func(followRestore bool) *running {
		r, _ := runClusterAgent(t, t.TempDir(), k, func(c *Config) { c.FollowRestore = followRestore }, s)
		return r
	}
	taken := func(w structs.Work) bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.ContainsFunc(k.takes, func(t structs.Work) bool { return t.Full == w.Full && t.Confirmed == w.Confirmed })
	}
	r := run(false)
	s.is(db.ID, structs.ContainerRunning)
	s.eventually("an answer is judged", func() bool { return taken(structs.Work{Full: true, Confirmed: true}) })
	r.stop()

	s.change(func() { s.incarnation++; delete(s.want, db.ID) })
	k.takes = nil
	s.mu.Lock()
	tries := len(s.registers)
	s.mu.Unlock()
	r = run(false) // it doesn't follow
	s.eventually("the agent tries again to register", func() bool { return len(s.registers) >= tries+2 })
	r.stop()
	if len(k.takes) > 0 {
		t.Error("the agent follows a restored cluster without -follow-restore")
	}
	for _, followRestore := range []bool{true, false} {
		k.takes = nil
		r = run(followRestore)
		mail := wantObject("mail", 1)
		s.assign(mail) // what is named is done
		s.is(mail.ID, structs.ContainerRunning)
		s.eventually("an answer is followed", func() bool { return taken(structs.Work{Full: true}) })
		r.stop()
		if taken(structs.Work{Full: true, Confirmed: true}) {
			t.Error("an answer of another history was judged")
		}
	}
	s.mu.Lock()
	k.mu.Lock()
	if len(k.has) != 3 || !s.pending {
		t.Errorf("the cluster has %d objects, want all 3; quarantine pending: %t", len(k.has), s.pending)
	}
	k.note = "" // the operator's decision
	k.mu.Unlock()
	s.mu.Unlock()
	defer run(false).stop()
	s.eventually("what the servers don't name is removed", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.has) == 2 && !s.pending
	})
}

// TestNothingIsJudgedThatIsNotRemembered: the next agent would judge by the wrong history.
func TestNothingIsJudgedThatIsNotRemembered(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	db := wantObject("db", 1)
	k.has[keyOf(db.Ref())] = db
	away := errors.New("away")
	r, _ := runClusterAgent(t, t.TempDir(), k, nil, s)
	defer r.stop()
	s.eventually("an answer is judged", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.has) == 0
	})
	s.change(func() { s.lineage = structs.NewID() })
	k.change(func() { k.noteErr, k.has[keyOf(db.Ref())], k.takes = away, db, nil })
	s.mu.Lock()
	s.registration++ // the agent registers again, and asks for all
	s.mu.Unlock()
	s.eventually("a full answer of the other lineage comes", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.ContainsFunc(k.takes, func(w structs.Work) bool { return w.Full })
	})
	k.mu.Lock()
	if len(k.has) != 1 {
		t.Error("an answer was judged whose history is not remembered")
	}
	k.mu.Unlock()
}

// TestClusterRemovesWhatIsNotNamed is the counterpart.
func TestClusterRemovesWhatIsNotNamed(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	db := wantObject("db", 1)
	k.has[keyOf(db.Ref())] = db
	s.unconfirmed = true
	s.assign(wantObject("web", 1))
	r, _ := runClusterAgent(t, t.TempDir(), k, nil, s)
	defer r.stop()
	s.is("service/web", structs.ContainerRunning)
	s.is("service/db", structs.ContainerRunning)
	s.change(func() { s.unconfirmed = false }) // the agent asks until an answer is confirmed
	s.eventually("what isn't named is removed", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.has) == 1
	})
}

// TestTheActiveAgentGossips, and no other: they would be one member with two addresses.
func TestTheActiveAgentGossips(t *testing.T) {
	g, err := gossip.New(gossip.Config{Node: gossip.Node{ID: structs.NewID(), Name: "s", Role: gossip.RoleServer}, Bind: "127.0.0.1",
		Port: -1, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	s, k := newFakeServer(t), newKube()
	agents := func() (members []gossip.Member) {
		for _, m := range g.Members() {
			if m.Role == gossip.RoleAgent && m.State == gossip.StateAlive {
				members = append(members, m)
			}
		}
		return members
	}
	gossips := func(c *Config) { c.Gossip = &gossip.Config{Bind: "127.0.0.1", Port: -1, Join: []string{g.Addr()}} }
	first, a := runClusterAgent(t, t.TempDir(), k, gossips, s)
	s.eventually("the active agent gossips", func() bool { return len(agents()) == 1 })
	before := agents()[0]
	if before.ID != k.hostID || before.Name == "" {
		t.Errorf("it gossips as %+v", before)
	}
	second, b := runClusterAgent(t, t.TempDir(), k, gossips, s)
	a.lose(b)
	s.eventually("the next one gossips", func() bool {
		now := agents()
		return b.isActive() && len(now) == 1 && now[0].Addr != before.Addr
	})
	first.stop()
	second.stop()
}

func TestSessionsOfACluster(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	pod := wantPod("p")
	s.assign(pod)
	r, _ := runClusterAgent(t, t.TempDir(), k, nil, s)
	defer r.stop()
	s.is(pod.ID, structs.ContainerRunning)
	about := func(part string, o structs.SessionOffer) structs.SessionOffer {
		ref := pod.Ref()
		ref.Part = part
		o.SID = structs.NewID()
		o.About(ref)
		return o
	}
	log := structs.SessionOffer{Kind: structs.SessionLogs, Logs: &structs.LogsRequest{Stdout: true, Tail: -1, Follow: true}}
	if got := listen(t, s.offer(about("", log))); got.stdout != "ns/"+pod.ID+"/uid/first\n" || !got.last.Done {
		t.Errorf("logs of the first container: %+v", got)
	}
	if got := listen(t, s.offer(about("side", log))); got.stdout != "ns/"+pod.ID+"/uid/side\n" {
		t.Errorf("logs of a named container: %+v", got)
	}
	k.mu.Lock()
	k.replacePod = true
	k.mu.Unlock()
	if got := listen(t, s.offer(about("", log))); got.stdout != "ns/"+pod.ID+"/uid/first\nns/"+pod.ID+"/uid2/first\n" {
		t.Errorf("a follow of a pod that is made again: %+v", got)
	}
	log.Logs = &structs.LogsRequest{Stdout: true, Tail: -1, Previous: true}
	if got := listen(t, s.offer(about("side", log))); got.last.Code != structs.CodeNotFound || got.last.Error != "no previous one" {
		t.Errorf("previous logs: %+v", got)
	}
	conn := s.offer(about(structs.PodInfra, structs.SessionOffer{Kind: structs.SessionForward, Port: 80}))
	say(t, conn, structs.ChannelStdin, "hello")
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got := listen(t, conn); got.stdout != "ns/"+pod.ID+"/uid2/first HELLO" || !got.last.Done {
		t.Errorf("forward: %+v", got)
	}
	conn = s.offer(about(structs.PodInfra, structs.SessionOffer{Kind: structs.SessionForward, Port: 81}))
	if got := listen(t, conn); got.last.Error != "nothing listens on port 81" {
		t.Errorf("forward to a closed port: %+v", got)
	}
	credential := structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionCredential, ProjectID: "p1"}
	want := `{"token":"token-of-p1","expires_at":"2026-01-02T03:04:05+00:00"}`
	if got := listen(t, s.offer(credential)); got.stdout != want || !got.last.Done {
		t.Errorf("credential: %+v", got)
	}
	credential.SID, credential.ProjectID = structs.NewID(), "none"
	got := listen(t, s.offer(credential))
	if got.stdout != "" || got.last.Code != structs.CodeConflict || got.last.Error != "apply the YAML" {
		t.Errorf("refused credential: %+v", got)
	}
	credential.SID, credential.ProjectID = structs.NewID(), ""
	if got := listen(t, s.offer(credential)); got.stdout != "" || got.last.Code != structs.CodeInvalid {
		t.Errorf("credential of no project: %+v", got)
	}
	images := structs.SessionOffer{SID: "images", Kind: structs.SessionImageList}
	if got := listen(t, s.offer(images)); got.last.Code != structs.CodeInvalid {
		t.Errorf("images: %+v", got)
	}
}

// TestAgentOfAClusterEndsWithAnError: what ends the active agent's work otherwise than by its
// lease ends the agent.
func TestAgentOfAClusterEndsWithAnError(t *testing.T) {
	s, k := newFakeServer(t), newKube()
	broken := errors.New("broken")
	r, _ := runClusterAgent(t, t.TempDir(), k, func(c *Config) { c.Cluster.(*kubeClient).err = broken }, s)
	if err := <-r.done; !errors.Is(err, broken) {
		t.Errorf("the agent ends with %v", err)
	}
}

func TestConfigHasABackendOrACluster(t *testing.T) {
	for name, adapt := range map[string]func(*Config){
		"none": func(c *Config) {},
		"both": func(c *Config) { c.Cluster, c.Backend = new(kubeClient), struct{ backend.Backend }{} },
	} {
		c := Config{Servers: []string{"s"}, DataDir: t.TempDir(), Name: "h", JoinToken: "token"}
		adapt(&c)
		if _, err := New(c); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "backend") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
