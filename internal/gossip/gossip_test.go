package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/structs"
)

// logBuffer collects log output. It is safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// count returns how many lines contain the text.
func (b *logBuffer) count(text string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// fast makes all intervals about ten times shorter than the defaults.
func fast(t *timing) {
	t.retryMin, t.retryMax, t.reconnect = 20*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	t.list.ProbeInterval, t.list.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
	t.list.GossipInterval, t.list.PushPullInterval = 20*time.Millisecond, time.Second
}

// TestWarnsWithoutKeyOffLoopback: without a key anyone who reaches the port can pretend
// to be any process.
func TestWarnsWithoutKeyOffLoopback(t *testing.T) {
	key := bytes.Repeat([]byte("k"), 16)
	for name, tt := range map[string]struct {
		bind string
		key  []byte
		want int
	}{"all addresses": {"0.0.0.0", nil, 1}, "with a key": {"0.0.0.0", key, 0}, "loopback": {"127.0.0.1", nil, 0}} {
		p := newProcess(t, "s", func(c *Config) { c.Bind, c.Advertise, c.Key = tt.bind, "127.0.0.1", tt.key })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := p.logs.count("give all of them the same -encrypt, which \"magnum keygen\" makes"); got != tt.want {
			t.Errorf("%s: %d warnings, want %d", name, got, tt.want)
		}
	}
}

// process is a Gossip run by a test.
type process struct {
	*Gossip
	t    testing.TB
	logs *logBuffer
	stop func() // ends Run, which leaves, and waits for it
}

// newProcess opens a process with a default Config, which change may modify.
func newProcess(t testing.TB, name string, change func(*Config)) *process {
	t.Helper()
	p := &process{t: t, logs: &logBuffer{}}
	c := Config{
		Node: Node{ID: structs.NewID(), Name: name, Role: RoleServer, Schema: structs.SchemaVersion, Version: "test"},
		Bind: "127.0.0.1", Port: -1, tune: fast,
		Logger: hclog.New(&hclog.LoggerOptions{Output: p.logs, Level: hclog.Debug}),
	}
	if change != nil {
		change(&c)
	}
	g, err := New(c)
	if err != nil {
		t.Fatalf("process %s does not open: %v", name, err)
	}
	p.Gossip = g
	t.Cleanup(g.Close)
	return p
}

// start opens a process and runs it.
func start(t testing.TB, name string, change func(*Config)) *process {
	t.Helper()
	p := newProcess(t, name, change)
	p.run()
	return p
}

func (p *process) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				p.t.Errorf("Run of %s returned %v", p.Node.Name, err)
			}
		})
	}
	p.t.Cleanup(p.stop)
}

// kill ends a process without announcing it, as a crash does.
func (p *process) kill() { p.Close() }

// sees waits until p has other as a member for which fits returns true.
func (p *process) sees(other *process, what string, fits func(Member) bool) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%s sees %s %s", p.Node.Name, other.Node.Name, what), func() bool {
		for _, m := range p.Members() {
			if m.ID == other.Node.ID {
				return fits(m)
			}
		}
		return false
	})
}

func (p *process) seesState(other *process, state State) {
	p.t.Helper()
	p.sees(other, string(state), func(m Member) bool { return m.State == state && m.Addr == other.Addr() })
}

// eventually waits until ok returns true. Changes of the members wake it.
func (p *process) eventually(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.After(time.Minute)
	for {
		changed := p.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond): // for conditions that no change of the members announces
		case <-deadline:
			p.t.Fatalf("not seen in 20s: %s\nmembers of %s: %+v\n%s", what, p.Node.Name, p.Members(), p.logs.buf.String())
		}
	}
}

func (p *process) knows(other *process) bool {
	for _, m := range p.Members() {
		if m.ID == other.Node.ID {
			return true
		}
	}
	return false
}

