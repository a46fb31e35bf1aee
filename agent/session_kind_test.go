package agent

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// catHost runs an agent with container a, whose process echoes its input. tty says
// whether it has a terminal.
func catHost(t *testing.T, tty bool) (*fakeServer, *backendtest.Fake, structs.Assignment) {
	t.Helper()
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := command(want("a", 1, structs.DesiredRunning), "cat")
	a.Spec.Stdin, a.Spec.TTY = true, tty
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, nil, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	return s, fake, a
}

func kind(k structs.SessionKind, adapt func(*structs.SessionOffer)) structs.SessionOffer {
	o := structs.SessionOffer{SID: structs.NewID(), Kind: k, ContainerID: "a", Epoch: 1}
	if adapt != nil {
		adapt(&o)
	}
	return o
}

// echo writes until the process answers, because input before the streams are attached
// is lost.
func echo(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	answers := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(t.Context())
		answers <- err
	}()
	for {
		say(t, conn, structs.ChannelStdin, "hi\n")
		select {
		case err := <-answers:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("no answer")
		}
	}
}

func TestAttachSession(t *testing.T) {
	s, fake, a := catHost(t, true)
	attach := kind(structs.SessionAttach, func(o *structs.SessionOffer) {
		o.Exec = &structs.ExecRequest{Stdin: true, TTY: true, Width: 80, Height: 24}
	})
	left := s.offer(attach)
	echo(t, left)
	_ = left.CloseNow()
	attach.SID = structs.NewID()
	conn := s.offer(attach)
	echo(t, conn)
	say(t, conn, structs.ChannelControl, `{"resize":{"w":100,"h":50}}`)
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if n := fake.Seen.Starts(ref(a)); n != 1 || fake.Seen.Containers()[ref(a)].State != backend.StateRunning {
		t.Fatalf("one who has left has ended it: %d starts", n)
	}
	fake.Outside.Exit(ref(a), 4)
	if got := listen(t, conn); got.last.ExitCode == nil || *got.last.ExitCode != 4 {
		t.Fatalf("attach ends with %+v", got.last)
	}
	attach.SID = structs.NewID()
	if got := listen(t, s.offer(attach)); got.last.Code != structs.CodeConflict {
		t.Fatalf("attach to one that has ended gives %+v", got.last)
	}
}

// TestAttachBeforeTheStart: an attachment before the start gets all output.
func TestAttachBeforeTheStart(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := command(want("a", 1, structs.DesiredStopped), "echo one; echo bad >&2; exit 3")
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, nil, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerStopped)
	attach := kind(structs.SessionAttach, func(o *structs.SessionOffer) { o.Exec = &structs.ExecRequest{} })
	if got := listen(t, s.offer(attach)); got.last.Code != structs.CodeConflict {
		t.Fatalf("attach to one that was not started, unasked, gives %+v", got.last)
	}
	attach.SID, attach.Unstarted = structs.NewID(), true
	conn := s.offer(attach)
	if _, m, err := conn.Read(t.Context()); err != nil || string(m) != "\x03"+`{"attached":true}` {
		t.Fatalf("first comes %q, %v", m, err)
	}
	a.Generation, a.Desired = 2, structs.DesiredRunning
	s.assign(a)
	if got := listen(t, conn); got.stdout != "one\n" || got.stderr != "bad\n" || got.last.ExitCode == nil || *got.last.ExitCode != 3 {
		t.Fatalf("%+v", got)
	}
}

// TestAttachSessionInputEnds: without a terminal the end of the input ends cat.
func TestAttachSessionInputEnds(t *testing.T) {
	s, _, _ := catHost(t, false)
	conn := s.offer(kind(structs.SessionAttach, func(o *structs.SessionOffer) { o.Exec = &structs.ExecRequest{Stdin: true} }))
	echo(t, conn)
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got := listen(t, conn); got.last.ExitCode == nil || *got.last.ExitCode != 0 {
		t.Fatalf("attach ends with %+v", got.last)
	}
}

func TestStatsAndTopSessions(t *testing.T) {
	s, fake, a := catHost(t, false)
	var stats structs.StatsBody
	got := listen(t, s.offer(kind(structs.SessionStats, nil)))
	if err := json.Unmarshal([]byte(got.stdout), &stats); err != nil || stats.MemoryUsed == 0 || stats.ReadAt.IsZero() || !got.last.Done {
		t.Fatalf("stats are %+v: %v", got, err)
	}
	var top structs.TopBody
	got = listen(t, s.offer(kind(structs.SessionTop, nil)))
	if err := json.Unmarshal([]byte(got.stdout), &top); err != nil || len(top.Processes) != 1 || !got.last.Done {
		t.Fatalf("top is %+v: %v", got, err)
	}
	if got = listen(t, s.offer(kind(structs.SessionTop,
		func(o *structs.SessionOffer) { o.Args = "--none" }))); got.last.Code != structs.CodeInvalid {
		t.Fatalf("top with unknown arguments gives %+v", got.last)
	}
	conn := s.offer(kind(structs.SessionStats, func(o *structs.SessionOffer) { o.Stream = true }))
	accepted(t, conn)
	for range 2 {
		_, m, err := conn.Read(t.Context())
		if err != nil || m[0] != structs.ChannelStdout || json.Unmarshal(m[1:], &stats) != nil {
			t.Fatalf("message %q, %v: not one document", m, err)
		}
	}
	fake.Outside.Exit(ref(a), 0)
	if got = listen(t, conn); !got.last.Done {
		t.Fatalf("stats end with %+v", got.last)
	}
	for _, k := range []structs.SessionKind{structs.SessionStats, structs.SessionTop} {
		if got = listen(t, s.offer(kind(k, nil))); got.last.Code != structs.CodeConflict {
			t.Errorf("%s of one that has ended gives %+v", k, got.last)
		}
	}
}

