package agent

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/structs"
)

func TestConfigRefused(t *testing.T) {
	good := Config{Servers: []string{"127.0.0.1"}, DataDir: "/d", Name: "n", JoinToken: "t", Backend: backendtest.NewFake()}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"servers":  func(c *Config) { c.Servers = nil },
		"address":  func(c *Config) { c.Servers = []string{"ftp://x"} },
		"dir":      func(c *Config) { c.DataDir = "" },
		"name":     func(c *Config) { c.Name = strings.Repeat("x", 256) },
		"a name":   func(c *Config) { c.Name = "a\nb" },
		"TLS":      func(c *Config) { c.TLS.Key = "key" },
		"CA":       func(c *Config) { c.TLS.CA = "/nowhere/ca.pem" },
		"join":     func(c *Config) { c.Gossip = &gossip.Config{Bind: "127.0.0.1", Join: []string{"http://x"}} },
		"bind":     func(c *Config) { c.Gossip = &gossip.Config{Bind: "s1"} },
		"token":    func(c *Config) { c.JoinToken = "" },
		"backend":  func(c *Config) { c.Backend = nil },
		"sessions": func(c *Config) { c.MaxSessions = -1 },
		"backoff":  func(c *Config) { c.Backoff = -1 },
		"relay":    func(c *Config) { c.Relay.Port = 65536 },
		"to dial":  func(c *Config) { c.Relay.Addr = "192.0.2.1:9514" },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: error is %v, want CodeInvalid", name, err)
		}
	}
}

func TestContainerFromCreateToDelete(t *testing.T) {
	s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
	r := runAgent(t, dir, fake, func(c *Config) { c.Labels, c.Version = map[string]string{"zone": "a"}, "1.2" }, s)
	a := want("a", 1, structs.DesiredRunning)
	s.assign(a)
	s.is("a", structs.ContainerRunning)
	s.eventually("second poll", func() bool { return len(s.polls) >= 2 })
	s.mu.Lock()
	if reg := s.registers[0]; !structs.IsID(reg.HostID) || reg.Fingerprint.Labels["zone"] != "a" || reg.Fingerprint.AgentVersion != "1.2" ||
		reg.Fingerprint.Cores != 2 {
		t.Errorf("registered with %+v", reg)
	}
	if p := s.polls[0]; p.index != 0 || p.wait != time.Second {
		t.Errorf("first poll is %+v", p)
	}
	s.mu.Unlock()
	a = next(a, structs.DesiredPaused)
	s.assign(a)
	s.is("a", structs.ContainerPaused)

	// A restart changes nothing. The agent registers as the same host, asks for a full
	// answer, and reports everything.
	r.stop()
	s.mu.Lock()
	clear(s.reported)
	s.mu.Unlock()
	r = runAgent(t, dir, fake, nil, s)
	s.is("a", structs.ContainerPaused)
	s.mu.Lock()
	if n := len(s.registers); n != 2 || s.registers[0].HostID != s.registers[1].HostID || s.registers[0].Secret != s.registers[1].Secret {
		t.Errorf("%d registrations", n)
	}
	// The server may take the first instance's last poll only now.
	if first := slices.IndexFunc(s.polls, func(p poll) bool { return p.registration == "2" }); first < 0 || s.polls[first].index != 0 {
		t.Errorf("the first poll after the restart is number %d of %+v", first, s.polls)
	}
	s.mu.Unlock()
	if n := fake.Seen.Starts(ref(a)); n != 1 {
		t.Errorf("started %d times", n)
	}
	a = next(a, structs.DesiredAbsent)
	s.assign(a)
	s.eventually("it is gone", func() bool { return len(s.want) == 0 })
	r.stop()
	if n := len(fake.Seen.Containers()); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}

