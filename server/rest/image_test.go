package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// someImages is an agent's list of images.
const someImages = `[{"id":"sha256:02","names":["busybox:latest","busybox:1"],"size":200,"in_use":true,` +
	`"created_at":"2026-01-02T03:04:05+00:00","pulled_at":null,"used_at":"2026-01-03T03:04:05+00:00"},` +
	`{"id":"sha256:01","names":[],"size":100,"in_use":false,"created_at":null,"pulled_at":null,"used_at":null}]`

// readInput reads a session's input up to the sender's end message. ok is false if the
// session ends without it.
func readInput(ctx context.Context, conn *websocket.Conn) (input []byte, ok bool) {
	conn.SetReadLimit(1 << 20) // as agents have it
	for {
		_, message, err := conn.Read(ctx)
		switch {
		case err != nil:
			return input, false
		case message[0] == structs.ChannelControl:
			return input, true
		}
		input = append(input, message[1:]...)
	}
}

// fails answers a session with an error.
func fails(code structs.Code, message string) servertest.AgentOption {
	return servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, fmt.Sprintf(`{"error":%q,"code":%q}`, message, code))
		conn.Close(websocket.StatusNormalClosure, "")
	})
}

// says answers a session with a document.
func says(document string) servertest.AgentOption {
	return servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, document)
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
		conn.Close(websocket.StatusNormalClosure, "")
	})
}

// mute doesn't answer a session until the other side leaves.
func mute() servertest.AgentOption {
	return servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		<-conn.CloseRead(ctx).Done()
	})
}

// bayOf makes a bay "b1" with one host for each of the options: h0, h1 and so on.
func bayOf(t *testing.T, s *servertest.Server, options ...servertest.AgentOption) (*caller, []*servertest.Agent) {
	t.Helper()
	c := newCaller(t, s)
	var agents []*servertest.Agent
	for i, o := range options {
		agents = append(agents, s.StartAgent(t, fmt.Sprintf("h%d", i), o))
	}
	c.do("POST", "/v1/bays?wait=1m", fmt.Sprintf(`{"name":"b1","node_count":%d}`, len(options))).is(201)
	return c, agents
}

func TestImageList(t *testing.T) {
	s := servertest.New(t, servertest.WithHostPatience(2*time.Second))
	c, agents := bayOf(t, s, says(someImages), fails(structs.CodeUnavailable, "the Docker engine does not answer"), mute(),
		says("nonsense"), says(someImages))
	agents[4].Stop()
	s.Lose(t, agents[4].HostID)

	r := c.do("GET", "/v1/images", "").is(200)
	images := r.items("images")
	if len(images) != 2 || images[0]["id"] != "sha256:01" || images[1]["id"] != "sha256:02" || images[1]["host"] != "h0" ||
		images[1]["host_uuid"] != agents[0].HostID ||
		images[1]["bay_uuid"] == nil || images[1]["in_use"] != true || images[1]["used_at"] != "2026-01-03T03:04:05+00:00" {
		t.Errorf("images %v", images)
	}
	var errs []string
	for _, e := range r.items("errors") {
		errs = append(errs, fmt.Sprintf("%v %v: %v", e["host"], e["code"], e["message"]))
	}
	want := []string{"h1 unavailable: the Docker engine does not answer", "h2 unavailable: the host did not answer within 2s",
		"h3 unavailable: the host's agent sent an answer that can't be read: ",
		"h4 unavailable: the host is lost (its agent sent no heartbeat)"}
	for i := range want {
		if i >= len(errs) || !strings.HasPrefix(errs[i], want[i]) {
			t.Fatalf("errors\n%s, want\n%s", strings.Join(errs, "\n"), strings.Join(want, "\n"))
		}
	}
	for query, want := range map[string]int{"host=h0": 2, "host=" + agents[0].HostID: 2, "host=h0&name=busybox": 1,
		"host=h0&name=busybox:1": 1, "host=h0&name=box": 0, "bay=b1&host=h0": 2} {
		if got := c.do("GET", "/v1/images?"+query, "").is(200).items("images"); len(got) != want {
			t.Errorf("%s: %d images, want %d", query, len(got), want)
		}
	}
	c.do("GET", "/v1/images?host=none", "").is(400).code("host.invalid").says("Host none could not be found.").hints(structs.HintUnknown)
	c.do("GET", "/v1/images?bay=none", "").is(400).code("bay.invalid").says("Bay none could not be found.").hints(structs.HintUnknown)
	c.do("GET", "/v1/images?limit=1", "").is(400)
}

