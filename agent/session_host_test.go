package agent

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

func hostKind(k structs.SessionKind, adapt func(*structs.SessionOffer)) structs.SessionOffer {
	o := structs.SessionOffer{SID: structs.NewID(), Kind: k}
	if adapt != nil {
		adapt(&o)
	}
	return o
}

// document decodes the document of a session.
func document[T any](t *testing.T, got said) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || !got.last.Done {
		t.Fatalf("the session answers %+v: %v", got, err)
	}
	return v
}

// imageNamesOf lists the images through a session.
func imageNamesOf(t *testing.T, s *fakeServer) []string {
	t.Helper()
	var names []string
	for _, img := range document[[]structs.Image](t, listen(t, s.offer(hostKind(structs.SessionImageList, nil)))) {
		names = append(names, img.Names...)
	}
	slices.Sort(names)
	return names
}

func TestImageSessions(t *testing.T) {
	s, fake, _ := catHost(t, false) // its container uses the fake's own image
	want := func(names ...string) {
		t.Helper()
		slices.Sort(names)
		if got := imageNamesOf(t, s); !slices.Equal(got, names) {
			t.Fatalf("images are %q, want %q", got, names)
		}
	}
	want(backendtest.Image)

	fake.Outside.PushImage("pushed:1")
	release := fake.Outside.HoldPulls()
	conn := s.offer(hostKind(structs.SessionImagePull, func(o *structs.SessionOffer) { o.Image = "pushed:1" }))
	if _, m, err := conn.Read(t.Context()); err != nil || m[0] != structs.ChannelStdout || string(m[1:]) != "pulling pushed:1" {
		t.Fatalf("message %q, %v: not the progress", m, err)
	}
	fake.Outside.Say("half of it")
	release()
	if got := listen(t, conn); got.stdout != "half of it" || !got.last.Done {
		t.Fatalf("a pull ends with %+v", got)
	}
	got := listen(t, s.offer(hostKind(structs.SessionImagePull, func(o *structs.SessionOffer) { o.Image = "none:1" })))
	if got.last.Code != structs.CodeNotFound || !strings.Contains(got.last.Error, "none:1") {
		t.Fatalf("a pull of nothing ends with %+v", got)
	}

	raw, err := backendtest.ImageArchive("loaded:1", 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	load := func(archive []byte) said {
		t.Helper()
		conn := s.offer(hostKind(structs.SessionImageLoad, nil))
		go upload(t, conn, bytes.NewReader(archive))
		return listen(t, conn)
	}
	if names := document[structs.ImageChange](t, load(raw)).Images; !slices.Equal(names, []string{"loaded:1"}) {
		t.Fatalf("loaded %q", names)
	}
	if got := load([]byte(strings.Repeat("no archive ", 500))); got.last.Code != structs.CodeInvalid {
		t.Fatalf("garbage gives %+v", got.last)
	}
	want(backendtest.Image, "loaded:1", "pushed:1")

	// An archive that breaks off is not loaded.
	half, err := backendtest.ImageArchive("half:1", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	conn = s.offer(hostKind(structs.SessionImageLoad, nil))
	if err := conn.Write(t.Context(), websocket.MessageBinary, append([]byte{structs.ChannelStdin}, half[:50_000]...)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")

	gone := document[structs.ImageChange](t, listen(t, s.offer(hostKind(structs.SessionImagePrune, nil))))
	slices.Sort(gone.Images)
	if !slices.Equal(gone.Images, []string{"loaded:1", "pushed:1"}) || gone.Size != 2<<20 {
		t.Fatalf("a prune has removed %+v", gone)
	}
	want(backendtest.Image)

	fake.Outside.Down()
	for _, k := range []structs.SessionKind{structs.SessionImageList, structs.SessionImagePrune, structs.SessionVolumeList} {
		if got := listen(t, s.offer(hostKind(k, nil))); got.last.Code != structs.CodeUnavailable {
			t.Errorf("%s without an engine gives %+v", k, got.last)
		}
	}
}

func TestVolumeSessions(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := want("a", 1, structs.DesiredRunning)
	a.Spec.Volumes = []structs.Mount{{Name: "data", Target: "/data"}}
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, nil, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	list := func(project string) []structs.Volume {
		t.Helper()
		return document[[]structs.Volume](t, listen(t,
			s.offer(hostKind(structs.SessionVolumeList, func(o *structs.SessionOffer) { o.ProjectID = project }))))
	}
	remove := func(project, name string) structs.Control {
		t.Helper()
		return listen(t, s.offer(hostKind(structs.SessionVolumeDelete,
			func(o *structs.SessionOffer) { o.ProjectID, o.Volume = project, name }))).last
	}
	if all := list("p"); len(all) != 1 || all[0].Name != "data" || !slices.Equal(all[0].UsedBy, []string{"a"}) {
		t.Fatalf("volumes are %+v", all)
	}
	if n, m := len(list("other")), len(list("")); n != 0 || m != 1 {
		t.Fatalf("another project has %d volumes, all have %d", n, m)
	}
	for _, c := range []struct {
		project, name string
		want          structs.Code
	}{{"p", "data", structs.CodeConflict}, {"p", "none", structs.CodeNotFound}, {"other", "data", structs.CodeNotFound}, {"", "data",
		structs.CodeInvalid}, {"p", "", structs.CodeInvalid}} {
		if got := remove(c.project, c.name); got.Code != c.want {
			t.Errorf("deletion of %q of project %q gives %+v, want %s", c.name, c.project, got, c.want)
		}
	}
	fake.Outside.Remove(ref(a))
	if got := remove("p", "data"); !got.Done {
		t.Fatalf("deletion gives %+v", got)
	}
	if left := list("p"); len(left) != 0 {
		t.Fatalf("left are %+v", left)
	}
}

func TestHostSessionsRefuseUnknownKinds(t *testing.T) {
	s, _, _ := catHost(t, false)
	for _, k := range []structs.SessionKind{"image_paint", structs.SessionImagePull, structs.SessionLogs} {
		if got := listen(t, s.offer(hostKind(k, nil))); got.last.Code != structs.CodeInvalid ||
			!strings.Contains(got.last.Error, string(k)) {
			t.Errorf("%s gives %+v", k, got.last)
		}
	}
}
