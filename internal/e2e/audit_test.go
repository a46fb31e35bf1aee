//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// auditLine is what the tests look at in a line of an audit log.
type auditLine struct {
	Action, Outcome string
	Reason          struct{ ReasonCode string }
	Initiator       struct {
		ID   string
		Host struct{ Address, Agent string }
	}
	Target, Observer struct{ ID, Name, TypeURI string }
	Attachments      []struct {
		Name    string
		Content struct{ ID, Action string }
	}
}

// request returns the request's ID and action.
func (l *auditLine) request() (id, action string) {
	for _, a := range l.Attachments {
		if a.Name == "request" {
			return a.Content.ID, a.Content.Action
		}
	}
	return "", ""
}

// auditLines returns the lines of a server's audit log.
func auditLines(t testing.TB, path string) (all []auditLine) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(raw)) {
		var l auditLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v: %s", path, err, text)
		}
		all = append(all, l)
	}
	return all
}

// checkCADF has OpenStack's library check each line of the files, and returns their number.
func checkCADF(t testing.TB, paths ...string) int {
	t.Helper()
	var all bytes.Buffer
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	lines := bytes.Count(all.Bytes(), []byte("\n"))
	cmd := exec.Command("/usr/bin/python3", "testdata/cadf_valid.py")
	cmd.Stdin = &all
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(lines) {
		t.Fatalf("pycadf (see scripts/peers/pycadf-up): %v: of %d lines: %s", err, lines, out)
	}
	return lines
}

// TestAudit: the server that a client talks to writes one line, also if it forwards the
// request to the leader. Every line is valid CADF.
func TestAudit(t *testing.T) {
	dir := t.TempDir()
	logOf := func(name string) string { return filepath.Join(dir, name+".audit") }
	c := newThreeServersOf(t, 1, func(p *process) {
		if strings.HasPrefix(p.name, "s") {
			p.args = append(p.args, "-audit-log", logOf(p.name))
		}
	})
	leader, err := c.leader()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	before := make(map[string]int)
	for _, s := range c.servers {
		paths = append(paths, logOf(s.name))
		before[s.name] = len(auditLines(t, logOf(s.name)))
	}
	for _, s := range c.servers {
		c.addr, c.client = s.addr, s.client
		name := "audited-by-" + s.name
		uuid := c.run(name, "sleep 1000").UUID
		c.magnum("container-execute", name, "echo", "s3cret").must(t)
		c.magnum("container-delete", "-force", name).must(t)
		c.awaitGone(uuid)
		got := auditLines(t, logOf(s.name))[before[s.name]:]
		want := []string{"container:create", "container:execute", "container:delete"}
		for i, l := range got {
			id, action := l.request()
			if i >= len(want) || action != want[i] || l.Outcome != "success" || l.Target.ID != uuid || l.Target.Name != name ||
				l.Initiator.ID != structs.DefaultUser || l.Initiator.Host.Address != "127.0.0.1" || l.Observer.Name != s.name || id == "" {
				t.Errorf("%s (leader %s): line %d is %+v", s.name, leader.name, i, l)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s has %d lines of %d requests", s.name, len(got), len(want))
		}
		before[s.name] += len(got)
		c.magnum("container-list").must(t)
	}
	for _, s := range c.servers {
		if n := len(auditLines(t, logOf(s.name))); n != before[s.name] {
			t.Errorf("%s has %d lines more, of requests that others got", s.name, n-before[s.name])
		}
	}
	// What is refused, and the names that users choose, are lines too.
	hostile := "<b>\u2028\"}\n{\"typeURI\":\"x\"}"
	if _, _, err := c.client.Containers().Get(c.ctx(), hostile, api.QueryOptions{}); err == nil {
		t.Error("a strange name is found")
	}
	if _, err := c.client.Containers().Delete(c.ctx(), hostile, api.DeleteOptions{}); structs.CodeOf(err) != structs.CodeNotFound {
		t.Errorf("a strange name: %v", err)
	}
	n := checkCADF(t, paths...)
	for _, path := range paths {
		if raw, _ := os.ReadFile(path); bytes.Contains(raw, []byte("s3cret")) {
			t.Error("the arguments of a command are in the audit log")
		}
	}
	t.Logf("%d lines are valid CADF", n)

	// The file is moved away, and SIGHUP has it created again.
	s := c.servers[0]
	moved := logOf(s.name) + "-moved"
	if err := os.Rename(logOf(s.name), moved); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGHUP)
	c.eventually("the audit log is reopened", patience, func() error {
		_, err := os.Stat(logOf(s.name))
		return err
	})
	if _, _, err := s.client.BayModels().Create(c.ctx(), &structs.BayModelRequest{}, api.WriteOptions{}); err == nil {
		t.Error("a baymodel without a coe was created")
	}
	if got := auditLines(t, logOf(s.name)); len(got) != 1 || got[0].Outcome != "failure" || got[0].Reason.ReasonCode != "400" {
		t.Errorf("lines after SIGHUP: %+v", got)
	}
}

// TestAuditLogIsFull: a server whose audit log is full refuses writes and serves reads.
func TestAuditLogIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("needs the right to mount: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	c := newThreeServersOf(t, 0, func(p *process) {
		if p.name == "s1" {
			p.args = append(p.args, "-audit-log", filepath.Join(dir, "audit.log"))
		}
	})
	create := func(s *clusterServer, name string) error {
		coe := "docker"
		_, _, err := s.client.BayModels().Create(c.ctx(), &structs.BayModelRequest{Name: &name, COE: coe}, api.WriteOptions{})
		return err
	}
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	done := 0
	for ; err != nil && done < 10_000; done++ { // until the room that is allocated is used up
		if err = create(c.servers[0], fmt.Sprint("m", done)); err != nil {
			break
		}
		err = syscall.ENOSPC
	}
	if structs.CodeOf(err) != structs.CodeNoSpace {
		t.Fatalf("after %d writes: %v", done, err)
	}
	if n := len(auditLines(t, filepath.Join(dir, "audit.log"))); n < done {
		t.Errorf("%d lines of %d writes", n, done)
	}
	if _, _, err := c.servers[0].client.BayModels().Get(c.ctx(), fmt.Sprint("m", done), api.QueryOptions{}); structs.CodeOf(err) !=
		structs.CodeNotFound {
		t.Errorf("the refused write was carried out: %v", err)
	}
	health := "http://" + c.servers[0].addr + "/v1/status/health"
	if r, err := http.Get(health); err != nil || r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health: %v, %v", r, err)
	}
	if err := create(c.servers[1], "elsewhere"); err != nil { // and so through a server whose log has room
		t.Error(err)
	}
	if err := os.Remove(ballast.Name()); err != nil || ballast.Close() != nil {
		t.Fatal(err)
	}
	if err := create(c.servers[0], "again"); err != nil {
		t.Error(err)
	}
}