// TestImageListSizeIsLimited checks that hosts can't fill the server's memory.
func TestImageListSizeIsLimited(t *testing.T) {
	endless := servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		chunk := strings.Repeat(" ", 512<<10)
		for servertest.Send(ctx, conn, stdout, chunk) == nil {
		}
	})
	c, _ := bayOf(t, servertest.New(t), endless)
	r := c.do("GET", "/v1/images", "").is(200)
	if errs := r.items("errors"); len(errs) != 1 || errs[0]["code"] != "too_large" {
		t.Errorf("errors %v", errs)
	}
}

// TestImagesAndVolumesByProject checks which hosts the callers of a project see and change.
func TestImagesAndVolumesByProject(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	root := newCaller(t, s).as("admin")
	place := func(token, bay, more string) *servertest.Agent {
		t.Helper()
		a := s.StartAgent(t, "host-of-"+bay, servertest.Serve(serveText))
		root.as(token).do("POST", "/v1/bays?wait=1m", `{"name":"`+bay+`"`+more+`}`).is(201)
		return a
	}
	place("alice", "mine", "")
	place("mallory", "other", "")
	place("admin", "all", `,"shared":true`)
	free := s.StartAgent(t, "host-of-none", servertest.Serve(serveText))
	hosts := func(token, query string) string {
		t.Helper()
		var names []string
		for _, img := range root.as(token).do("GET", "/v1/images"+query, "").is(200).items("images") {
			names = append(names, strings.TrimPrefix(img["host"].(string), "host-of-"))
		}
		return strings.Join(slices.Compact(names), " ")
	}
	for _, tt := range []struct{ token, query, want string }{
		{"alice", "", "all mine"}, {"reader", "", "all mine"}, {"mallory", "", "all other"}, {"admin", "", "all mine"},
		{"admin", "?all_projects=true", "all mine none other"}, {"admin", "?host=host-of-other", "other"},
		{"admin", "?host=" + free.HostID, "none"},
		{"alice", "?bay=all", "all"}, {"alice", "?host=host-of-mine", "mine"},
	} {
		if got := hosts(tt.token, tt.query); got != tt.want {
			t.Errorf("%s%s sees images of %q, want %q", tt.token, tt.query, got, tt.want)
		}
	}
	alice, mallory := root.as("alice"), root.as("mallory")
	alice.do("GET", "/v1/images?host=host-of-other", "").is(400)
	alice.do("GET", "/v1/images?bay=other", "").is(400)
	alice.do("GET", "/v1/images?all_projects=true", "").is(403)
	alice.do("GET", "/v1/volumes?all_projects=true", "").is(403)

	pull := func(c *caller, more string) *reply {
		t.Helper()
		return c.do("POST", "/v1/images", `{"image":"a"`+more+`}`)
	}
	pull(alice, `,"bay":"mine"`).is(200)
	pull(alice, `,"bay_uuid":"all"`).is(200)
	pull(alice, "").is(400).mentions("bay_uuid is missing, and there are 2 bays to choose from: all (", "mine (").hints(structs.HintChoose)
	pull(alice, `,"bay":"other"`).is(400).says("Bay other could not be found.")
	pull(alice, `,"host":"host-of-mine"`).is(403)
	pull(root, `,"host":"host-of-none"`).is(200)
	pull(root, `,"host":"nowhere"`).is(400).says("Host nowhere could not be found.")
	pull(root, `,"host":"host-of-none","bay":"mine"`).is(400).mentions("name one of them")
	pull(root, `,"bay":"mine","bay_uuid":"all"`).is(400).mentions("two spellings")

	// An archive can use any image's name, in a shared bay also that of another project's.
	alice.do("PUT", "/v1/images/load?bay=mine", "tar").is(200)
	alice.do("PUT", "/v1/images/load?bay=all", "tar").is(403).mentions("shared")
	alice.do("PUT", "/v1/images/load?host=host-of-mine", "tar").is(403)
	root.do("PUT", "/v1/images/load?bay=all", "tar").is(200)
	root.do("PUT", "/v1/images/load?host=host-of-none", "tar").is(200)

	root.do("PUT", "/v1/images/prune", "").is(400).mentions("all=true")
	root.do("PUT", "/v1/images/prune?all=true&bay=mine", "").is(400)
	for query, want := range map[string]int{"?all=true": 4, "?bay=mine": 1, "?host=host-of-none": 1} {
		results := root.do("PUT", "/v1/images/prune"+query, "").is(200).items("results")
		if len(results) != want || results[0]["size"] != 300.0 || fmt.Sprint(results[0]["images"]) != "[old:1 sha256:00]" {
			t.Errorf("prune%s: %v, want %d", query, results, want)
		}
	}

	// The server doesn't trust a host to name the project of a volume.
	if got := alice.do("GET", "/v1/volumes", "").is(200).items("volumes"); len(got) != 2 || got[0]["name"] != "data" ||
		got[0]["host"] != "host-of-all" {
		t.Errorf("volumes %v", got)
	}
	if got := mallory.do("GET", "/v1/volumes", "").is(200).items("volumes"); len(got) != 0 {
		t.Errorf("another project sees %v", got)
	}
	if got := root.do("GET", "/v1/volumes?all_projects=true", "").is(200).items("volumes"); len(got) != 4 {
		t.Errorf("all volumes are %v", got)
	}
	mallory.do("DELETE", "/v1/volumes/data", "").is(404).code("volume.not_found").says("Volume data could not be found.")
	mallory.do("DELETE", "/v1/volumes/data?project_id=p1", "").is(403)
	alice.do("DELETE", "/v1/volumes/data", "").is(409).mentions("on 2 hosts", "host-of-all (", "host-of-mine (")
	alice.do("DELETE", "/v1/volumes/data?host=host-of-mine", "").is(204)
	alice.do("DELETE", "/v1/volumes/data?bay=all", "").is(204)
}

