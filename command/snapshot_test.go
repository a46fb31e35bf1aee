package command

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server"
)

// startServer runs a single server and returns its URL.
func startServer(t *testing.T) string {
	t.Helper()
	srv, err := server.New(server.Config{DataDir: t.TempDir(), HTTPPort: -1, Solo: true, DefaultBay: "default",
		Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for until := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if resp, err := http.Get(srv.URL() + "/v1/status/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return srv.URL()
			}
		}
		if time.Now().After(until) {
			t.Fatal("the server does not get ready")
		}
	}
}

func TestSnapshotSaveIsAtomic(t *testing.T) {
	s := newShell(t, nil)
	addr := startServer(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.snap")
	names := func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(entries)
	}
	for range 2 { // the second replaces the first
		r := s.run("operator", "snapshot", "save", "-addr", addr, path)
		if r.code != 0 || !strings.Contains(r.stdout, "index ") || !strings.Contains(r.stdout, "0 containers on 0 hosts") {
			t.Fatalf("save: %d %s %s", r.code, r.stdout, r.stderr)
		}
	}
	if r := s.run("operator", "snapshot", "save", "-addr", addr, "-format", "{{.rows.cluster}} {{gt .size 0}}", path); r.code != 0 ||
		r.stdout != "1 true\n" {
		t.Errorf("save with a format: %d %s %s", r.code, r.stdout, r.stderr)
	}
	at, err := os.Stat(path)
	if err != nil || at.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", at.Mode(), err)
	}
	if r := s.run("operator", "snapshot", "inspect", path); r.code != 0 || !strings.Contains(r.stdout, "cluster_id") {
		t.Errorf("inspect: %d %s %s", r.code, r.stdout, r.stderr)
	}
	if r := s.run("operator", "snapshot", "inspect", path, "-json"); r.code != 0 || !strings.Contains(r.stdout, `"cluster":1`) ||
		!strings.Contains(r.stdout, fmt.Sprintf(`"size":%d`, at.Size())) {
		t.Errorf("inspect -json: %d %s %s", r.code, r.stdout, r.stderr)
	}
	if r := s.run("operator", "snapshot", "save", "-addr", addr, dir); r.code != 1 || !strings.Contains(r.stderr, "no regular file") {
		t.Errorf("save over a directory: %d %s", r.code, r.stderr)
	}
	if r := s.run("operator", "snapshot", "save", "-addr", addr, filepath.Join(dir, "none", "a")); r.code != 1 {
		t.Errorf("save into nowhere: %d %s", r.code, r.stderr)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	f := newFakeAPI(t)
	broken := newShell(t, f)
	for what, h := range map[string]http.HandlerFunc{
		"broke off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			_, _ = w.Write(good[:len(good)/2])
		},
		"can't be restored": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good[:len(good)-1]) },
		"admin": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			_, _ = w.Write([]byte(`{"errors":[{"status":403,"code":"forbidden","detail":"it takes a role of admin"}]}`))
		},
	} {
		f.handle("GET /v1/operator/snapshot", h)
		if r := broken.run("operator", "snapshot", "save", path); r.code != 1 || !strings.Contains(r.stderr, what) {
			t.Errorf("%s: %d %s", what, r.code, r.stderr)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(good) {
			t.Errorf("%s: the file that was there has changed (%v)", what, err)
		}
	}
	if !strings.Contains(fmt.Sprint(f.requests()), "consistent=true") {
		t.Errorf("asked %v", f.requests())
	}
	if got := names(); strings.Contains(got, ".magnum") || strings.Count(got, "a.snap") != 1 {
		t.Errorf("left behind: %s", got)
	}
}

func TestSnapshotInspectErrors(t *testing.T) {
	s := newShell(t, nil)
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, []byte("hello, this is something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{foreign, 1, "not a snapshot of magnum"},
		{filepath.Join(dir, "none"), 1, "no such file"},
		{dir, 1, "is a directory"},
		{"", 2, "FILE is missing"},
		{foreign + " " + foreign, 2, "one argument too many"},
		{foreign + " -format x", 2, "-format"},
	} {
		if r := s.run(append([]string{"operator", "snapshot", "inspect"}, strings.Fields(c.args)...)...); r.code != c.code ||
			!strings.Contains(r.stderr, c.want) {
			t.Errorf("inspect %s: %d %s", c.args, r.code, r.stderr)
		}
	}
}

func TestSnapshotRestore(t *testing.T) {
	s := newShell(t, nil)
	addr := startServer(t)
	path := filepath.Join(t.TempDir(), "a.snap")
	if r := s.run("operator", "snapshot", "save", "-addr", addr, path); r.code != 0 {
		t.Fatalf("save: %d %s", r.code, r.stderr)
	}
	if r := s.run("baymodel-create", "-addr", addr, "-coe", "docker", "-name", "later"); r.code != 0 {
		t.Fatalf("create: %d %s", r.code, r.stderr)
	}
	r := s.run("operator", "snapshot", "restore", "-addr", addr, path)
	if r.code != 0 || !strings.Contains(r.stdout, "is the state now: index ") || !strings.Contains(r.stderr, "-follow-restore") {
		t.Errorf("restore: %d %s %s", r.code, r.stdout, r.stderr)
	}
	if r := s.run("baymodel-list", "-addr", addr, "-q"); r.code != 0 || r.stdout != "" {
		t.Errorf("afterwards there is %q (%s)", r.stdout, r.stderr)
	}
	if r := s.run("operator", "snapshot", "restore", "-keep-cluster-id", "-json", "-addr", addr, path); r.code != 0 ||
		!strings.Contains(r.stdout, `"incarnation":2`) {
		t.Errorf("restore -json: %d %s %s", r.code, r.stdout, r.stderr)
	}

	// An invalid file isn't sent.
	f := newFakeAPI(t)
	to := newShell(t, f)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".bad", good[:len(good)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{path + ".bad"}, 1, "cut off"},
		{[]string{path + ".none"}, 1, "no such file"},
		{nil, 2, "FILE is missing"},
		{[]string{path, path}, 2, "one argument too many"},
	} {
		if r := to.run(append([]string{"operator", "snapshot", "restore"}, c.args...)...); r.code != c.code ||
			!strings.Contains(r.stderr, c.want) {
			t.Errorf("restore %v: %d %s", c.args, r.code, r.stderr)
		}
	}
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
	f.answer("PUT /v1/operator/snapshot", 409, `{"errors":[{"status":409,"code":"conflict","detail":"another restore is under way"}]}`)
	if r := to.run("operator", "snapshot", "restore", "-keep-cluster-id", path); r.code != 1 || !strings.Contains(r.stderr, "under way") {
		t.Errorf("refused by the server: %d %s", r.code, r.stderr)
	}
	if asked := f.requests(); len(asked) != 1 || !strings.HasPrefix(asked[0], "PUT /v1/operator/snapshot?keep_cluster_id=true") ||
		!strings.HasSuffix(asked[0], strings.TrimSpace(string(good))) {
		t.Errorf("asked %.80q", asked)
	}
}
