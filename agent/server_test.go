package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// fakeServer is the servers' side of an agent, with faults that tests choose.
type fakeServer struct {
	*httptest.Server
	t testing.TB

	mu           sync.Mutex
	changed      chan struct{} // closed at each change
	cluster      string
	incarnation  uint64
	index        uint64
	registration uint64
	secret       string
	registers    []structs.HostRegister
	noGossip     bool // the servers advise against gossip
	polls        []poll
	reports      []structs.StatusReport
	reported     map[string]structs.ContainerReport
	want         map[string]structs.Assignment
	at           map[string]uint64 // the index at which want changed
	offers       []structs.SessionOffer
	unconfirmed  bool
	lease        time.Duration
	bay          *string        // the host's bay; nil: the answers don't name it
	mute         bool           // polls are not acknowledged
	deny         *structs.Error // the answer to registrations; nil for none
	lineage      string
	diverged     func(structs.Following) bool // nil: no agent has followed another history
	pending      bool
	quarantine   map[structs.QuarantineRef]structs.Quarantined
	decidedAt    map[structs.QuarantineRef]uint64
	refuse       func(path string) int // the status to answer instead; 0 for none
	garble       func([]byte) []byte   // changes the answers to polls; nil for none
	dialed       chan *websocket.Conn
}

type poll struct {
	index, incarnation uint64
	wait               time.Duration
	sent               uint64
	registration       string
	behind             bool
}

