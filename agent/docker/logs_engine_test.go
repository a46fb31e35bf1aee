//go:build engine

package docker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// TestLogsRotate: a container that writes more than its three log files hold takes no more
// disk space than they do. Logs are the newest output without a gap. A follower from the
// beginning gets every line once.
func TestLogsRotate(t *testing.T) {
	const lines, length, size = 300, 1000, 64 << 10 // more than four files' content
	d := onEngine(t)
	c, req := made(t, d, structs.NewID(), &structs.ContainerSpec{Image: dockertest.Image, LogMaxSize: size, Command: []string{"sh", "-c",
		"line=$(head -c " + strconv.Itoa(length) + " /dev/zero | tr '\\0' x); i=0; " +
			"while [ $i -lt " + strconv.Itoa(lines) + " ]; do i=$((i+1)); echo $i $line; [ $((i%20)) -ne 0 ] || sleep 0.1; done"}})
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	// read returns the numbers of the first and the last line. It fails if a line
	// between them is missing or repeated.
	read := func(what string, req structs.LogsRequest) (first, last int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out, errs bytes.Buffer
		req.Stdout, req.Stderr = true, true
		if err := d.Logs(ctx, c.EngineID, req, backend.LogStreams{Stdout: &out, Stderr: &errs}); err != nil || errs.Len() > 0 {
			t.Fatalf("%s: %v, and on standard error %q", what, err, &errs)
		}
		for line := range strings.Lines(out.String()) {
			number, rest, _ := strings.Cut(line, " ")
			n, err := strconv.Atoi(number)
			if err != nil || len(rest) != length+1 {
				t.Fatalf("%s: there is a line %.40q of %d bytes", what, line, len(line))
			}
			if first == 0 {
				first = n
			} else if n != last+1 {
				t.Errorf("%s: line %d follows line %d", what, n, last)
			}
			last = n
		}
		return first, last
	}
	// It ends with the container.
	if first, last := read("follow", structs.LogsRequest{Follow: true, Tail: -1}); first != 1 || last != lines {
		t.Errorf("follow gives lines %d to %d, want all %d", first, last, lines)
	}
	if now, err := d.Inspect(t.Context(), c.EngineID); err != nil || now.State != backend.StateExited {
		t.Fatalf("follow has ended, and the container is %+v, %v", now, err)
	}
	first, last := read("all", structs.LogsRequest{Tail: -1})
	if kept := (last - first + 1) * length; last != lines || first == 1 || kept < size || kept > 3*size {
		t.Errorf("logs are lines %d to %d, %d bytes, want %d to %d of them up to line %d", first, last, kept, size, 3*size, lines)
	}
	if first, last := read("tail 5", structs.LogsRequest{Tail: 5}); first != lines-4 || last != lines {
		t.Errorf("the last five are lines %d to %d", first, last)
	}
	if from, to := read("tail of more than there is", structs.LogsRequest{Tail: lines}); from != first || to != last {
		t.Errorf("a tail of all lines gives %d to %d, all gives %d to %d", from, to, first, last)
	}
	if first, last := read("follow of what has ended", structs.LogsRequest{Follow: true, Tail: 1}); first != lines || last != lines {
		t.Errorf("follow of what has ended gives lines %d to %d", first, last)
	}

	raw, err := d.engine.Inspect(t.Context(), backend.NameOf(req.Ref))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(raw.LogPath))
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("only root may look at the engine's files")
	}
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	var used int64
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(raw.LogPath)) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		files, used = append(files, e.Name()), used+info.Size()
	}
	// The engine checks the size before it writes an entry, so each file may be too
	// large by one entry with its time and stream.
	if most := int64(3 * (size + length + 200)); len(files) != 3 || used > most || used < size {
		t.Errorf("the log has the files %q of %d bytes, want three of at most %d", files, used, most)
	}
}

// TestFollowOfAFastWriter: the output of a process that quickly writes far more than
// one log file is followed to its end.
func TestFollowOfAFastWriter(t *testing.T) {
	const lines = 200_000
	d := onEngine(t)
	c, _ := made(t, d, structs.NewID(), &structs.ContainerSpec{Image: dockertest.Image, Command: []string{"seq", "1", strconv.Itoa(lines)}})
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	out := countLines(nil)
	err := d.Logs(t.Context(), c.EngineID, structs.LogsRequest{Stdout: true, Stderr: true, Follow: true, Tail: -1},
		backend.LogStreams{Stdout: out, Stderr: out})
	out.Close()
	<-out.done
	if err != nil || out.err != nil || out.lines != lines {
		t.Errorf("%d lines of %d, %v, %v", out.lines, lines, out.err, err)
	}
}

// TestFollowGoesOnOverRestarts: by the engine's restart policy, and by others that Again
// reports.
func TestFollowGoesOnOverRestarts(t *testing.T) {
	d := onEngine(t)
	c, _ := made(t, d, structs.NewID(), &structs.ContainerSpec{
		Image: dockertest.Image, Command: []string{"sh", "-c", "echo hi; exit 3"},
		RestartPolicy: structs.RestartPolicy{Name: structs.RestartOnFailure, MaxRetries: 2},
	})
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	starts := 0
	err := d.Logs(t.Context(), c.EngineID, structs.LogsRequest{Stdout: true, Stderr: true, Follow: true, Tail: -1}, backend.LogStreams{
		Stdout: &out, Stderr: &errs,
		Again: func(ctx context.Context) bool {
			if starts++; starts > 1 {
				return false
			}
			if err := d.Start(ctx, c.EngineID); err != nil {
				t.Error(err)
			}
			return true
		},
	})
	if want := strings.Repeat("hi\n", 6); err != nil || out.String() != want {
		t.Errorf("%q, %v; want six runs' output", &out, err)
	}
}
