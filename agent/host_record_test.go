package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// fakeEngine returns an engine with an ID.
func fakeEngine(id string) *backendtest.Fake {
	f := backendtest.NewFake()
	f.Outside.Identify(structs.EngineIdentity{ID: id, Root: "/var/lib/docker", Inode: 12, Born: time.Unix(1e9, 7).UTC(), Machine: "m"})
	return f
}

// ends returns the error with which the agent ends.
func (r *running) ends() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		if err == nil {
			r.t.Fatal("the agent has ended without an error")
		}
		return err
	case <-time.After(patience):
		r.t.Fatal("the agent does not end")
	}
	return nil
}

// says fails unless the error contains all the words.
func says(t testing.TB, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error doesn't say %q: %v", w, err)
		}
	}
}

func readFile(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDataDirOnAnotherEngineIsAnotherHost: a copied data directory joins as a new host,
// which knows nothing of the old host's containers. Without a join token the agent
// ends.
func TestDataDirOnAnotherEngineIsAnotherHost(t *testing.T) {
	for name, change := range map[string]func(*structs.EngineIdentity){
		"another ID":        func(e *structs.EngineIdentity) { e.ID = "E2" },
		"another directory": func(e *structs.EngineIdentity) { e.Root = "/srv/docker" },
		"another inode":     func(e *structs.EngineIdentity) { e.Inode++ },
		"born later":        func(e *structs.EngineIdentity) { e.Born = e.Born.Add(1) },
	} {
		t.Run(name, func(t *testing.T) {
			s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
			a := runningHost(t, s, fake, dir)
			old := s.registers[0]
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			engine := fake.Seen.Identity()
			change(&engine)
			second := fakeEngine("E1")
			second.Outside.Identify(engine)

			s2 := newFakeServer(t) // knows only the new host
			r := runAgent(t, copied, second, func(c *Config) { c.JoinToken = "" }, s2)
			says(t, r.ends(), old.HostID, "join token", "host-fence "+old.HostID)
			if len(s2.registers) != 0 {
				t.Errorf("without a token it registers with %+v", s2.registers)
			}

			r = runAgent(t, copied, second, nil, s2)
			s2.eventually("it polls", func() bool { return len(s2.polls) > 0 })
			r.stop()
			s2.mu.Lock()
			reg, first, reported := s2.registers[0], s2.polls[0], len(s2.reported)
			s2.mu.Unlock()
			if reg.HostID == old.HostID || reg.Secret == old.Secret || reg.Follows.ClusterID != "" || reg.Fingerprint.Engine != engine {
				t.Errorf("it registers with %+v", reg)
			}
			if first.index != 0 || reported != 0 {
				t.Errorf("its first poll is %+v, and it tells of %d", first, reported)
			}
			if kept := readFile(t, copied, "host-"+old.HostID, fileSecret); strings.TrimSpace(kept) != old.Secret {
				t.Error("the old host's secret is not kept")
			}
			// The new host stays, also without a token.
			r = runAgent(t, copied, second, func(c *Config) { c.JoinToken = "" }, s2)
			s2.eventually("it registers again", func() bool { return len(s2.registers) == 2 })
			r.stop()
			if s2.registers[1].HostID != reg.HostID || s2.registers[1].Secret != reg.Secret {
				t.Errorf("then it registers with %+v", s2.registers[1])
			}
			// The first host stays, too, with its data directory.
			r = runAgent(t, dir, fake, func(c *Config) { c.JoinToken = "" }, s)
			s.eventually("the first one is back", func() bool { return len(s.registers) == 2 && s.registers[1].HostID == old.HostID })
			r.stop()
			untouched(t, fake, a)
		})
	}
}

// TestEngineKeepsItsHost: changes that an engine may undergo don't make it another engine.
func TestEngineKeepsItsHost(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	a := runningHost(t, s, fake, dir)
	whole := fake.Seen.Identity()
	for i, now := range []structs.EngineIdentity{
		{},                               // an agent that can't read anything
		{ID: whole.ID, Root: whole.Root}, // an agent that can't read the directory
		{ID: whole.ID, Root: whole.Root, Inode: whole.Inode, Born: whole.Born, Machine: "other"},
		whole,
	} {
		fake.Outside.Identify(now)
		r := runAgent(t, dir, fake, func(c *Config) { c.JoinToken = "" }, s)
		s.eventually("registered", func() bool { return len(s.registers) == i+2 && s.registers[i+1].HostID == s.registers[0].HostID })
		r.stop()
	}
	untouched(t, fake, a)
	// The record keeps what was known once.
	fake.Outside.Identify(structs.EngineIdentity{ID: whole.ID, Root: whole.Root, Inode: whole.Inode + 1, Born: whole.Born})
	r := runAgent(t, dir, fake, func(c *Config) { c.JoinToken = "" }, s)
	says(t, r.ends(), "backup")
}

// TestEngineIsExchangedUnderTheAgent: another engine answers at the socket. What it
// doesn't have was not removed, and the agent ends.
func TestEngineIsExchangedUnderTheAgent(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	once, always := want("once", 1, structs.DesiredRunning), always(want("always", 1, structs.DesiredRunning))
	s.assign(once, always)
	r := runAgent(t, dir, fake, nil, s)
	s.is("once", structs.ContainerRunning)
	s.is("always", structs.ContainerRunning)
	fake.Outside.Down()
	fake.Outside.Identify(structs.EngineIdentity{ID: "E1", Root: "/srv/docker"})
	fake.Outside.Forget()
	fake.Outside.Up()
	s.assign(next(once, structs.DesiredStopped)) // triggers a pass
	says(t, r.ends(), "/srv/docker", s.registers[0].HostID)
	if len(fake.Seen.Containers()) != 0 {
		t.Errorf("it has made %v", fake.Seen.Containers())
	}
	s.toldNothingGone()
}

// toldNothingGone fails if the agent has reported a container as gone.
func (s *fakeServer) toldNothingGone() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, report := range s.reports {
		for _, c := range report.Containers {
			if c.Status == structs.ContainerGone {
				s.t.Errorf("it tells %+v", c)
			}
		}
	}
}