func TestJoinByOneSeedFindsAll(t *testing.T) {
	a := start(t, "a", nil)
	seed := func(c *Config) { c.Join = []string{a.Addr()} }
	b := start(t, "b", seed)
	c := start(t, "c", func(c *Config) { seed(c); c.Node.Role = RoleAgent })
	all := []*process{a, b, c}
	for _, p := range all {
		for _, other := range all {
			p.seesState(other, StateAlive)
		}
	}
	if names := fmt.Sprint(a.Members()[0].Name, a.Members()[1].Name, a.Members()[2].Name); names != "abc" {
		t.Errorf("members are sorted as %s, want abc", names)
	}
	if servers := c.Servers(); len(servers) != 2 || servers[0].ID != a.Node.ID || servers[1].ID != b.Node.ID {
		t.Errorf("servers are %+v, want a and b", servers)
	}
}

func TestProcessesWithEqualNamesAreTwoMembers(t *testing.T) {
	a := start(t, "host", nil)
	b := start(t, "host", func(c *Config) { c.Join = []string{a.Addr()} })
	a.seesState(b, StateAlive)
	if n := len(a.Members()); n != 2 {
		t.Errorf("%d members, want 2", n)
	}
}

func TestJoinRetriesUntilSeedStarts(t *testing.T) {
	port := freeport.Take(t)
	late := fmt.Sprintf("localhost:%d", port)
	a := start(t, "a", func(c *Config) { c.Join = []string{"no-such-host.invalid", late} })
	a.eventually("a logs that its joins failed", func() bool { return a.logs.count("join failed, trying again") == 2 })
	b := start(t, "b", func(c *Config) { c.Port = port })
	a.seesState(b, StateAlive)
	b.seesState(a, StateAlive)
	if n := a.logs.count("join failed, trying again"); n != 2 {
		t.Errorf("failing to join was logged %d times, want once for each address", n)
	}
}

func TestRestartNeedsNoJoin(t *testing.T) {
	known := filepath.Join(t.TempDir(), "known-servers")
	a := start(t, "a", nil)
	b := start(t, "b", func(c *Config) { c.Join, c.KnownFile = []string{a.Addr()}, known })
	b.seesState(a, StateAlive)
	want := a.Addr() + " " + a.Node.ID + "\n"
	b.eventually("the file has a", func() bool { content, _ := os.ReadFile(known); return string(content) == want })
	b.stop()
	a.seesState(b, StateLeft)
	again := start(t, "b", func(c *Config) { c.Node.ID, c.KnownFile = b.Node.ID, known })
	again.seesState(a, StateAlive)
	a.seesState(again, StateAlive)
	if n := len(a.Members()); n != 2 {
		t.Errorf("%d members after the restart, want 2: %+v", n, a.Members())
	}
}

func TestInvalidLinesOfKnownFileAreSkipped(t *testing.T) {
	id := structs.NewID()
	got := parseKnown("127.0.0.1:1 " + id + "\nrubbish\n\n:5 x\n[::1]:2\n127.0.0.1:99999\nname:4\n127.0.0.1:3 not-an-id\n")
	want := map[string]string{id: "127.0.0.1:1", "[::1]:2": "[::1]:2", "127.0.0.1:3": "127.0.0.1:3"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v, want %v", got, want)
	}
	var many strings.Builder
	for i := range 2 * maxKnown {
		fmt.Fprintf(&many, "127.0.0.1:%d\n", i+1)
	}
	if n := len(parseKnown(many.String())); n != maxKnown {
		t.Errorf("%d addresses were read, want %d", n, maxKnown)
	}
	dir := t.TempDir() // a directory can't be read as a file
	p := start(t, "a", func(c *Config) { c.KnownFile = dir })
	if p.logs.count("known servers can't be read") != 1 {
		t.Error("an unreadable file is not logged")
	}
}