// TestOneUnreadableAssignmentIsReported: the agent carries out the other assignments,
// deletes the unreadable one's container if asked to, and carries it out once it is
// readable.
func TestOneUnreadableAssignmentIsReported(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	s.garble = func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(`"hostname":"odd"`), []byte(`"hostname":5`))
	}
	odd, rid := want("odd", 1, structs.DesiredRunning), want("rid", 1, structs.DesiredRunning)
	odd.Spec.Hostname, rid.Spec.Hostname = "odd", "odd"
	s.assign(odd, rid, want("even", 1, structs.DesiredRunning))
	r := runAgent(t, t.TempDir(), fake, nil, s)
	s.is("even", structs.ContainerRunning)
	s.is("odd", structs.ContainerError)
	s.is("rid", structs.ContainerError)
	s.mu.Lock()
	if c := s.reported["odd"]; !c.Failed || c.Generation != 1 || !strings.Contains(c.Reason, "hostname") {
		t.Errorf("reported %+v", c)
	}
	s.mu.Unlock()
	s.assign(next(rid, structs.DesiredAbsent))
	s.eventually("it can be deleted", func() bool { _, left := s.want["rid"]; return !left })
	s.change(func() { s.garble, s.at["odd"] = nil, s.index })
	s.is("odd", structs.ContainerRunning)
	r.stop()
}

func TestSecondAgentOnADataDirIsRefused(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	r := runAgent(t, dir, backendtest.NewFake(), nil, s)
	s.eventually("registered", func() bool { return len(s.registers) == 1 })
	second := runAgent(t, dir, backendtest.NewFake(), nil, s)
	if err := <-second.done; structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("the second agent ends with %v", err)
	}
	r.stop()
}

func TestReportsAreNumberedAndComplete(t *testing.T) {
	s := newFakeServer(t)
	var as []structs.Assignment
	for i := range 1000 {
		as = append(as, want(strings.Repeat("x", i+1), 1, structs.DesiredRunning))
	}
	s.assign(as...)
	r := runAgent(t, t.TempDir(), backendtest.NewFake(), nil, s)
	s.eventually("all run", func() bool { return len(s.reported) == 1000 })
	// Another agent, or a restored server: the registration has ended.
	s.change(func() { s.registration += 5; clear(s.reported) })
	s.eventually("all are reported again", func() bool { return len(s.reported) == 1000 })
	r.stop()
	s.mu.Lock() // a last request may be in progress
	defer s.mu.Unlock()
	seq := map[uint64]uint64{}
	for _, report := range s.reports {
		seq[report.Registration]++
		if report.Seq != seq[report.Registration] || len(report.Containers) == 0 || len(report.Containers) > structs.MaxReport {
			t.Fatalf("report %d of registration %d, want %d, with %d containers", report.Seq, report.Registration, seq[report.Registration],
				len(report.Containers))
		}
	}
	if len(s.reports) > 1000 {
		t.Errorf("%d reports: nothing was gathered", len(s.reports))
	}
}

func TestReportIsRepeatedUnderItsNumber(t *testing.T) {
	s := newFakeServer(t)
	failing := 5
	s.refuse = func(path string) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		if strings.HasSuffix(path, "/status") && failing > 0 {
			failing--
			return http.StatusServiceUnavailable
		}
		return 0
	}
	s.assign(want("a", 1, structs.DesiredRunning))
	r := runAgent(t, t.TempDir(), backendtest.NewFake(), nil, s)
	s.is("a", structs.ContainerRunning)
	r.stop()
	s.mu.Lock() // a last request may be in progress
	defer s.mu.Unlock()
	if s.reports[0].Seq != 1 {
		t.Errorf("the first report that is taken has number %d", s.reports[0].Seq)
	}
}

func TestWrongTokenIsTriedAgain(t *testing.T) {
	s := newFakeServer(t)
	r := runAgent(t, t.TempDir(), backendtest.NewFake(), func(c *Config) { c.JoinToken = "wrong" }, s)
	s.eventually("three tries", func() bool { return len(s.registers) >= 3 })
	r.stop()
	s.mu.Lock() // a last request may be in progress
	defer s.mu.Unlock()
	if s.registration != 0 || len(s.polls) != 0 {
		t.Errorf("registration %d, %d polls", s.registration, len(s.polls))
	}
}