// TestExchangedEngineIsAskedFirst: the event stream of the old engine hasn't ended for
// the agent yet, and the new one already says that it has none of the containers.
func TestExchangedEngineIsAskedFirst(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	once := want("once", 1, structs.DesiredRunning)
	s.assign(once)
	r := runAgent(t, dir, fake, nil, s)
	s.is("once", structs.ContainerRunning)
	fake.Outside.Identify(structs.EngineIdentity{ID: "E1", Root: "/srv/docker"})
	fake.Outside.Forget()
	s.assign(next(once, structs.DesiredStopped)) // has it looked at
	says(t, r.ends(), "/srv/docker", s.registers[0].HostID)
	s.toldNothingGone()
}

// TestEngineIsExchangedBeforeTheList: what another engine lists says nothing, even if
// the host's own engine answered a moment before.
func TestEngineIsExchangedBeforeTheList(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.stop()
		asked := false
		h.sameEngine = func(context.Context) error {
			if asked {
				return errors.New("another engine answers")
			}
			asked = true
			h.fake.Outside.Forget()
			return nil
		}
		h.start()
		h.assign(next(a, structs.DesiredStopped))
		h.after(time.Minute)
		if !asked || h.said(func(r structs.ContainerReport) bool { return r.Status == structs.ContainerGone }) {
			t.Errorf("asked %v, and told %+v", asked, h.history)
		}
	})
}

// TestDamagedHostIDIsRefused: the agent doesn't start with an unreadable host_id.
func TestDamagedHostIDIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(string) string{
		"empty":           func(string) string { return "" },
		"blank":           func(string) string { return "\n \n" },
		"nonsense":        func(string) string { return "nonsense" },
		"a digit":         func(s string) string { return flip(s, 3) },
		"a late digit":    func(s string) string { return flip(s, 35) },
		"half of a line":  func(s string) string { return s[:20] },
		"zeros":           func(s string) string { return strings.Repeat("\x00", len(s)) },
		"somebody else's": func(string) string { return structs.NewID() },
		"a line too many": func(s string) string { return s + s },
		"a line in front": func(s string) string { return "x\n" + s },
	} {
		t.Run(name, func(t *testing.T) {
			s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
			s.cluster = structs.NewID()
			a := runningHost(t, s, fake, dir)
			id := s.registers[0].HostID
			path := filepath.Join(dir, fileHost)
			j, _, err := openJournal(filepath.Join(dir, fileJournal)) // gets all kinds of lines
			if err = errors.Join(err, j.keep(kept{Ref: structs.ContainerRef("q", 1)}), j.close()); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(spoil(readFile(t, path))), 0o600); err != nil {
				t.Fatal(err)
			}
			r := runAgent(t, dir, fake, nil, s)
			err = r.ends()
			says(t, err, path, "of host "+id, "UUID", "remove", "host-fence")
			if structs.CodeOf(err) != structs.CodeInvalid || len(s.registers) != 1 {
				t.Errorf("it ends with %v, after %d registrations", err, len(s.registers))
			}
			untouched(t, fake, a)
			// The error names a way out, which works.
			if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			r = runAgent(t, dir, fake, nil, s)
			s.eventually("it is back", func() bool { return len(s.registers) == 2 && s.registers[1].HostID == id })
			r.stop()
			untouched(t, fake, a)
		})
	}
}