func TestUpdateReachesOthers(t *testing.T) {
	a := start(t, "a", func(c *Config) { c.Node.Fresh, c.Node.Expect = true, 3 })
	b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr()} })
	b.sees(a, "fresh", func(m Member) bool { return m.Fresh && m.Expect == 3 })
	if before := b.Servers(); len(before) != 2 || !before[0].Fresh { // fills the cache of Servers
		t.Errorf("servers before: %+v", before)
	}
	id := structs.NewID()
	err := a.Update(func(n *Node) {
		n.ClusterID, n.Fresh, n.Expect, n.HTTPAddr, n.RaftAddr = id, false, 0, "http://127.0.0.1:9511", "127.0.0.1:9512"
		n.ID, n.Role = "other", RoleAgent // must be ignored
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	updated := func(m Member) bool {
		return m.ClusterID == id && !m.Fresh && m.Expect == 0 && m.HTTPAddr == "http://127.0.0.1:9511" && m.RaftAddr == "127.0.0.1:9512" &&
			m.Role == RoleServer && m.Schema == structs.SchemaVersion && m.Version == "test" && m.Name == "a"
	}
	b.sees(a, "updated", updated)
	a.sees(a, "updated", updated)
	for _, g := range []*Gossip{a.Gossip, b.Gossip} {
		if after := g.Servers(); len(after) != 2 || !updated(after[0]) {
			t.Errorf("servers after: %+v", after)
		}
	}
	if err := a.Update(func(n *Node) { n.HTTPAddr = "ftp://x" }); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("an invalid HTTP address: error %v, want invalid", err)
	}
	a.sees(a, "unchanged by the refused update", updated)
}

func TestKilledProcessIsDeadUntilItRestarts(t *testing.T) {
	a := start(t, "a", nil)
	seed := func(c *Config) { c.Join = []string{a.Addr()} }
	b := start(t, "b", seed)
	c := newProcess(t, "c", func(c *Config) { seed(c); c.Join = append(c.Join, b.Addr()) })
	c.run()
	a.seesState(c, StateAlive)
	b.seesState(c, StateAlive)
	killed := time.Now()
	c.kill()
	a.seesState(c, StateDead)
	b.seesState(c, StateDead)
	if m := a.Members()[2]; m.Since.Before(killed) {
		t.Errorf("dead since %v, before it was killed at %v", m.Since, killed)
	}
	again := start(t, "c", func(cc *Config) { seed(cc); cc.Node.ID = c.Node.ID })
	a.seesState(again, StateAlive)
	b.seesState(again, StateAlive)
}

// TestRestartAtAnotherAddressIsSeenAtOnce: the others need not declare the old address
// dead first.
func TestRestartAtAnotherAddressIsSeenAtOnce(t *testing.T) {
	slow := func(t *timing) { fast(t); t.list.ProbeInterval = time.Hour } // no member is ever declared dead
	a := start(t, "a", func(c *Config) { c.tune = slow })
	b := start(t, "b", func(c *Config) { c.tune, c.Join = slow, []string{a.Addr()} })
	a.seesState(b, StateAlive)
	b.kill()
	again := newProcess(t, "b", func(c *Config) { c.tune, c.Join, c.Node.ID = slow, []string{a.Addr()}, b.Node.ID })
	if again.Addr() == b.Addr() {
		t.Skip("the kernel assigned the same port again")
	}
	again.run()
	a.seesState(again, StateAlive)
	if n := len(a.Members()); n != 2 {
		t.Errorf("%d members, want 2: %+v", n, a.Members())
	}
}

func TestStoppedProcessIsSeenAsLeft(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr()} })
	c := start(t, "c", func(c *Config) { c.Join = []string{a.Addr()} })
	a.seesState(b, StateAlive)
	c.seesState(b, StateAlive)
	began := time.Now()
	b.stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("leaving took %v", took)
	}
	a.seesState(b, StateLeft)
	c.seesState(b, StateLeft)
	if m := b.Members(); len(m) == 0 {
		t.Error("Members returns nothing after Run")
	}
}

func TestForgetRemovesDeadMemberEverywhere(t *testing.T) {
	known := filepath.Join(t.TempDir(), "known")
	a := start(t, "a", func(c *Config) { c.KnownFile = known })
	b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr()} })
	c := newProcess(t, "c", func(c *Config) { c.Join = []string{a.Addr()} })
	c.run()
	b.seesState(c, StateAlive)
	a.seesState(c, StateAlive)
	a.Forget(c.Node.ID)
	if !a.knows(c) {
		t.Error("Forget removed a member that is alive")
	}
	c.kill()
	a.seesState(c, StateDead)
	b.seesState(c, StateDead)
	a.Forget(c.Node.ID)
	if a.knows(c) {
		t.Error("a still has c after Forget")
	}
	b.eventually("b forgets c too", func() bool { return !b.knows(c) })
	a.eventually("the file has b only", func() bool {
		content, _ := os.ReadFile(known)
		return string(content) == b.Addr()+" "+b.Node.ID+"\n"
	})
	a.Forget("nobody")
}