func TestImagePull(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	s.play = serveText
	r := f.do("POST", "/v1/images", `{"image":"me/it:1","registry":{"username":"u","password":"geheim"}}`).is(200)
	if offer := <-s.offers; offer.Kind != structs.SessionImagePull || offer.ContainerID != "" || offer.Image != "me/it:1" ||
		offer.Registry.Password != "geheim" {
		t.Errorf("offer %+v", offer)
	}
	if got := r.items("results"); len(got) != 1 || got[0]["result"] != "success" || got[0]["host"] != "host-1" ||
		got[0]["message"] != nil || fmt.Sprint(got[0]["images"]) != "[me/it:1]" {
		t.Errorf("results %v", got)
	}
	for body, want := range map[string]string{
		`{}`:              "Mandatory field missing",
		`{"image":"a b"}`: "white space",
		`{"image":"a","registry":{"username":"u"}}`: "one of them is missing",
		`{"image":"a","tag":"1"}`:                   "Unknown attribute",
		`[]`:                                        "has to be an object",
	} {
		f.do("POST", "/v1/images", body).is(400).mentions(want)
	}
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"error":"image a can't be pulled: no such host","code":"not_found"}`)
	}
	f.do("POST", "/v1/images", `{"image":"a"}`).is(404).code("not_found").says("host host-1: image a can't be pulled: no such host")
	s.play = func(_ context.Context, _ structs.SessionOffer, conn *websocket.Conn) { conn.CloseNow() }
	f.do("POST", "/v1/images", `{"image":"a"}`).is(503).mentions("host-1")
}

// lines makes a request for JSON lines and returns them.
func lines(t *testing.T, s *servertest.Server, body string) []structs.HostResult {
	t.Helper()
	r, err := http.NewRequest("POST", s.URL+"/v1/images", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/x-ndjson")
	resp, err := httpClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	var all []structs.HostResult
	for dec := json.NewDecoder(resp.Body); ; {
		var one structs.HostResult
		if err := dec.Decode(&one); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// TestImagePullOnSeveralHosts checks that a host which fails or is lost doesn't affect the
// pull on other hosts.
func TestImagePullOnSeveralHosts(t *testing.T) {
	s := servertest.New(t)
	c, agents := bayOf(t, s, servertest.Serve(serveText), fails(structs.CodeNotFound, "no such host"), servertest.Serve(serveText))
	agents[2].Stop()
	s.Lose(t, agents[2].HostID)
	got := c.do("POST", "/v1/images", `{"image":"a"}`).is(200).items("results")
	if len(got) != 2 || got[0]["result"] != "success" || got[1]["result"] != "error" || got[1]["code"] != "not_found" ||
		got[1]["message"] != "no such host" {
		t.Errorf("results %v", got)
	}
	var texts []string
	for _, l := range lines(t, s, `{"image":"a"}`) {
		text := l.Host + " " + l.Result
		if l.Message != nil {
			text += ": " + *l.Message
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	if want := []string{"h0 progress: pulling a", "h0 success", "h1 error: no such host"}; !slices.Equal(texts, want) {
		t.Errorf("lines %q, want %q", texts, want)
	}
	c.do("POST", "/v1/images", `{"image":""}`, header{"Accept", "application/x-ndjson"}).is(400)
	c.do("POST", "/v1/images", `{"image":"a","host":"h2"}`).is(503).says("host h2 can't be asked: host h2 is lost (its agent sent no " +
		"heartbeat)")
}

// TestImagePullEndsWithClient checks that the agents' sessions end when the client leaves.
func TestImagePullEndsWithClient(t *testing.T) {
	left := make(chan struct{})
	f := newFixture(t, servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		closed := conn.CloseRead(ctx)
		_ = servertest.Send(ctx, conn, stdout, "pulling")
		<-closed.Done()
		close(left)
	}))
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", f.s.URL+"/v1/images", strings.NewReader(`{"image":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/x-ndjson")
	resp, err := httpClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	leave()
	resp.Body.Close()
	<-left
}