func flip(s string, i int) string {
	b := []byte(s)
	if b[i]++; b[i] == '9'+1 || b[i] == 'f'+1 {
		b[i] = '0'
	}
	return string(b)
}

// TestHostIsKeptWithADamagedEngineRecord: the agent stays the same host, and the
// servers compare the engine with their own record.
func TestHostIsKeptWithADamagedEngineRecord(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	a := runningHost(t, s, fake, dir)
	path := filepath.Join(dir, fileEngine)
	whole := readFile(t, path)
	for i, content := range []string{"", "nonsense", whole[:len(whole)-5], flip(whole, 3), flip(whole, strings.Index(whole, `"inode":`)+9),
		flip(whole, strings.Index(whole, `"host_id":"`)+14), whole + whole} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := runAgent(t, dir, fake, func(c *Config) { c.JoinToken = "" }, s)
		s.eventually("it is the host", func() bool { return len(s.registers) == i+2 && s.registers[i+1].HostID == s.registers[0].HostID })
		s.eventually("it polls", func() bool { return len(s.polls) > 0 && s.polls[len(s.polls)-1].registration == strconv.Itoa(i+2) })
		r.stop()
		if got := readFile(t, path); got != whole {
			t.Errorf("after %q the record is %q, want %q", content, got, whole)
		}
	}
	untouched(t, fake, a)
}

// TestLostHostIDNeedsAJoinToken: without host_id the agent registers as a new host and
// reports the owners of the engine's containers. A server that refuses that for good
// ends the agent.
func TestLostHostIDNeedsAJoinToken(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	s.cluster = structs.NewID()
	a := runningHost(t, s, fake, dir)
	id := s.registers[0].HostID
	for _, file := range []string{fileHost, fileJournal} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	bare := Config{Servers: []string{s.URL}, DataDir: dir, Name: "h", Backend: fake}
	if _, err := New(bare); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), fileHost) {
		t.Errorf("without a token: %v", err)
	}
	s.change(func() { s.deny = structs.Errorf(structs.CodeConflict, "the ways out").About(structs.KindEngine) })
	r := runAgent(t, dir, fake, nil, s)
	says(t, r.ends(), "the ways out")
	reg := s.registers[1]
	if reg.HostID == id || len(reg.Found) != 1 || reg.Found[0] != (structs.LabelOwner{ClusterID: s.cluster, HostID: id}) {
		t.Errorf("it asks with %+v", reg)
	}
	untouched(t, fake, a)

	// Another conflict may pass.
	s.change(func() { s.deny = structs.Errorf(structs.CodeConflict, "not yet").About(structs.KindHost) })
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("three tries", func() bool { return len(s.registers) >= 5 })
	r.stop()
	untouched(t, fake, a)
}

// TestDeletedHostEndsItsAgent: the agent of a host that was deleted stops at once, says so, and
// touches nothing. So does the next one on its data directory.
func TestDeletedHostEndsItsAgent(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	s.cluster = structs.NewID()
	a := runningHost(t, s, fake, dir)
	s.change(func() {
		s.deny = structs.Errorf(structs.CodeForbidden, "host was deleted").About(structs.KindHost).With(structs.HintDeleted)
	})
	for range 2 {
		says(t, runAgent(t, dir, fake, nil, s).ends(), "host was deleted")
		untouched(t, fake, a)
	}
}