func newFakeServer(t testing.TB) *fakeServer {
	s := &fakeServer{
		t: t, changed: make(chan struct{}), cluster: "c1", index: 10,
		reported: map[string]structs.ContainerReport{}, want: map[string]structs.Assignment{}, at: map[string]uint64{},
		dialed: make(chan *websocket.Conn, 10), lineage: structs.NewID(),
		quarantine: map[structs.QuarantineRef]structs.Quarantined{}, decidedAt: map[structs.QuarantineRef]uint64{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/agent/hosts", s.register)
	mux.HandleFunc("GET /v1/agent/hosts/{id}/work", s.work)
	mux.HandleFunc("POST /v1/agent/hosts/{id}/status", s.status)
	mux.HandleFunc("GET /v1/agent/hosts/{id}/sessions/{sid}", s.session)
	mux.HandleFunc("POST /v1/agent/hosts/{id}/quarantine", s.quarantined)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		refuse := s.refuse
		s.mu.Unlock()
		if refuse != nil {
			if status := refuse(r.URL.Path); status != 0 {
				http.Error(w, "no", status)
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	return s
}

// change calls f under the server's lock, and wakes polls.
func (s *fakeServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// polled returns the number of polls so far.
func (s *fakeServer) polled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.polls)
}

func (s *fakeServer) assign(as ...structs.Assignment) {
	s.change(func() {
		for _, a := range as {
			s.want[a.Ref().ID], s.at[a.Ref().ID] = a, s.index
		}
	})
}

func (s *fakeServer) register(w http.ResponseWriter, r *http.Request) {
	var req structs.HostRegister
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		s.t.Errorf("register: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registers = append(s.registers, req)
	if s.deny != nil {
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []structs.ErrorItem{{Code: s.deny.Kind + "." + string(s.deny.Code),
			Hint: s.deny.Hint, Detail: s.deny.Msg}}})
		return
	}
	if s.secret == "" && req.JoinToken != "token" || s.secret != "" && s.secret != req.Secret {
		http.Error(w, "wrong join token or secret", http.StatusUnauthorized)
		return
	}
	s.secret = req.Secret
	s.registration++
	answer := structs.HostRegistered{
		ClusterID: s.cluster, Incarnation: s.incarnation, Registration: s.registration, HostLostAfter: 3 * time.Second,
		Lease: s.lease, NoGossip: s.noGossip,
	}
	if s.diverged != nil && s.diverged(req.Follows) {
		s.pending = true
		answer.Diverged, answer.Lineage, answer.Index = true, s.lineage, s.index
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// decide sets an operator's decision about a placement in quarantine.
func (s *fakeServer) decide(ref structs.QuarantineRef, a structs.Adoption) {
	s.change(func() {
		k := s.quarantine[ref]
		k.Adoption = a
		s.quarantine[ref], s.decidedAt[ref] = k, s.index
	})
}

func (s *fakeServer) quarantined(w http.ResponseWriter, r *http.Request) {
	if !s.known(w, r) {
		return
	}
	var report structs.QuarantineReport
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		s.t.Errorf("quarantine: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range report.Kept {
		ref := structs.QuarantineRefOf(k.Ref())
		k.Adoption = s.quarantine[ref].Adoption
		s.quarantine[ref] = k
	}
	for _, ref := range report.Ended {
		delete(s.quarantine, ref)
	}
	s.pending = s.pending && !report.Judged
	_ = json.NewEncoder(w).Encode(structs.QuarantineReported{Index: s.index})
}

// known checks an agent's credentials.
func (s *fakeServer) known(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer "+s.secret || s.secret == "":
		http.Error(w, "who are you", http.StatusUnauthorized)
	case r.Header.Get("X-Magnum-Registration") != strconv.FormatUint(s.registration, 10):
		http.Error(w, "not the last registration", http.StatusConflict)
	default:
		return true
	}
	return false
}

func (s *fakeServer) work(w http.ResponseWriter, r *http.Request) {
	if !s.known(w, r) {
		return
	}
	number := func(key string) uint64 {
		n, err := strconv.ParseUint(r.FormValue(key), 10, 64)
		if err != nil {
			s.t.Errorf("poll's %s: %v", key, err)
		}
		return n
	}
	wait, err := time.ParseDuration(r.FormValue("wait"))
	if err != nil {
		s.t.Errorf("poll's wait: %v", err)
	}
	var sent uint64
	if r.FormValue("sent") != "" {
		sent = number("sent")
	}
	p := poll{index: number("index"), incarnation: number("incarnation"), wait: wait, sent: sent,
		registration: r.Header.Get("X-Magnum-Registration"), behind: r.FormValue("behind") == "true"}
	s.mu.Lock()
	s.polls = append(s.polls, p)
	at := structs.Following{ClusterID: s.cluster, Incarnation: p.incarnation, Lineage: r.FormValue("lineage")}
	if at.Lineage != "" {
		at.Index = number("seen")
	}
	diverged := s.diverged != nil && s.diverged(at)
	s.mu.Unlock()
	if diverged {
		http.Error(w, "another history", http.StatusConflict)
		return
	}
	for timeout := time.After(wait); ; {
		s.mu.Lock()
		if r.Context().Err() != nil { // an offer is sent only to a poll that still waits
			s.mu.Unlock()
			return
		}
		answer := structs.Work{ClusterID: s.cluster, Incarnation: s.incarnation, Index: s.index, Full: p.index == 0,
			Confirmed: p.index == 0 && !s.unconfirmed, Sessions: s.offers, BayID: s.bay}
		for id, a := range s.want {
			if p.index == 0 || s.at[id] > p.index {
				answer.Assignments = append(answer.Assignments, a)
			}
		}
		answer.Lineage, answer.Pending = s.lineage, answer.Full && s.pending
		for ref, k := range s.quarantine {
			if answer.Full || k.Adoption != "" && s.decidedAt[ref] > p.index {
				answer.Quarantine = append(answer.Quarantine, k)
			}
		}
		if !s.mute {
			answer.Acknowledged, answer.Lease = sent, s.lease
		}
		changed, garble := s.changed, s.garble
		s.offers = nil
		s.mu.Unlock()
		if answer.Full || len(answer.Assignments) > 0 || len(answer.Quarantine) > 0 || len(answer.Sessions) > 0 || timeout == nil {
			body, _ := json.Marshal(answer)
			if garble != nil {
				body = garble(body)
			}
			_, _ = w.Write(body)
			return
		}
		select {
		case <-changed:
		case <-timeout:
			timeout = nil
		case <-r.Context().Done():
			return
		}
	}
}

func (s *fakeServer) status(w http.ResponseWriter, r *http.Request) {
	if !s.known(w, r) {
		return
	}
	var report structs.StatusReport
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		s.t.Errorf("report: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, report)
	for _, c := range report.Containers {
		s.reported[c.Ref().ID] = c
		if a := s.want[c.Ref().ID]; c.Status == structs.ContainerGone && a.Desired == structs.DesiredAbsent {
			delete(s.want, c.Ref().ID)
		}
	}
	_ = json.NewEncoder(w).Encode(structs.StatusReported{Index: s.index, Seq: report.Seq})
}

func (s *fakeServer) session(w http.ResponseWriter, r *http.Request) {
	if !s.known(w, r) {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.t.Errorf("session: %v", err)
		return
	}
	s.dialed <- conn // the connection outlives this handler
}

// offer offers a session and returns the agent's connection.
func (s *fakeServer) offer(o structs.SessionOffer) *websocket.Conn {
	s.t.Helper()
	s.change(func() { s.offers = append(s.offers, o) })
	select {
	case conn := <-s.dialed:
		s.t.Cleanup(func() { _ = conn.CloseNow() })
		return conn
	case <-time.After(patience):
		s.t.Fatal("the agent does not dial back")
		return nil
	}
}

// patience is the longest wait for a condition.
const patience = time.Minute

// eventually waits until ok is true. ok is called under the server's lock.
func (s *fakeServer) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		s.mu.Lock()
		done := ok()
		s.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("not within %s: %s; reported %+v", patience, what, s.reported)
		}
	}
}

// is waits until the last report of the container has the status.
func (s *fakeServer) is(id string, status structs.ContainerStatus) {
	s.t.Helper()
	s.eventually(id+" is "+string(status), func() bool { return s.reported[id].Status == status })
}

// running is a running agent.
type running struct {
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
}

func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Fatalf("run: %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("the agent does not end")
	}
}

// runAgent runs an agent of the servers in dir until stop is called.
func runAgent(t testing.TB, dir string, b backend.Backend, adapt func(*Config), servers ...*fakeServer) *running {
	t.Helper()
	conf := Config{DataDir: dir, Name: "h", JoinToken: "token", Backend: b, Backoff: 20 * time.Millisecond,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Off})}
	for _, s := range servers {
		conf.Servers = append(conf.Servers, s.URL)
	}
	if adapt != nil {
		adapt(&conf)
	}
	a, err := New(conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}