func TestImageLoad(t *testing.T) {
	inputs := make(chan []byte, 2)
	takes := servertest.Serve(func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		input, ok := readInput(ctx, conn)
		if inputs <- input; !ok {
			return
		}
		_ = servertest.Send(ctx, conn, stdout, `{"images":["a:1","b:1"],"size":0}`)
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
		conn.Close(websocket.StatusNormalClosure, "")
	})
	s := servertest.New(t, servertest.WithMaxImageFile(8<<20))
	// The second host fails in the middle of the archive.
	c, _ := bayOf(t, s, takes, fails(structs.CodeNoSpace, "no space left on device"), takes)
	large := bytes.Repeat([]byte("0123456789abcdef"), 400<<10) // 6.4 MB
	got := c.do("PUT", "/v1/images/load", string(large)).is(200).items("results")
	if len(got) != 3 || got[0]["result"] != "success" || fmt.Sprint(got[0]["images"]) != "[a:1 b:1]" || got[1]["code"] != "no_space" ||
		got[2]["result"] != "success" {
		t.Errorf("results %v", got)
	}
	for range 2 {
		if !bytes.Equal(<-inputs, large) {
			t.Error("a host has got something else")
		}
	}
	// An archive that is too large reaches no host, or doesn't end there.
	c.do("PUT", "/v1/images/load", strings.Repeat("x",
		8<<20+1)).is(413).says("the archive is larger than 8388608 bytes: save fewer images into it")
	if len(inputs) > 0 {
		t.Error("a host was asked")
	}
	send := func(body io.Reader) *http.Response {
		t.Helper()
		r, err := http.NewRequest("PUT", s.URL+"/v1/images/load", body) // in chunks
		if err != nil {
			t.Fatal(err)
		}
		resp, err := httpClient.Do(r)
		if err != nil {
			return nil // the server closed the connection before the end of the body
		}
		resp.Body.Close()
		return resp
	}
	if resp := send(io.LimitReader(zeros{}, 8<<20+1)); resp == nil || resp.StatusCode != 413 {
		t.Errorf("in chunks: %+v", resp)
	}
	for range 2 {
		if n := len(<-inputs); n > 8<<20 {
			t.Errorf("a host has got %d bytes", n)
		}
	}
	// If the sender breaks off, the hosts get no end message.
	send(io.MultiReader(bytes.NewReader(large[:1<<20]), broken{}))
	for range 2 {
		if n := len(<-inputs); n > 1<<20 {
			t.Errorf("a host has got %d bytes", n)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, fmt.Errorf("the disk is broken") }

// TestImageLoadWaitsForSlowestHost checks that the sender and the other hosts wait for a
// slow host, so that nothing is buffered for it.
func TestImageLoadWaitsForSlowestHost(t *testing.T) {
	const size = 64 << 20
	var got atomic.Int64
	release := make(chan struct{})
	host := func(before func()) servertest.AgentOption {
		return servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
			conn.SetReadLimit(1 << 20)
			before()
			n := 0
			for {
				_, message, err := conn.Read(ctx)
				if err != nil {
					return
				}
				if message[0] == ctl {
					break
				}
				n += len(message) - 1
				got.Store(max(got.Load(), int64(n)))
			}
			_ = servertest.Send(ctx, conn, stdout, fmt.Sprintf(`{"images":["%d"],"size":0}`, n))
			_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
			conn.Close(websocket.StatusNormalClosure, "")
		})
	}
	s := servertest.New(t)
	c, _ := bayOf(t, s, host(func() {}), host(func() { <-release }))
	stalled := time.AfterFunc(500*time.Millisecond, func() {
		if n := got.Load(); n > size/2 {
			t.Errorf("one host has got %d bytes of %d while the other took none", n, size)
		}
		close(release)
	})
	defer stalled.Stop()
	results := c.do("PUT", "/v1/images/load", strings.Repeat("x", size)).is(200).items("results")
	for _, r := range results {
		if fmt.Sprint(r["images"]) != fmt.Sprintf("[%d]", size) {
			t.Errorf("results %v", results)
		}
	}
}