func TestOtherKeyIsRefusedAndLoggedOnce(t *testing.T) {
	key, _ := ParseKey(NewKey())
	other, _ := ParseKey(NewKey())
	a := start(t, "a", func(c *Config) { c.Key = key })
	b := start(t, "b", func(c *Config) { c.Key, c.Join = key, []string{a.Addr()} })
	a.seesState(b, StateAlive)
	for name, wrong := range map[string][]byte{"another": other, "none": nil} {
		c := start(t, name, func(c *Config) { c.Key, c.Join = wrong, []string{a.Addr()} })
		c.triedOften()
		if n := c.logs.count("join failed, trying again"); n != 1 {
			t.Errorf("key %s: the joiner logged the failure %d times, want once", name, n)
		}
		if a.knows(c) || c.knows(a) {
			t.Errorf("key %s: the joiner became a member", name)
		}
		c.stop()
	}
	if n := a.logs.count("[ERROR]"); n < 1 || n > 2 { // two kinds of refusal, from one address
		t.Errorf("the refusals were logged %d times as errors, want once for each kind:\n%s", n, a.logs.buf.String())
	}
}

// triedOften waits until several joins of the process have failed.
func (p *process) triedOften() {
	p.t.Helper()
	p.eventually("several failed joins", func() bool { return p.logs.count("join failed again") >= 3 })
}

func TestOtherClusterNameIsRefusedAndLoggedOnce(t *testing.T) {
	a := start(t, "a", func(c *Config) { c.Cluster = "one" })
	b := start(t, "b", func(c *Config) { c.Cluster, c.Join = "two", []string{a.Addr()} })
	b.triedOften()
	if n := a.logs.count(`unacceptable label`); n != 1 {
		t.Errorf("the refusal was logged %d times, want once:\n%s", n, a.logs.buf.String())
	}
	closed := `join failed, trying again: addr=` + a.Addr() +
		` error="the process at this address closed the connection: it may have another -cluster`
	if n := b.logs.count(closed); n != 1 {
		t.Errorf("the joiner logged the refusal %d times, want once:\n%s", n, b.logs.buf.String())
	}
	if a.knows(b) || b.knows(a) {
		t.Error("the joiner became a member")
	}
}

func TestMemberOfAnotherClusterIsRefusedAndLoggedOnce(t *testing.T) {
	one, two := structs.NewID(), structs.NewID()
	a := start(t, "a", func(c *Config) { c.Node.ClusterID = one })
	b := start(t, "b", func(c *Config) { c.Node.ClusterID, c.Join = two, []string{a.Addr()} })
	b.triedOften()
	for _, p := range []*process{a, b} {
		if n := p.logs.count("member refused"); n != 1 {
			t.Errorf("%s logged the refusal %d times, want once:\n%s", p.Node.Name, n, p.logs.buf.String())
		}
	}
	if a.knows(b) || b.knows(a) {
		t.Error("the joiner became a member")
	}
}

// TestJoiningAClusterDropsMembersOfOthers: a process without a cluster may know members
// of two. Once it belongs to one, it and the members of the other drop each other.
func TestJoiningAClusterDropsMembersOfOthers(t *testing.T) {
	one, two := structs.NewID(), structs.NewID()
	fresh := start(t, "fresh", nil)
	a := start(t, "a", func(c *Config) { c.Node.ClusterID, c.Join = one, []string{fresh.Addr()} })
	b := start(t, "b", func(c *Config) { c.Node.ClusterID, c.Join = two, []string{fresh.Addr()} })
	fresh.seesState(a, StateAlive)
	fresh.seesState(b, StateAlive)
	b.seesState(fresh, StateAlive)
	if a.knows(b) || b.knows(a) {
		t.Error("members of two clusters know each other")
	}
	if err := fresh.Update(func(n *Node) { n.ClusterID = one }); err != nil {
		t.Fatal(err)
	}
	a.sees(fresh, "in its cluster", func(m Member) bool { return m.ClusterID == one && m.State == StateAlive })
	if fresh.knows(b) {
		t.Error("the process still has a member of the other cluster")
	}
	b.eventually("the other cluster drops it", func() bool { return !b.knows(fresh) })
}