// TestJoinTokenIsNeededForNewHostsOnly: a registered host needs none.
func TestJoinTokenIsNeededForNewHostsOnly(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	bare := Config{Servers: []string{s.URL}, DataDir: dir, Name: "h", Backend: backendtest.NewFake()}
	if _, err := New(bare); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("a new host without a token: %v", err)
	}
	engine := backendtest.NewFake() // on another engine it would be another host
	r := runAgent(t, dir, engine, nil, s)
	s.eventually("registered", func() bool { return s.registration == 1 })
	r.stop()
	r = runAgent(t, dir, engine, func(c *Config) { c.JoinToken = "" }, s)
	s.eventually("registered without a token", func() bool { return s.registration == 2 })
	r.stop()
}

// runningHost runs an agent until container a runs, and ends it.
func runningHost(t *testing.T, s *fakeServer, fake *backendtest.Fake, dir string) structs.Assignment {
	t.Helper()
	a := want("a", 1, structs.DesiredRunning)
	s.assign(a)
	r := runAgent(t, dir, fake, nil, s)
	s.is("a", structs.ContainerRunning)
	r.stop()
	return a
}

// untouched fails unless container a has been started once and still runs.
func untouched(t *testing.T, fake *backendtest.Fake, a structs.Assignment) {
	t.Helper()
	if c, ok := fake.Seen.Containers()[ref(a)]; !ok || !c.Live() || fake.Seen.Starts(ref(a)) != 1 || fake.Seen.Stops(ref(a)) != 0 ||
		len(fake.Seen.Containers()) != 1 {
		t.Fatalf("containers were touched: %+v", fake.Seen.Containers())
	}
}

func TestForeignClusterIsNotFollowed(t *testing.T) {
	s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
	a := runningHost(t, s, fake, dir)
	other := newFakeServer(t)
	other.cluster, other.index = "c2", 1000
	other.assign(want("b", 1, structs.DesiredRunning))
	r := runAgent(t, dir, fake, nil, other)
	other.eventually("three tries", func() bool { return len(other.registers) >= 3 })
	untouched(t, fake, a)
	r.stop()
	if len(other.polls) != 0 {
		t.Errorf("%d polls of another cluster", len(other.polls))
	}

	// The server's cluster changes while the agent runs.
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("registered again", func() bool { return len(s.registers) >= 2 })
	s.change(func() { s.cluster, s.want = "c3", map[string]structs.Assignment{} })
	polls := s.polled()
	s.eventually("polls", func() bool { return len(s.polls) > polls+3 })
	untouched(t, fake, a)
	r.stop()
}

func TestOlderStateIsNotFollowed(t *testing.T) {
	s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
	a := runningHost(t, s, fake, dir)
	// The server has lost its state, and confirms that answer.
	s.change(func() { s.index, s.want = 3, map[string]structs.Assignment{} })
	r := runAgent(t, dir, fake, nil, s)
	s.eventually("polls", func() bool { return len(s.polls) > 5 })
	untouched(t, fake, a)
	// Once the server has caught up, the agent follows it.
	s.change(func() { s.index = 500 })
	s.eventually("it goes", func() bool { return len(fake.Seen.Containers()) == 0 })
	r.stop()
}

func TestUnconfirmedAnswerRemovesNothing(t *testing.T) {
	s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
	a := runningHost(t, s, fake, dir)
	s.change(func() { s.want, s.unconfirmed = map[string]structs.Assignment{}, true })
	r := runAgent(t, dir, fake, nil, s)
	polls := s.polled()
	s.eventually("polls", func() bool { return len(s.polls) > polls+2 })
	untouched(t, fake, a)
	r.stop()
}