func TestImageLoadFailsOnAllHosts(t *testing.T) {
	s := servertest.New(t)
	c, agents := bayOf(t, s, fails(structs.CodeInvalid, "the archive can't be loaded"), fails(structs.CodeInvalid, "it is no tar"))
	c.do("PUT", "/v1/images/load", strings.Repeat("x", 1<<20)).is(400).says("host h0: the archive can't be loaded; host h1: it is no tar")
	for _, a := range agents {
		a.Stop()
		s.Lose(t, a.HostID)
	}
	c.do("PUT", "/v1/images/load", "x").is(503).says("bay b1 can't be asked: host h0 is lost (its agent sent no heartbeat)")
	c.do("PUT", "/v1/images/prune?all=1", "").is(503)
	c.do("POST", "/v1/bays", `{"name":"b2"}`).is(201)
	c.do("PUT", "/v1/images/load?bay=b2", "x").is(503).says("bay b2 has no host yet: try again when it has")
}

func TestVolumes(t *testing.T) {
	s := newScript()
	server := servertest.New(t, servertest.WithHostPatience(2*time.Second))
	c, _ := bayOf(t, server, servertest.Serve(s.serve),
		servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
			<-conn.CloseRead(ctx).Done()
		}))
	id := c.do("POST", "/v1/containers", `{"name":"web","image":"a"}`).is(201).uuid()
	project := server.Store.Snapshot().Container(id).ProjectID
	volume := func(name, used string) string {
		return fmt.Sprintf(`{"name":%q,"project_id":%q,"created_at":null,"used_by":[%s]}`, name, project, used)
	}
	pod := c.do("POST", "/v1/pods", fmt.Sprintf(`{"manifest":%q}`, podManifest("files", "a"))).is(201).uuid()
	list := "[" + volume("data", `"`+id+`","other"`) + "," + volume("old", "") + "," + volume("claim", `"`+pod+`"`) + "]"
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		if offer.Kind == structs.SessionVolumeList {
			_ = servertest.Send(ctx, conn, stdout, list)
		}
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
		conn.Close(websocket.StatusNormalClosure, "")
	}
	r := c.do("GET", "/v1/volumes", "").is(200)
	if offer := <-s.offers; offer.Kind != structs.SessionVolumeList || offer.ProjectID != project {
		t.Errorf("offer %+v", offer)
	}
	if got := r.items("volumes"); len(got) != 3 || fmt.Sprint(got[0]["used_by"]) != "[web other]" || got[0]["host"] != "h0" ||
		len(r.items("errors")) != 1 {
		t.Errorf("volumes %s", r.body)
	}
	if got := c.do("GET", "/v1/volumes?name=old&host=h0", "").is(200); len(got.items("volumes")) != 1 || len(got.items("errors")) != 0 {
		t.Errorf("volumes %s", got.body)
	}
	// While a host is silent, the volume isn't deleted on another one.
	c.do("DELETE", "/v1/volumes/old", "").is(503).mentions("may be on host h1", "did not answer within 2s", "Say with host")
	c.do("DELETE", "/v1/volumes/old?host=h1", "").is(503)
	c.do("DELETE", "/v1/volumes/none?host=h0", "").is(404).says("Volume none could not be found.")
	c.do("DELETE", "/v1/volumes/data?host=h0",
		"").is(409).code("volume.conflict").says("Volume data on host h0 is used by container web, other: delete that first")
	c.do("DELETE", "/v1/volumes/claim?host=h0", "").is(409).says("Volume claim on host h0 is used by pod/files: delete that first")
	for len(s.offers) > 0 {
		<-s.offers
	}
	c.do("DELETE", "/v1/volumes/old?host=h0", "").is(204)
	<-s.offers
	if offer := <-s.offers; offer.Kind != structs.SessionVolumeDelete || offer.ProjectID != project || offer.Volume != "old" {
		t.Errorf("offer %+v", offer)
	}
	// A container has begun to use the volume in between.
	s.play = func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		if offer.Kind == structs.SessionVolumeList {
			_ = servertest.Send(ctx, conn, stdout, list)
			_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
		} else {
			_ = servertest.Send(ctx, conn, ctl, `{"error":"volume old is used","code":"conflict"}`)
		}
		conn.Close(websocket.StatusNormalClosure, "")
	}
	c.do("DELETE", "/v1/volumes/old?host=h0", "").is(409).code("volume.conflict").says("volume old is used")
}