// TestSeparateGroupsMerge: two groups whose members memberlist has forgotten, or never
// knew, find each other through a known server.
func TestSeparateGroupsMerge(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr()} })
	b.seesState(a, StateAlive)
	c := start(t, "c", nil)
	d := start(t, "d", func(cc *Config) { cc.Join = []string{c.Addr()} })
	d.seesState(c, StateAlive)
	// b learns an address of the other group, as from its file.
	b.mu.Lock()
	b.known[d.Node.ID] = d.Addr()
	b.mu.Unlock()
	a.seesState(c, StateAlive)
	c.seesState(a, StateAlive)
}

func TestSecondProcessWithSameIDIsLogged(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr()} })
	a.seesState(b, StateAlive)
	twin := start(t, "b", func(c *Config) { c.Join, c.Node.ID = []string{a.Addr()}, b.Node.ID })
	a.seesState(twin, StateAlive) // the instance that started last
	b.eventually("b logs that another process has its ID", func() bool {
		return b.logs.count("another process has the id of this one") > 0
	})
	if m := b.Members(); len(m) != 2 || m[1].Addr != b.Addr() {
		t.Errorf("b sees the members %+v, want itself at its own address", m)
	}
}

func TestConcurrentUpdatesAnnounceTheLastState(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr()} })
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := a.Update(func(n *Node) { n.Schema++ }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want := structs.SchemaVersion + 20
	b.sees(a, "in its last state", func(m Member) bool { return m.Schema == want })
	a.sees(a, "in its last state", func(m Member) bool { return m.Schema == want })
}

func TestJoinOverIPv6(t *testing.T) {
	six := func(c *Config) { c.Bind = "::1" }
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	probe.Close()
	a := start(t, "a", six)
	b := start(t, "b", func(c *Config) { six(c); c.Join = []string{a.Addr()} })
	a.seesState(b, StateAlive)
	b.seesState(a, StateAlive)
}

func TestTakenPortIsAConflictUnlessFallback(t *testing.T) {
	a := start(t, "a", nil)
	port := a.list.LocalNode().Port
	c := Config{Node: Node{ID: structs.NewID(), Role: RoleAgent}, Bind: "127.0.0.1", Port: int(port)}
	_, err := New(c)
	if structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), "-gossip-port") {
		t.Errorf("error %v, want a conflict that names -gossip-port", err)
	}
	c.Fallback = true
	b := start(t, "b", func(p *Config) { p.Port, p.Fallback, p.Join = int(port), true, []string{a.Addr()} })
	if b.Addr() == a.Addr() {
		t.Errorf("both processes have the address %s", b.Addr())
	}
	a.seesState(b, StateAlive)
}

