package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// Agent is the fake agent of a host. It talks to the server over HTTP like a real one, and
// reports each container as desired at once, unless Behave changes that.
type Agent struct {
	HostID string
	Secret string

	url          string // URL of the server
	registration atomic.Uint64
	register     structs.HostRegister
	behave       func(structs.Assignment) *structs.Observed
	parts        func(structs.Assignment, *structs.Observed) []structs.PartReport
	more         func(structs.Assignment, *structs.ContainerReport)
	serve        func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn)

	stop func() // ends run and waits for it

	mu   sync.Mutex // guards what follows
	seq  uint64
	work map[string]structs.Assignment // last assignment by the workload's ID
}

// AgentOption is an option of StartAgent.
type AgentOption func(*Agent, *structs.HostRegister)

// Behave sets the function that returns the report for an assignment; it returns nil for
// no report.
func Behave(f func(structs.Assignment) *structs.Observed) AgentOption {
	return func(a *Agent, _ *structs.HostRegister) { a.behave = f }
}

// Parts sets the function that returns the report of a pod's containers, beside what is
// observed of the pod.
func Parts(f func(a structs.Assignment, seen *structs.Observed) []structs.PartReport) AgentOption {
	return func(a *Agent, _ *structs.HostRegister) { a.parts = f }
}

// Serve sets the function that serves sessions. Without it the agent closes them.
func Serve(f func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn)) AgentOption {
	return func(a *Agent, _ *structs.HostRegister) { a.serve = f }
}

// Fingerprint replaces the fingerprint with which the agent registers.
func Fingerprint(f structs.Fingerprint) AgentOption {
	return func(_ *Agent, r *structs.HostRegister) { r.Fingerprint = f }
}

// Obey returns the report of an assignment that is carried out.
func Obey(a structs.Assignment) *structs.Observed {
	now := time.Now().UTC().Truncate(time.Second)
	o := &structs.Observed{Generation: a.Generation}
	switch a.Desired {
	case structs.DesiredCreated:
		o.Status = structs.ContainerStopped
	case structs.DesiredRunning:
		o.Status, o.StartedAt, o.Addresses = structs.ContainerRunning, now, []string{"172.18.0.2"}
	case structs.DesiredPaused:
		o.Status, o.StartedAt = structs.ContainerPaused, now
	case structs.DesiredStopped:
		code := 0
		o.Status, o.StartedAt, o.FinishedAt, o.ExitCode = structs.ContainerStopped, now, now, &code
	case structs.DesiredAbsent:
		o.Status = structs.ContainerGone
	}
	return o
}

// ObeyParts returns the report of a pod's containers that are as the pod is observed.
func ObeyParts(a structs.Assignment, seen *structs.Observed) (parts []structs.PartReport) {
	if a.Pod == nil || seen.Status == structs.ContainerGone {
		return nil
	}
	part := func(name string, s structs.PartState) structs.PartReport {
		return structs.PartReport{Part: name, Observed: structs.Observed{Status: seen.Status, Generation: seen.Generation}, State: s,
			Ready: s.State == structs.PartRunning, Started: s.State == structs.PartRunning, ImageID: "sha256:1"}
	}
	ended := structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonCompleted, ExitCode: new(int),
		StartedAt: seen.StartedAt, FinishedAt: seen.StartedAt}
	for i := range a.Pod.Spec.InitContainers {
		parts = append(parts, part(a.Pod.Spec.InitContainers[i].Name, ended))
	}
	for i := range a.Pod.Spec.Containers {
		state := structs.PartState{State: structs.PartRunning, StartedAt: seen.StartedAt}
		if seen.Status == structs.ContainerStopped {
			state = ended
		}
		parts = append(parts, part(a.Pod.Spec.Containers[i].Name, state))
	}
	return append(parts, part(structs.PodInfra, structs.PartState{}))
}

// StartAgent registers a host with the server and runs its agent until the test ends.
func (s *Server) StartAgent(t testing.TB, name string, options ...AgentOption) *Agent {
	t.Helper()
	return StartAgent(s.ctx, t, s.URL, name, options...)
}

