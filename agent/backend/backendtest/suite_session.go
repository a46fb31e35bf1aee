package backendtest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file has the tests of consoles except logs and commands.

// attached is one attachment.
type attached struct {
	input *io.PipeWriter
	out   chan string
	end   chan error
	code  *int // set when end has answered
}

func (x *consoleEnv) attach(ctx context.Context, c *backend.Container) *attached {
	r, w := io.Pipe()
	a := &attached{input: w, out: make(chan string, 100), end: make(chan error, 1)}
	go func() {
		code, err := x.consoles.Attach(ctx, c.EngineID, structs.Resize{}, backend.ExecStreams{
			Stdin: r, Stdout: writer(func(p []byte) { a.out <- string(p) }), Stderr: io.Discard,
		})
		a.code = code
		a.end <- err
	}()
	return a
}

// echoes writes to a process that runs cat until the process answers.
func (x *consoleEnv) echoes(a *attached) {
	x.Helper()
	for deadline := time.After(patience); ; {
		_, err := a.input.Write([]byte("hi\n")) // input before the streams are attached may be lost
		x.must(err, "standard input")
		select {
		case got := <-a.out:
			if !strings.HasPrefix(strings.ReplaceAll(got, "\r", ""), "hi\n") { // a terminal adds carriage returns
				x.Fatalf("cat answers %q", got)
			}
			return
		case err := <-a.end:
			x.Fatalf("attach ends with %v", err)
		case <-deadline:
			x.Fatal("no echo")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (x *consoleEnv) ends(a *attached) error {
	x.Helper()
	select {
	case err := <-a.end:
		return err
	case <-time.After(patience):
		x.Fatal("attach does not end")
		return nil
	}
}

func cat() *structs.ContainerSpec {
	spec := script("cat")
	spec.Stdin = true
	return spec
}

func testAttach(x *consoleEnv) {
	c := x.started(cat())
	a := x.attach(x.ctx, c)
	defer a.input.Close()
	x.echoes(a)
	x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
	x.must(x.ends(a), "attach")
	if a.code == nil || *a.code != 137 {
		x.Fatalf("exit code is %v, want 137", a.code)
	}
}

// testAttachInputEnds: without a terminal the end of the first client's input ends the
// process's input.
func testAttachInputEnds(x *consoleEnv) {
	c := x.started(cat())
	a := x.attach(x.ctx, c)
	x.echoes(a)
	x.must(a.input.Close(), "end of input")
	x.must(x.ends(a), "attach")
	if a.code == nil || *a.code != 0 {
		x.Fatalf("exit code is %v, want 0", a.code)
	}
}

// testAttachLeft: with a terminal clients come and go, and the process stays.
func testAttachLeft(x *consoleEnv) {
	spec := cat()
	spec.TTY = true
	c := x.started(spec)
	ctx, cancel := context.WithCancel(x.ctx)
	first, second := x.attach(ctx, c), x.attach(x.ctx, c)
	defer second.input.Close()
	x.echoes(first)
	x.echoes(second)
	x.must(first.input.Close(), "end of input")
	cancel()
	if err := x.ends(first); !errors.Is(err, context.Canceled) {
		x.Fatalf("the one who leaves gets %v, want the context's error", err)
	}
	for len(second.out) > 0 {
		<-second.out
	}
	x.echoes(second)
	if now := x.look(c); now.State != backend.StateRunning || !now.StartedAt.Equal(c.StartedAt) {
		x.Fatalf("after one has left it is %+v", now)
	}
	x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
	x.must(x.ends(second), "attach")
}

func testNotRunning(x *consoleEnv) {
	c := x.create(Sleeper())
	_, err := x.consoles.Attach(x.ctx, c.EngineID, structs.Resize{}, backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard})
	x.wantReason(err, backend.ErrNotRunning)
	for _, stream := range []bool{false, true} {
		x.wantReason(x.consoles.Stats(x.ctx, c.EngineID, stream, func(structs.StatsBody) error { return nil }), backend.ErrNotRunning)
	}
	_, err = x.consoles.Top(x.ctx, c.EngineID, "")
	x.wantReason(err, backend.ErrNotRunning)
}

func testStats(x *consoleEnv) {
	spec := Sleeper()
	spec.Memory = 64 << 20
	c := x.started(spec)
	var got []structs.StatsBody
	x.must(x.consoles.Stats(x.ctx, c.EngineID, false, func(s structs.StatsBody) error { got = append(got, s); return nil }), "stats")
	if len(got) != 1 || got[0].MemoryLimit != 64<<20 || got[0].MemoryUsed <= 0 || got[0].MemoryUsed > 64<<20 || got[0].PIDs < 1 ||
		time.Since(got[0].ReadAt.Time).Abs() > time.Minute || got[0].CPUPercent < 0 {
		x.Fatalf("stats are %+v", got)
	}
	left := errors.New("left")
	for _, stream := range []bool{false, true} {
		if err := x.consoles.Stats(x.ctx, c.EngineID, stream, func(structs.StatsBody) error { return left }); !errors.Is(err, left) {
			x.Fatalf("error is %v, want that of the listener", err)
		}
	}
}

// testPaused: a paused process uses what it has, and runs no commands.
func testPaused(x *consoleEnv) {
	c := x.started(Sleeper())
	x.must(x.engine.Pause(x.ctx, c.EngineID), "pause")
	count := 0
	x.must(x.consoles.Stats(x.ctx, c.EngineID, false, func(structs.StatsBody) error { count++; return nil }), "stats")
	if count != 1 {
		x.Fatalf("%d stats of a paused container, want 1", count)
	}
	left := errors.New("left")
	if err := x.consoles.Stats(x.ctx, c.EngineID, true, func(structs.StatsBody) error { return left }); !errors.Is(err, left) {
		x.Fatalf("error is %v, want that of the listener", err)
	}
	_, err := x.consoles.Top(x.ctx, c.EngineID, "")
	x.must(err, "top")
	_, err = x.consoles.Exec(x.ctx, c.EngineID, structs.ExecRequest{Command: []string{"true"}},
		backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard})
	x.wantReason(err, backend.ErrNotRunning)
	if strings.Contains(err.Error(), c.EngineID) {
		x.Fatalf("the refusal %q names the engine's ID", err)
	}
}

func testStatsStream(x *consoleEnv) {
	c := x.started(Sleeper())
	count := 0
	err := x.consoles.Stats(x.ctx, c.EngineID, true, func(s structs.StatsBody) error {
		if count++; count == 2 {
			return x.engine.Kill(x.ctx, c.EngineID)
		}
		return nil
	})
	if err != nil || count < 2 {
		x.Fatalf("%d stats and then %v, want some until the process ends", count, err)
	}
}

func testTop(x *consoleEnv) {
	c := x.started(Sleeper())
	for _, args := range []string{"", "-o pid,cmd", "-o cmd,pid", "-eo cmd",
		"-o " + strings.Join(slices.DeleteFunc(slices.Clone(structs.PSColumns), func(c string) bool {
			return c == "comm" || c == "args" || c == "command"
		}), ",")} {
		top, err := x.consoles.Top(x.ctx, c.EngineID, args)
		x.must(err, "top")
		at := slices.Index(top.Titles, "CMD")
		if at < 0 || len(top.Processes) != 1 || top.Processes[0][at] != "sleep 600" {
			x.Fatalf("top with %q is %+v", args, top)
		}
	}
	// These would show environments, or processes of the host.
	for _, args := range []string{"--no-such-option", "-orss=PID -e e -oargs", "-o pid=PID", "-o rss=PID,pid", "-e e", "aux e", "eww",
		"-o pid,environ", "-o pid,pid", "-o pid\n-e e", "--ppid 0", "-C init"} {
		top, err := x.consoles.Top(x.ctx, c.EngineID, args)
		if x.wantReason(err, backend.ErrInvalid); top.Processes != nil {
			x.Fatalf("top with %q is %+v", args, top)
		}
	}
}

// archive returns a tar stream of one file.
func archive(x *consoleEnv, name, content string) *bytes.Buffer {
	x.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	x.must(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}), "tar")
	_, err := io.WriteString(w, content)
	x.must(errors.Join(err, w.Close()), "tar")
	return &buf
}