func TestInvalidConfigIsRefused(t *testing.T) {
	good := Config{Node: Node{ID: structs.NewID(), Role: RoleServer}, Bind: "127.0.0.1", Port: -1}
	for name, change := range map[string]func(*Config){
		"id":               func(c *Config) { c.Node.ID = "x" },
		"role":             func(c *Config) { c.Node.Role = "boss" },
		"cluster id":       func(c *Config) { c.Node.ClusterID = "x" },
		"expect":           func(c *Config) { c.Node.Expect = -1 },
		"schema":           func(c *Config) { c.Node.Schema = -1 },
		"http scheme":      func(c *Config) { c.Node.HTTPAddr = "ftp://127.0.0.1:1" },
		"http port":        func(c *Config) { c.Node.HTTPAddr = "http://127.0.0.1" },
		"raft address":     func(c *Config) { c.Node.RaftAddr = "127.0.0.1" },
		"too long":         func(c *Config) { c.Node.HTTPAddr = "http://" + strings.Repeat("x", 500) + ":1" },
		"bind":             func(c *Config) { c.Bind = "localhost" },
		"bind empty":       func(c *Config) { c.Bind = "" },
		"port":             func(c *Config) { c.Port = 65536 },
		"port negative":    func(c *Config) { c.Port = -2 },
		"advertise":        func(c *Config) { c.Advertise = "host:1" },
		"advertise port":   func(c *Config) { c.Advertise = "127.0.0.1:0" },
		"cluster":          func(c *Config) { c.Cluster = strings.Repeat("x", 256) },
		"key":              func(c *Config) { c.Key = make([]byte, 15) },
		"key empty":        func(c *Config) { c.Key = []byte{} },
		"join":             func(c *Config) { c.Join = []string{"a b"} },
		"join port":        func(c *Config) { c.Join = []string{"a:0"} },
		"join url":         func(c *Config) { c.Join = []string{"http://a"} },
		"join many":        func(c *Config) { c.Join = make([]string, MaxJoin+1) },
		"bind not ours":    func(c *Config) { c.Bind = "192.0.2.1" },
		"advertise nobody": func(c *Config) { c.Advertise = "0.0.0.0:1" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			g, err := New(c)
			if err == nil {
				g.Close()
				t.Fatal("New accepted the configuration")
			}
			want := structs.CodeInvalid
			if name == "bind not ours" {
				want = structs.CodeConflict
			}
			if structs.CodeOf(err) != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

func TestSplitJoin(t *testing.T) {
	for in, want := range map[string]string{
		"host": "host:9513", "host:1": "host:1", "192.0.2.1": "192.0.2.1:9513",
		"::1": "[::1]:9513", "[::1]:7": "[::1]:7", "a.b.c:9": "a.b.c:9",
	} {
		host, port, err := splitJoin(in)
		if err != nil || joinPort(host, port) != want {
			t.Errorf("%q is %s (%v), want %s", in, joinPort(host, port), err, want)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	for advertise, want := range map[string]string{
		"192.0.2.7": "192.0.2.7:5", "192.0.2.7:9": "192.0.2.7:9", "": "127.0.0.1:5", "[2001:db8::1]:4": "[2001:db8::1]:4",
	} {
		ip, port, err := Config{Bind: "127.0.0.1", Advertise: advertise}.advertised(5)
		if err != nil || joinPort(ip, port) != want {
			t.Errorf("-advertise %q announces %s:%d (%v), want %s", advertise, ip, port, err, want)
		}
	}
	cidr := func(s string) net.Addr {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	addrs := []net.Addr{cidr("127.0.0.1/8"), cidr("fe80::1/64"), cidr("203.0.113.5/24"), cidr("fd00::1/8"), cidr("10.1.2.3/8")}
	if ip := pick(addrs, true); ip.String() != "10.1.2.3" {
		t.Errorf("picked %v, want the private IPv4 address", ip)
	}
	if ip := pick(addrs[:2], true); ip != nil {
		t.Errorf("picked %v, which other machines can't reach", ip)
	}
	if ip := pick(addrs[3:4], false); ip != nil {
		t.Errorf("picked %v for a port that is IPv4 only", ip)
	}
}

func TestNewKeyAndParseKey(t *testing.T) {
	key, err := ParseKey(NewKey())
	if err != nil || len(key) != 32 {
		t.Errorf("a new key has %d bytes, error %v", len(key), err)
	}
	if a, b := NewKey(), NewKey(); a == b {
		t.Error("two new keys are equal")
	}
	for _, bad := range []string{"", "x", "!!!!", "c2hvcnQ="} {
		if _, err := ParseKey(bad); structs.CodeOf(err) != structs.CodeInvalid || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("key %q: error %v, want invalid without the key", bad, err)
		}
	}
}

func TestRunLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		a := start(t, "a", nil)
		b := start(t, "b", func(c *Config) { c.Join = []string{a.Addr(), "192.0.2.1:1"} })
		a.seesState(b, StateAlive)
		b.stop()
		a.stop()
	}
	deadline := time.Now().Add(time.Minute) // memberlist's connection handlers may outlive Run for a while
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		var stacks [1 << 16]byte
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, stacks[:runtime.Stack(stacks[:], true)])
	}
}

// TestServersSeenBeforeRunAreWritten: other processes can reach this one between New and
// Run.
func TestServersSeenBeforeRunAreWritten(t *testing.T) {
	known := filepath.Join(t.TempDir(), "known")
	b := newProcess(t, "b", func(c *Config) { c.KnownFile = known })
	a := start(t, "a", func(c *Config) { c.Join = []string{b.Addr()} })
	b.seesState(a, StateAlive)
	b.run()
	b.eventually("the file has a", func() bool {
		content, _ := os.ReadFile(known)
		return string(content) == a.Addr()+" "+a.Node.ID+"\n"
	})
}