func TestRestoredClusterIsFollowedOnlyWithFollowRestore(t *testing.T) {
	s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
	a := runningHost(t, s, fake, dir)
	s.change(func() { s.incarnation, s.index, s.want = 1, 2, map[string]structs.Assignment{} })
	r := runAgent(t, dir, fake, nil, s)
	s.eventually("three tries", func() bool { return len(s.registers) >= 4 })
	untouched(t, fake, a)
	r.stop()
	r = runAgent(t, dir, fake, func(c *Config) { c.FollowRestore = true }, s)
	b := want("b", 1, structs.DesiredRunning)
	s.assign(b)
	s.is("b", structs.ContainerRunning)
	r.stop()
	if c, ok := fake.Seen.Containers()[ref(a)]; !ok || !c.Live() {
		t.Fatal("a container that the restored cluster does not know was removed")
	}
	// The agent still follows after another restart, without the flag.
	r = runAgent(t, dir, fake, nil, s)
	polls := s.polled()
	s.eventually("polls", func() bool { return len(s.polls) > polls+1 })
	r.stop()
	if c := fake.Seen.Containers()[ref(a)]; !c.Live() {
		t.Fatal("the quarantine was forgotten")
	}
	// The earlier incarnation has ended.
	s.change(func() { s.incarnation, s.index = 0, 1_000_000 })
	r = runAgent(t, dir, fake, func(c *Config) { c.FollowRestore = true }, s)
	s.mu.Lock()
	n := len(s.registers)
	s.mu.Unlock()
	s.eventually("tries", func() bool { return len(s.registers) > n+2 })
	r.stop()
	if len(fake.Seen.Containers()) != 2 {
		t.Fatalf("containers are %v", fake.Seen.Containers())
	}
}

func TestMovesToAnotherServer(t *testing.T) {
	good, bad := newFakeServer(t), newFakeServer(t)
	bad.refuse = func(string) int { return http.StatusServiceUnavailable }
	gone := newFakeServer(t)
	gone.Close()
	good.assign(want("a", 1, structs.DesiredRunning))
	r := runAgent(t, t.TempDir(), backendtest.NewFake(), nil, bad, gone, good)
	good.is("a", structs.ContainerRunning)
	r.stop()
}

func TestSilentServerIsLeft(t *testing.T) {
	silent, good := newFakeServer(t), newFakeServer(t)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	silent.refuse = func(path string) int {
		if strings.HasSuffix(path, "/work") {
			<-hang
		}
		return 0
	}
	good.assign(want("a", 1, structs.DesiredRunning))
	// Both servers are of one cluster and share the registrations.
	r := runAgent(t, t.TempDir(), backendtest.NewFake(), nil, silent, good)
	good.is("a", structs.ContainerRunning)
	r.stop()
}

func TestServerAwayChangesNothing(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := want("a", 1, structs.DesiredRunning)
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, nil, s)
	s.is("a", structs.ContainerRunning)
	s.mu.Lock()
	s.refuse = func(string) int { return http.StatusServiceUnavailable }
	s.mu.Unlock()
	s.CloseClientConnections()
	fake.Outside.Kill(ref(a))
	s.mu.Lock()
	s.refuse = nil
	s.mu.Unlock()
	s.is("a", structs.ContainerStopped)
	r.stop()
}

func TestEngineAwayAtTheStart(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	fake.Outside.Down()
	r := runAgent(t, t.TempDir(), fake, nil, s)
	s.assign(want("a", 1, structs.DesiredRunning))
	fake.Outside.Up()
	s.is("a", structs.ContainerRunning)
	r.stop()
}

func TestRemoveOnStop(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	s.assign(want("a", 1, structs.DesiredRunning), want("b", 1, structs.DesiredCreated))
	r := runAgent(t, t.TempDir(), fake, func(c *Config) { c.RemoveOnStop = true }, s)
	s.eventually("both are there", func() bool { return len(s.reported) == 2 })
	r.stop()
	if n := len(fake.Seen.Containers()); n != 0 {
		t.Fatalf("%d containers are left", n)
	}
}

func TestUnwritableDataDirIsRefused(t *testing.T) {
	a, err := New(Config{Servers: []string{"127.0.0.1:1"}, DataDir: "/proc/none", Name: "n", JoinToken: "t",
		Backend: backendtest.NewFake()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || errors.Is(err, t.Context().Err()) {
		t.Fatalf("error is %v", err)
	}
}