func testArchive(x *consoleEnv) {
	content := strings.Repeat("0123456789", 20_000)
	c := x.create(Sleeper())
	for _, state := range []backend.State{backend.StateCreated, backend.StateRunning} {
		if state == backend.StateRunning {
			x.must(x.engine.Start(x.ctx, c.EngineID), "start")
		}
		x.wantState(x.look(c), state)
		x.must(x.consoles.ArchivePut(x.ctx, c.EngineID, "/tmp", archive(x, "a.txt", content+string(state))), "put")
		for at, want := range map[string]string{"/tmp/a.txt": "a.txt", "/tmp": "tmp/a.txt"} {
			var buf bytes.Buffer
			x.must(x.consoles.ArchiveGet(x.ctx, c.EngineID, at, &buf), "get")
			found := false
			for r := tar.NewReader(&buf); !found; {
				h, err := r.Next()
				x.must(err, "reading "+at)
				if h.Name == want {
					got, err := io.ReadAll(r)
					x.must(err, "reading "+want)
					found = string(got) == content+string(state)
				}
			}
		}
		for _, at := range []string{"/none", "/tmp/none"} {
			x.wantReason(x.consoles.ArchiveGet(x.ctx, c.EngineID, at, io.Discard), backend.ErrNoPath)
			x.wantReason(x.consoles.ArchivePut(x.ctx, c.EngineID, at, archive(x, "b", "b")), backend.ErrNoPath)
		}
		x.wantReason(x.consoles.ArchivePut(x.ctx, c.EngineID, "/tmp/a.txt", archive(x, "b", "b")), backend.ErrNotDir)
	}
}

func testArchiveBroken(x *consoleEnv) {
	c := x.create(Sleeper())
	garbage := strings.NewReader(strings.Repeat("this is no archive ", 100))
	x.wantReason(x.consoles.ArchivePut(x.ctx, c.EngineID, "/tmp", garbage), backend.ErrInvalid)
	whole := archive(x, "big", strings.Repeat("x", 200_000)).Bytes()
	x.wantReason(x.consoles.ArchivePut(x.ctx, c.EngineID, "/tmp", bytes.NewReader(whole[:100_000])), backend.ErrInvalid)
	left := errors.New("left")
	err := x.consoles.ArchivePut(x.ctx, c.EngineID, "/tmp", io.MultiReader(bytes.NewReader(whole[:100_000]), iotest.ErrReader(left)))
	if !errors.Is(err, left) {
		x.Fatalf("error is %v, want that of the source", err)
	}
	x.must(x.consoles.ArchivePut(x.ctx, c.EngineID, "/tmp", bytes.NewReader(whole)), "put")
	full := errors.New("full")
	if err := x.consoles.ArchiveGet(x.ctx, c.EngineID, "/tmp/big", failing{full}); !errors.Is(err, full) {
		x.Fatalf("error is %v, want that of the sink", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