// TestReplacingAHostSurvivesAKill: an agent that dies while it becomes another host
// goes on as the host that a server may have accepted.
func TestReplacingAHostSurvivesAKill(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	runningHost(t, s, fake, dir)
	old := s.registers[0]
	before := []byte(readFile(t, dir, fileHost))
	// The old host's quarantine is not the new one's.
	theirs, _, err := openJournal(filepath.Join(dir, fileJournal))
	if err = errors.Join(err, theirs.keep(kept{Ref: structs.ContainerRef("q", 1)}), theirs.close()); err != nil {
		t.Fatal(err)
	}
	other := structs.EngineIdentity{ID: "E2", Root: "/var/lib/docker"}
	open := func() (*dataDir, *journal) {
		t.Helper()
		d, err := openDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		j, _, err := openJournal(d.file(fileJournal))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = errors.Join(d.close(), j.close()) })
		return d, j
	}
	shut := func(d *dataDir, j *journal) { _ = errors.Join(d.close(), j.close()) }

	d, j := open()
	if err := d.checkEngine(other, false); !errors.Is(err, errOtherEngine) {
		t.Fatalf("without a token: %v", err)
	}
	if err := d.checkEngine(other, true); err != nil {
		t.Fatal(err)
	}
	hostID, secret := d.registersAs()
	shut(d, j) // accepted, and killed
	d, j = open()
	if err := d.checkEngine(other, true); err != nil {
		t.Fatal(err)
	}
	if h, s := d.registersAs(); h != hostID || s != secret || h == old.HostID {
		t.Fatalf("it goes on as %s", h)
	}
	if err := d.registered(other, j); err != nil {
		t.Fatal(err)
	}
	shut(d, j)
	// Killed before the last step: host_id is still the old one.
	next := hostRecord{HostID: hostID, Engine: other, Secret: secret}
	for _, file := range []string{fileHost, fileEngine} { // agent.engine is written first, and then host_id
		kept := []byte(readFile(t, dir, "host-"+old.HostID, file))
		if err := errors.Join(os.WriteFile(d.file(file), kept, 0o600), os.WriteFile(d.file(fileNext), next.encode(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if file == fileHost {
			d, j = open()
			if d.hostID != hostID || d.engine != other {
				t.Fatalf("it is %s with %+v", d.hostID, d.engine)
			}
			shut(d, j)
			if err := os.WriteFile(d.file(file), kept, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	d, j = open()
	if err := errors.Join(d.checkEngine(other, true), d.registered(other, j)); err != nil {
		t.Fatal(err)
	}
	shut(d, j)
	d, j = open()
	defer shut(d, j)
	if h, s := d.registersAs(); h != hostID || s != secret || d.next != nil || d.engine != other || j.position() != (position{}) ||
		len(j.refs())+len(j.allKept()) != 0 {
		t.Fatalf("it is %s with the engine %+v, and has followed %+v", h, d.engine, j.position())
	}
	kept := filepath.Join(dir, "host-"+old.HostID)
	if !bytes.Equal([]byte(readFile(t, kept, fileHost)), before) || strings.TrimSpace(readFile(t, kept, fileSecret)) != old.Secret ||
		readCluster(filepath.Join(kept, fileJournal)) != s.cluster {
		t.Error("what was there before is not kept")
	}
	// A third engine is a third host.
	if err := d.checkEngine(structs.EngineIdentity{ID: "E3", Root: "/var/lib/docker"}, true); err != nil {
		t.Fatal(err)
	}
	if h, _ := d.registersAs(); h == hostID {
		t.Error("a third engine has the second one's host")
	}
}

// TestOwnersAreReportedOnce: and owners that servers would refuse are left out.
func TestOwnersAreReportedOnce(t *testing.T) {
	fake := fakeEngine("E1")
	o := backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}
	for i := range uint64(3) {
		fake.Outside.Add(backend.CreateRequest{Owner: o, Ref: structs.ContainerRef("c", i+1), Spec: backendtest.Sleeper()})
	}
	fake.Outside.Add(backend.CreateRequest{Owner: backend.Owner{ClusterID: "garbage", HostID: "x"}, Ref: structs.ContainerRef("d", 1),
		Spec: backendtest.Sleeper()})
	l := &link{conf: Config{Backend: fake}}
	found, err := l.owners(t.Context())
	if err != nil || len(found) != 1 || found[0] != (structs.LabelOwner(o)) {
		t.Errorf("found %+v, %v", found, err)
	}
}
