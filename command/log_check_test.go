package command

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary run as the process that checks a server's log.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == checkLogArg {
		os.Exit(Run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// serverOn runs `magnum server` on a data directory until done returns true for its log,
// or until it ends by itself.
func serverOn(t *testing.T, dir string, done func(log string) bool) (code int, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, writer := io.Pipe()
	var all bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := said.Read(b)
			all.Write(b[:n])
			if done(all.String()) {
				cancel()
			}
			if err != nil {
				return
			}
		}
	}()
	e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: writer, lookupEnv: func(string) (string, bool) { return "", false }}
	code = e.run(ctx, []string{"server", "-data-dir", dir, "-http-port", "-1", "-raft-port", "-1", "-gossip-port", "-1"})
	writer.Close()
	<-read
	return code, all.String()
}

// A child process checks the log; its error becomes that of the command line.
func TestServerChecksLogInChildProcess(t *testing.T) {
	dir := t.TempDir()
	leads := func(log string) bool { return strings.Contains(log, "cluster: cluster_id=") }
	for range 2 {
		if code, log := serverOn(t, dir, leads); code != exitOK || !leads(log) {
			t.Fatalf("exit code %d and\n%s", code, log)
		}
	}
	path := filepath.Join(dir, "server", "raft", "raft.db")
	if err := os.Truncate(path, 9000); err != nil {
		t.Fatal(err)
	}
	code, log := serverOn(t, dir, leads)
	if code != exitFailure || !strings.Contains(log, path+" is damaged: it is cut off after 9000 bytes") ||
		!strings.Contains(log, "restore the data directory from a backup") {
		t.Errorf("exit code %d and\n%s", code, log)
	}
	if code := Run([]string{checkLogArg}); code != exitUsage {
		t.Errorf("the check without a path exits with %d", code)
	}
}
