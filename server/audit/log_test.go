package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stackforge/magnum/structs"
)

// faults breaks operations of a log.
type faults struct {
	mu     sync.Mutex
	broken map[string]error
}

func (f *faults) set(op string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.broken = make(map[string]error)
	}
	f.broken[op] = err
}

func (f *faults) at(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken[op]
}

// openLog opens a log in a directory of its own, if the configuration has no path.
func openLog(t testing.TB, c Config) *Log {
	t.Helper()
	if c.Path == "" {
		c.Path = filepath.Join(t.TempDir(), "audit.log")
	}
	c.ServerID, c.Server = "0b9bd4f2-1b5c-4f4e-9bd3-6d1a6f0f9a11", "s1"
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// event returns an event of a create.
func event(id string) *Event {
	return &Event{
		Action: "container:create", Outcome: Success, Status: 201, RequestID: id, Method: "POST", Route: "/v1/containers",
		Address: "192.0.2.7", Agent: "magnum/1.0",
		Caller: Caller{UserID: "alice", ProjectID: "p1", Roles: []string{"member"}, TokenID: "41b0c7c4-3a52-4c0f-8a39-cf3d4cbf1bd5"},
		Target: Target{Kind: "Container", ID: "6f6b5a5e-70b5-44e1-8f0b-5cc7ef3c2f18", Name: "web", ProjectID: "p1"},
	}
}

// do carries out an action whose line has the request ID.
func do(t testing.TB, l *Log, id string) {
	t.Helper()
	if err := l.Begin(); err != nil {
		t.Fatal(err)
	}
	l.End(event(id))
}

// line is what tests look at.
type line struct {
	TypeURI, ID, Action, Outcome string
	Reason                       struct{ ReasonCode string }
	Initiator, Target            struct {
		ID, Name, TypeURI string
		Host              struct{ Address, Agent string }
	}
	Attachments []struct {
		Name    string
		Content json.RawMessage
	}
}

// request returns the content of the attachment request.
func (l *line) request() (r struct{ ID, Action, Code string }) {
	_ = json.Unmarshal(l.attachment("request"), &r)
	return r
}

func (l *line) attachment(name string) json.RawMessage {
	for _, a := range l.Attachments {
		if a.Name == name {
			return a.Content
		}
	}
	return nil
}

// lines returns the lines of a file, each of which must be an event.
func lines(t testing.TB, path string) []line {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []line
	for text := range strings.Lines(string(raw)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil || !strings.HasSuffix(text, "\n") || len(text) > MaxLine {
			t.Fatalf("%s has a line of %d bytes that is no event: %v\n%.300q", path, len(text), err, text)
		}
		all = append(all, l)
	}
	return all
}

// ids returns the request IDs of a file's lines.
func ids(t testing.TB, path string) []string {
	t.Helper()
	var out []string
	for _, l := range lines(t, path) {
		out = append(out, l.request().ID)
	}
	return out
}

func wantIDs(t *testing.T, path string, want ...string) {
	t.Helper()
	if got := ids(t, path); !slices.Equal(got, want) {
		t.Fatalf("%s has lines of %q, not of %q", filepath.Base(path), got, want)
	}
}

func TestLine(t *testing.T) {
	l := openLog(t, Config{})
	e := event("req-1")
	e.Caller.Service = &Service{UserID: "nova", ProjectID: "service", Roles: []string{"service"}}
	if err := l.Begin(); err != nil {
		t.Fatal(err)
	}
	l.End(e)
	got := lines(t, l.config.Path)[0]
	switch {
	case got.TypeURI != typeEvent, got.Action != "create", got.Outcome != "success", got.Reason.ReasonCode != "201",
		got.Initiator.ID != "alice", got.Initiator.Host.Address != "192.0.2.7", got.Initiator.TypeURI != typeUser,
		got.Target.ID != e.Target.ID, got.Target.TypeURI != "service/magnum/container", got.Target.Name != "web",
		got.request().Action != "container:create", string(got.attachment("target")) != `{"project_id":"p1"}`,
		string(got.attachment("caller")) != `{"project_id":"p1","roles":["member"],"token_id":"`+e.Caller.TokenID+`"}`,
		string(got.attachment("service")) != `{"user_id":"nova","project_id":"service","roles":["service"]}`:
		t.Errorf("line: %+v\n%s", got, got.attachment("caller"))
	}
}

// TestLineIsBounded fills every value with what takes most room in JSON, and with what
// could end a line or a string.
func TestLineIsBounded(t *testing.T) {
	l := openLog(t, Config{})
	for _, piece := range []string{"\x00", "\n", `"}`, "<", "\xff", "\u2028", "€", "x"} {
		long := strings.Repeat(piece, 5000)
		many := slices.Repeat([]string{long}, 100)
		e := &Event{
			Action: long, Outcome: Success, Status: 200, RequestID: long, Method: long, Route: long, Address: long, Agent: long,
			Caller: Caller{long, long, long, long, long, long, many, long, long, &Service{long, long, long, many}},
			Target: Target{long, long, long, long},
		}
		if err := l.Begin(); err != nil {
			t.Fatal(err)
		}
		l.End(e)
	}
	all := lines(t, l.config.Path)
	if len(all) != 8 {
		t.Fatalf("%d lines", len(all))
	}
	for _, l := range all {
		if !strings.HasSuffix(l.Target.Name, cutMark) || !strings.Contains(string(l.attachment("caller")), cutMark) {
			t.Errorf("a value that was cut has no mark: %.80q", l.Target.Name)
		}
	}
	raw, _ := os.ReadFile(l.config.Path)
	if !bytes.Contains(raw, []byte("<<<")) {
		t.Error("< is escaped")
	}
}

func FuzzLine(f *testing.F) {
	f.Add("alice", "a name", "curl/8", "member")
	f.Add("initiator", "\n{\"typeURI\":\"x\"}\n", "\x00\xff</script>", "target")
	f.Fuzz(func(t *testing.T, user, name, agent, role string) {
		e := event("req-1")
		e.Caller.UserID, e.Target.Name, e.Target.ID, e.Agent, e.Caller.Roles = user, name, user, agent, []string{role, role}
		b := e.encode(nil, observer{}, "id", 0)
		var got line
		if err := json.Unmarshal(b, &got); err != nil || len(b) > MaxLine || bytes.IndexByte(b, '\n') != len(b)-1 {
			t.Fatalf("%v: %d bytes: %q", err, len(b), b)
		}
		if len(name) <= 16 && utf8.ValidString(name) && got.Target.Name != name {
			t.Fatalf("%q became %q", name, got.Target.Name)
		}
		if got.Initiator.ID == "" || got.Initiator.ID == "initiator" || got.Target.ID == "target" || got.request().ID != "req-1" {
			t.Fatalf("%q", b)
		}
	})
}

func TestActionsOfCADF(t *testing.T) {
	for action, want := range map[string]string{
		"container:create": "create", "container:execute": "update/execute", "token:revoke": "revoke",
		"bay:delete": "delete", "": "update/unknown",
	} {
		if got := cadfAction(action, false); got != want {
			t.Errorf("%s is %s", action, got)
		}
	}
	if got := cadfAction("container:logs", true); got != "read/logs" {
		t.Errorf("logs is %s", got)
	}
}

// TestRotation also sets the clock back, which must not change the order of files.
func TestRotation(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	l := openLog(t, Config{MaxBytes: 1, MaxFiles: 3, KeepFor: -1, now: func() time.Time { return now }})
	for i := range 6 {
		do(t, l, fmt.Sprint("req-", i))
		now = now.Add(-time.Minute)
	}
	wantIDs(t, l.config.Path, "req-5")
	// A file is as old as its last line, by the clock of the machine.
	now = time.Now().Add(time.Minute)
	do(t, l, "req-6")
	rotated := l.rotated()
	if len(rotated) != 3 {
		t.Fatalf("rotated files: %q", rotated)
	}
	for i, path := range rotated {
		wantIDs(t, path, fmt.Sprint("req-", 3+i))
	}
	if info, err := os.Stat(rotated[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestRotationKeepsYoungFiles keeps more than MaxFiles files until they are old enough.
func TestRotationKeepsYoungFiles(t *testing.T) {
	now := time.Now()
	l := openLog(t, Config{MaxBytes: 1, MaxFiles: 2, now: func() time.Time { return now }})
	other := l.config.Path + ".notes"
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		do(t, l, fmt.Sprint("req-", i))
	}
	if n := len(l.rotated()); n != 5 {
		t.Fatalf("%d rotated files", n)
	}
	now = now.Add(DefaultKeepFor + time.Hour)
	do(t, l, "req-6")
	if n := len(l.rotated()); n != 2 {
		t.Fatalf("%d rotated files a day later", n)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("a file that isn't the log's was removed")
	}
}

// TestCrashDuringRotation stops between the rename and the creation of the new file.
func TestCrashDuringRotation(t *testing.T) {
	l := openLog(t, Config{})
	do(t, l, "req-1")
	path := l.config.Path
	renamed := l.nextName(time.Now())
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l = openLog(t, Config{Path: path})
	do(t, l, "req-2")
	wantIDs(t, renamed, "req-1")
	wantIDs(t, path, "req-2")
}

// TestRotationFails breaks each step of a rotation: the old file goes on under its name.
func TestRotationFails(t *testing.T) {
	for _, op := range []string{"rename", "open", "allocate"} {
		t.Run(op, func(t *testing.T) {
			now := time.Now()
			var broken faults
			l := openLog(t, Config{MaxBytes: 1, now: func() time.Time { return now }, fault: broken.at})
			do(t, l, "req-1")
			if op == "allocate" {
				for range 2 { // the old file has room
					l.file.allocated = l.file.size + 1<<20
				}
			}
			broken.set(op, syscall.ENOSPC)
			do(t, l, "req-2")
			wantIDs(t, l.config.Path, "req-1", "req-2")
			if got := l.rotated(); len(got) != 0 {
				t.Fatalf("rotated files: %q", got)
			}
			broken.set(op, nil)
			do(t, l, "req-3") // not at once again
			wantIDs(t, l.config.Path, "req-1", "req-2", "req-3")
			now = now.Add(time.Minute)
			do(t, l, "req-4")
			wantIDs(t, l.config.Path, "req-4")
			wantIDs(t, l.rotated()[0], "req-1", "req-2", "req-3")
		})
	}
}

// TestReopen moves the file away as logrotate does.
func TestReopen(t *testing.T) {
	l := openLog(t, Config{})
	do(t, l, "req-1")
	moved := l.config.Path + "-moved"
	if err := l.Reopen(); err != nil { // nothing has happened
		t.Fatal(err)
	}
	if err := os.Rename(l.config.Path, moved); err != nil {
		t.Fatal(err)
	}
	do(t, l, "req-2")
	if err := l.Begin(); err != nil { // under way meanwhile
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.End(event("req-3"))
	wantIDs(t, moved, "req-1", "req-2")
	wantIDs(t, l.config.Path, "req-3")
}

// TestFullDiskRefusesActions: without room nothing is begun, and what was begun finds its
// room.
func TestFullDiskRefusesActions(t *testing.T) {
	var broken faults
	l := openLog(t, Config{fault: broken.at})
	if err := l.Begin(); err != nil {
		t.Fatal(err)
	}
	broken.set("allocate", syscall.ENOSPC)
	l.file.allocated = l.file.size + MaxLine + 1
	err := l.Begin()
	if structs.CodeOf(err) != structs.CodeNoSpace || !errors.Is(err, syscall.ENOSPC) || l.Failing() == nil {
		t.Fatalf("a full disk: %v", err)
	}
	l.Refused(event("req-refused")) // takes no room of others
	l.End(event("req-1"))
	wantIDs(t, l.config.Path, "req-1")
	broken.set("allocate", nil)
	do(t, l, "req-2")
	wantIDs(t, l.config.Path, "req-1", "req-2")
	if got := string(lines(t, l.config.Path)[0].attachment("missing")); got != `{"lines":1}` || l.Failing() != nil {
		t.Errorf("missing lines: %s; %v", got, l.Failing())
	}
}

// TestFailedWritesWait: the lines of actions that were done wait until they can be written,
// and until then no other action is begun.
func TestFailedWritesWait(t *testing.T) {
	var broken faults
	l := openLog(t, Config{fault: broken.at})
	for range 3 {
		if err := l.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	broken.set("write", syscall.EIO)
	for i := range 3 {
		l.End(event(fmt.Sprint("req-", i)))
	}
	if err := l.Begin(); structs.CodeOf(err) != structs.CodeNoSpace {
		t.Fatalf("an action was begun: %v", err)
	}
	if l.Failing() == nil {
		t.Error("the log isn't failing")
	}
	broken.set("write", nil)
	if err := l.Failing(); err != nil {
		t.Errorf("the log has not recovered without a write: %v", err)
	}
	do(t, l, "req-3")
	wantIDs(t, l.config.Path, "req-0", "req-1", "req-2", "req-3")
}

// TestAllowOnError goes on without the log, and says how many lines are missing.
func TestAllowOnError(t *testing.T) {
	var broken faults
	l := openLog(t, Config{fault: broken.at, AllowOnError: true})
	broken.set("write", syscall.ENOSPC)
	size := 0
	for n := 0; size <= maxKept+10*MaxLine; n++ {
		do(t, l, "req-lost")
		size += 900 // less than a line
	}
	if l.keptSize > maxKept || l.Failing() != nil || l.missing == 0 {
		t.Fatalf("%d bytes wait, %d lines are missing, %v", l.keptSize, l.missing, l.Failing())
	}
	missing := l.missing
	broken.set("write", nil)
	do(t, l, "req-1")
	all := lines(t, l.config.Path)
	if got := string(all[len(all)-1].attachment("missing")); got != fmt.Sprintf(`{"lines":%d}`, missing) {
		t.Errorf("missing lines: %s, not %d", got, missing)
	}
}

// TestDeviceWithoutRoom: nothing can be allocated for a device, and the first action is
// refused all the same.
func TestDeviceWithoutRoom(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	l := openLog(t, Config{Path: "/dev/full"})
	if err := l.Begin(); structs.CodeOf(err) != structs.CodeNoSpace || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("/dev/full: %v", err)
	}
	do(t, openLog(t, Config{Path: "/dev/null"}), "req-1")
	allow := openLog(t, Config{Path: "/dev/full", AllowOnError: true})
	do(t, allow, "req-1")
}

// TestSmallFileSystem fills a file system of its own.
func TestSmallFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("needs the right to mount: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	l, err := Open(Config{Path: filepath.Join(dir, "audit.log")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun := 0
	for ; err == nil && begun < 10_000; begun++ {
		err = l.Begin()
	}
	begun-- // the last one was refused
	if structs.CodeOf(err) != structs.CodeNoSpace || begun < 100 {
		t.Fatalf("%d actions were begun: %v", begun, err)
	}
	// Another program takes every block that is left.
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	for i := range begun {
		l.End(event(fmt.Sprint("req-", i)))
	}
	if got := ids(t, l.config.Path); len(got) != begun || l.keptSize > 0 {
		t.Fatalf("%d lines of %d actions, %d bytes wait", len(got), begun, l.keptSize)
	}
	if ballast.Close() != nil || os.Remove(ballast.Name()) != nil {
		t.Fatal("the ballast stays")
	}
	do(t, l, "req-after")
}

// TestTornLine ends the piece of a line that a crash of the machine has left.
func TestTornLine(t *testing.T) {
	l := openLog(t, Config{})
	do(t, l, "req-1")
	l.Close()
	f, err := os.OpenFile(l.config.Path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"typeURI":"ht`)
	f.Close()
	l = openLog(t, Config{Path: l.config.Path})
	do(t, l, "req-2")
	raw, _ := os.ReadFile(l.config.Path)
	if all := strings.Split(string(raw), "\n"); len(all) != 4 || all[1] != `{"typeURI":"ht` || !strings.Contains(all[2], "req-2") {
		t.Errorf("%q", raw)
	}
}

func TestOneServerPerFile(t *testing.T) {
	l := openLog(t, Config{})
	if _, err := Open(Config{Path: l.config.Path}); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("a second server: %v", err)
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none", "audit.log")} {
		if _, err := Open(Config{Path: path}); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: %v", path, err)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: pipe}); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("a pipe: %v", err)
	}
}

// TestRefusalsAreLimited: callers without a credential can't fill the disk.
func TestRefusalsAreLimited(t *testing.T) {
	now := time.Now()
	l := openLog(t, Config{now: func() time.Time { return now }})
	refuse := func(code structs.Code, n int) {
		for range n {
			e := event("req-x")
			if e.Code, e.Outcome = code, Failure; code == structs.CodeUnauthenticated {
				e.Caller = Caller{}
			}
			l.Refused(e)
		}
	}
	refuse(structs.CodeUnauthenticated, refusalBurst+50)
	if n := len(ids(t, l.config.Path)); n != refusalBurst {
		t.Fatalf("%d lines", n)
	}
	refuse(structs.CodeForbidden, 1) // is a caller's whom we know
	all := lines(t, l.config.Path)
	if got := string(all[len(all)-1].attachment("missing")); got != `{"lines":50}` {
		t.Errorf("missing lines: %s", got)
	}
	now = now.Add(10 * refusalEvery)
	refuse(structs.CodeUnauthenticated, 100)
	if n := len(ids(t, l.config.Path)); n != refusalBurst+1+10 {
		t.Errorf("%d lines", n)
	}
}

// TestFloodsDisplaceNothing has callers send requests that are refused for months. The lines of
// what was done stay, the file isn't rotated, and each kind leaves room for the other.
func TestFloodsDisplaceNothing(t *testing.T) {
	now := time.Now()
	l := openLog(t, Config{MaxBytes: 64 << 10, MaxFiles: 1, KeepFor: -time.Second, now: func() time.Time { return now }})
	do(t, l, "req-done")
	flood := func(id string, change func(e *Event)) {
		for range 10_000 {
			e := event(id)
			e.Outcome = Failure
			change(e)
			l.Refused(e)
			now = now.Add(time.Hour)
		}
	}
	flood("req-unknown", func(e *Event) { e.Code, e.Caller = structs.CodeUnauthenticated, Caller{} })
	flood("req-rate", func(e *Event) { e.Code = structs.CodeRateLimited })
	flood("req-read", func(e *Event) { e.Code, e.Reads = structs.CodeForbidden, true })
	if rotated := l.rotated(); len(rotated) != 0 {
		t.Fatalf("the file was rotated: %q", rotated)
	}
	left := make(map[string]int)
	for _, id := range ids(t, l.config.Path) {
		left[id]++
	}
	if left["req-done"] != 1 || left["req-unknown"] < 3 || left["req-rate"] < 3 || left["req-read"] != 0 {
		t.Errorf("lines: %v", left)
	}
	if info, err := os.Stat(l.config.Path); err != nil || info.Size() > 2*l.config.MaxBytes/refusalShare+MaxLine {
		t.Errorf("the file has %d bytes: %v", info.Size(), err)
	}
	do(t, l, "req-after")
	missing := 0
	for _, written := range lines(t, l.config.Path) {
		var m struct{ Lines int }
		_ = json.Unmarshal(written.attachment("missing"), &m)
		missing += m.Lines
	}
	if want := 30_000 - left["req-unknown"] - left["req-rate"]; missing != want {
		t.Errorf("%d lines are missing, not %d", missing, want)
	}
	// A new file has room for them again.
	for len(l.rotated()) == 0 {
		do(t, l, "req-done")
	}
	refused := event("req-unknown")
	refused.Outcome, refused.Caller = Failure, Caller{}
	l.Refused(refused)
	if got := ids(t, l.config.Path); got[len(got)-1] != "req-unknown" {
		t.Errorf("the new file has %q", got)
	}
}

// TestConcurrentLines rotates while lines are written: each line is in one file, once.
func TestConcurrentLines(t *testing.T) {
	l := openLog(t, Config{MaxBytes: 4 << 10, MaxFiles: 1000})
	const goroutines, each = 8, 50
	var g sync.WaitGroup
	for i := range goroutines {
		g.Go(func() {
			for j := range each {
				if err := l.Begin(); err != nil {
					t.Error(err)
					return
				}
				l.End(event(fmt.Sprint("req-", i, "-", j)))
			}
		})
	}
	g.Wait()
	seen := make(map[string]int)
	for _, path := range append(l.rotated(), l.config.Path) {
		for _, id := range ids(t, path) {
			seen[id]++
		}
	}
	if len(seen) != goroutines*each {
		t.Errorf("%d lines", len(seen))
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s has %d lines", id, n)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	l := openLog(b, Config{MaxBytes: 1 << 40})
	b.ReportAllocs()
	for b.Loop() {
		do(b, l, "req-41b0c7c4-3a52-4c0f-8a39-cf3d4cbf1bd5")
	}
}