// fileArchive returns a tar stream of one file of x's. It is generated while it is
// read, because the largest would need too much memory.
func fileArchive(t *testing.T, name string, size int) io.Reader {
	t.Helper()
	var header bytes.Buffer
	w := tar.NewWriter(&header)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	const block = 512
	end := make([]byte, (block-size%block)%block+2*block)
	return io.MultiReader(&header, io.LimitReader(xs{}, int64(size)), bytes.NewReader(end))
}

// xs reads as x's without end.
type xs struct{}

func (xs) Read(p []byte) (int, error) {
	for n := copy(p, "xxxxxxxxxxxxxxxx"); n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
	return len(p), nil
}

// upload sends an archive as far as the agent takes it. An early refusal ends the
// connection.
func upload(t *testing.T, conn *websocket.Conn, archive io.Reader) {
	t.Helper()
	chunk := make([]byte, 1+128<<10)
	chunk[0] = structs.ChannelStdin
	for {
		n, err := io.ReadFull(archive, chunk[1:])
		if n > 0 && conn.Write(t.Context(), websocket.MessageBinary, chunk[:1+n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_ = conn.Write(t.Context(), websocket.MessageBinary, append([]byte{structs.ChannelControl}, `{"eof":true}`...))
}

func TestArchiveSessions(t *testing.T) {
	s, fake, a := catHost(t, false)
	at := func(k structs.SessionKind, path string) structs.SessionOffer {
		return kind(k, func(o *structs.SessionOffer) { o.Path = path })
	}
	put := func(path string, archive io.Reader) said {
		t.Helper()
		conn := s.offer(at(structs.SessionArchivePut, path))
		go upload(t, conn, archive)
		return listen(t, conn)
	}
	const size = 3 << 20
	if got := put("/tmp", fileArchive(t, "big", size)); !got.last.Done {
		t.Fatalf("put ends with %+v", got.last)
	}
	got := listen(t, s.offer(at(structs.SessionArchiveGet, "/tmp/big")))
	r := tar.NewReader(strings.NewReader(got.stdout))
	h, err := r.Next()
	if err != nil || h.Name != "big" || h.Size != size || !got.last.Done {
		t.Fatalf("got %+v, %v, and then %+v", h, err, got.last)
	}
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if got := listen(t, s.offer(at(structs.SessionArchiveGet, "/none"))); got.last.Code != structs.CodeNotFound ||
		!strings.Contains(got.last.Error, "/none") {
		t.Errorf("a path that is not there gives %+v", got.last)
	}
	if got := put("/none", fileArchive(t, "x", 1)); got.last.Code != structs.CodeNotFound {
		t.Errorf("a directory that is not there gives %+v", got.last)
	}
	if got := put("/tmp", strings.NewReader(strings.Repeat("no archive ", 500))); got.last.Code != structs.CodeInvalid {
		t.Errorf("garbage gives %+v", got.last)
	}
	if got := listen(t, s.offer(kind(structs.SessionArchiveGet, nil))); got.last.Code != structs.CodeInvalid {
		t.Errorf("an offer without a path gives %+v", got.last)
	}
	// An archive that breaks off is not unpacked.
	conn := s.offer(at(structs.SessionArchivePut, "/tmp"))
	whole, err := io.ReadAll(fileArchive(t, "half", size))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{whole[:512], whole[512 : 64<<10]} {
		if err := conn.Write(t.Context(), websocket.MessageBinary, append([]byte{structs.ChannelStdin}, part...)); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	if got := listen(t, s.offer(at(structs.SessionArchiveGet, "/tmp/half"))); got.last.Code != structs.CodeNotFound {
		t.Errorf("half an archive was unpacked: %+v", got.last)
	}
	fake.Outside.Exit(ref(a), 0)
	if got := put("/tmp", fileArchive(t, "later", 10)); !got.last.Done {
		t.Errorf("put into one that has ended gives %+v", got.last)
	}
}

// TestTooLargeAnArchiveIsRefused uses no connection, which would take the race detector
// too long for so much data; TestSessionsOnDocker has one.
func TestTooLargeAnArchiveIsRefused(t *testing.T) {
	_, fake, a := catHost(t, false)
	engineID := fake.Seen.Containers()[ref(a)].EngineID
	s := newSessions(featuresOf(fake), nil, nil, nil, 1, hclog.NewNullLogger())
	in := newInput()
	defer in.close()
	go func() {
		chunk := make([]byte, 128<<10)
		for archive := fileArchive(t, "huge", structs.MaxArchive); ; {
			n, err := io.ReadFull(archive, chunk)
			in.take(structs.ChannelStdin, chunk[:n])
			if err != nil {
				in.take(structs.ChannelControl, []byte(`{"eof":true}`))
				return
			}
		}
	}()
	put := kind(structs.SessionArchivePut, func(o *structs.SessionOffer) { o.Path = "/tmp" })
	if _, err := s.serveKind(t.Context(), new(channel), in, engineID, put); structs.CodeOf(err) != structs.CodeTooLarge {
		t.Errorf("too large an archive gives %v", err)
	}
}

func TestArchiveOutIsCapped(t *testing.T) {
	var out bytes.Buffer
	c := &capped{w: &out, left: 10, over: errArchive}
	if n, err := c.Write(make([]byte, 10)); n != 10 || err != nil {
		t.Fatalf("what fits: %d, %v", n, err)
	}
	if n, err := c.Write([]byte{1}); n != 0 || structs.CodeOf(err) != structs.CodeTooLarge || out.Len() != 10 {
		t.Fatalf("what doesn't fit: %d, %v", n, err)
	}
}