// StartAgent registers a host with the server at the URL and runs its agent until the
// test, or ctx, ends.
func StartAgent(ctx context.Context, t testing.TB, url, name string, options ...AgentOption) *Agent {
	t.Helper()
	a := &Agent{
		HostID: structs.NewID(), Secret: structs.NewSecret(), url: url,
		behave: Obey, parts: ObeyParts, more: func(structs.Assignment, *structs.ContainerReport) {},
		work: make(map[string]structs.Assignment),
	}
	a.register = structs.HostRegister{
		HostID: a.HostID, Name: name, JoinToken: JoinToken, Secret: a.Secret,
		Fingerprint: structs.Fingerprint{
			Backend: structs.BackendDocker, EngineVersion: "20.10.24", AgentVersion: "0.0.0-test", OS: "linux", Cores: 4,
			Memory: 8 << 30, Disk: 100 << 30, Addresses: []string{"192.0.2.10"},
			Kinds: []structs.WorkloadKind{structs.WorkloadContainer, structs.WorkloadPod},
		},
	}
	for _, o := range options {
		o(a, &a.register)
	}
	if err := a.enlist(ctx); err != nil {
		t.Fatalf("register host: %v", err)
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { a.run(ctx, &running) })
	a.stop = func() {
		stop()
		running.Wait()
	}
	t.Cleanup(a.stop)
	return a
}

// enlist registers the host.
func (a *Agent) enlist(ctx context.Context) error {
	var registered structs.HostRegistered
	if err := a.call(ctx, http.MethodPost, "/v1/agent/hosts", a.register, &registered); err != nil {
		return err
	}
	a.registration.Store(registered.Registration)
	return nil
}

// run polls for work and reports it until ctx ends. It registers again once, if a server asks
// for that.
func (a *Agent) run(ctx context.Context, running *sync.WaitGroup) {
	var index, incarnation uint64
	again := false
	for ctx.Err() == nil {
		var work structs.Work
		path := fmt.Sprintf("/v1/agent/hosts/%s/work?index=%d&incarnation=%d&wait=30s", a.HostID, index, incarnation)
		if err := a.call(ctx, http.MethodGet, path, nil, &work); err != nil {
			if !again && errors.Is(err, errConflict) {
				again = a.enlist(ctx) == nil
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		index, incarnation = work.Index, work.Incarnation
		for _, offer := range work.Sessions {
			running.Go(func() { a.session(ctx, offer) })
		}
		for _, assignment := range work.Assignments {
			a.mu.Lock()
			a.work[assignment.Ref().ID] = assignment
			a.mu.Unlock()
			if seen := a.behave(assignment); seen != nil {
				report := structs.ReportOf(assignment.Ref())
				report.Observed, report.Parts = *seen, a.parts(assignment, seen)
				a.more(assignment, &report)
				_ = a.Send(ctx, report) // the test notices a lost report
			}
		}
	}
}

// Assigned returns the last assignment of a container or pod to the host.
func (a *Agent) Assigned(id string) (structs.Assignment, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	assignment, ok := a.work[id]
	return assignment, ok
}

// Report reports the observed state of one container.
func (a *Agent) Report(ctx context.Context, containerID string, epoch uint64, seen structs.Observed) error {
	return a.Send(ctx, structs.ContainerReport{ContainerID: containerID, Epoch: epoch, Observed: seen})
}

// Send reports what is observed of one workload.
func (a *Agent) Send(ctx context.Context, r structs.ContainerReport) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	report := structs.StatusReport{Registration: a.registration.Load(), Seq: a.seq, Containers: []structs.ContainerReport{r}}
	return a.call(ctx, http.MethodPost, "/v1/agent/hosts/"+a.HostID+"/status", report, nil)
}

// session connects to the server for an offered session and serves it.
func (a *Agent) session(ctx context.Context, offer structs.SessionOffer) {
	url := strings.Replace(a.url, "http", "ws", 1) + "/v1/agent/hosts/" + a.HostID + "/sessions/" + offer.SID
	if offer.ServerID != "" {
		url += "?via=" + offer.ServerID
	}
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, HTTPHeader: a.header()})
	if err != nil {
		return // the client of the session has gone
	}
	defer conn.CloseNow()
	if a.serve != nil {
		a.serve(ctx, offer, conn)
	}
}

func (a *Agent) header() http.Header {
	h := http.Header{"Authorization": {"Bearer " + a.Secret}}
	h.Set("X-Magnum-Registration", fmt.Sprint(a.registration.Load()))
	h.Set(structs.HeaderUnderstands, structs.UnderstandsSpec)
	return h
}

var errConflict = errors.New("the server answers with a conflict")

// call makes one call to the server and decodes the answer into out, unless that is nil.
func (a *Agent) call(ctx context.Context, method, path string, body, out any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	r.Header = a.header()
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return errConflict
	default:
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// Send writes one message of a session on a channel.
func Send(ctx context.Context, conn *websocket.Conn, channel byte, payload string) error {
	return conn.Write(ctx, websocket.MessageBinary, append([]byte{channel}, payload...))
}

// Stop ends the agent without a word to the server, as a power failure does.
func (a *Agent) Stop() { a.stop() }
