package rest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// forward opens a connection to a port of a pod.
func (f *fixture) forward(t *testing.T, path string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(f.s.URL, "http", "ws", 1)+"/v1/pods/"+path,
		&websocket.DialOptions{HTTPClient: httpClient})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func TestForward(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	id := f.pod("web")["uuid"].(string)
	// Both ends say that they send no more, in either order.
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, stdout, "hi")
		_ = servertest.Send(ctx, conn, ctl, `{"eof":true}`)
		var got string
		for {
			_, m, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if got += fmt.Sprintf("%q", m); m[0] == ctl {
				break
			}
		}
		_ = servertest.Send(ctx, conn, ctl, fmt.Sprintf(`{"error":%q,"code":"unavailable"}`, got))
	}
	conn := f.forward(t, "web/forward/ws?port=8080")
	offer := <-s.offers
	want := structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 1, Part: structs.PodInfra}
	if offer.Kind != structs.SessionForward || offer.Port != 8080 || offer.Ref() != want {
		t.Errorf("offer %+v", offer)
	}
	for _, want := range []string{"\x01hi", "\x03" + `{"eof":true}`} {
		if channel, text := receive(t, conn); string(channel)+text != want {
			t.Errorf("message %d %q, want %q", channel, text, want)
		}
	}
	for _, m := range []string{"\x00all", "\x03" + `{"eof":true}`} {
		if err := conn.Write(t.Context(), websocket.MessageBinary, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	if m := lastControl(t, conn); m.Error != `"\x00all""\x03{\"eof\":true}"` || m.Code != structs.CodeUnavailable {
		t.Errorf("%+v", m)
	}
}

func TestForwardRefusals(t *testing.T) {
	f := newFixture(t)
	f.pod("web")
	upgrade := []header{{"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Version", "13"},
		{"Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg=="}}
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"web/forward/ws":            {400, "port is missing"},
		"web/forward/ws?port=0":     {400, "port 0 not in 1..65535"},
		"web/forward/ws?port=65536": {400, "port 65536 not in 1..65535"},
		"web/forward/ws?port=http":  {400, "port"},
		"none/forward/ws?port=80":   {404, "Pod none could not be found"},
	} {
		f.do("GET", "/v1/pods/"+path, "", upgrade...).is(want.status).mentions(want.says)
	}
	f.do("GET", "/v1/pods/web/forward/ws?port=80", "").is(400).mentions("WebSocket")
	job := podHead + `"metadata":{"name":"big"},"spec":{"containers":[{"name":"c","image":"x",` +
		`"resources":{"requests":{"memory":99999999999}}}]}}`
	f.do("POST", "/v1/pods", podOf(t, job, "")).is(201)
	f.do("GET", "/v1/pods/big/forward/ws?port=80", "", upgrade...).is(409).mentions("Pod big has no host yet")
}

// TestForwardToAPodThatHasEnded is refused by the server: nothing has the pod's address.
func TestForwardToAPodThatHasEnded(t *testing.T) {
	f := newFixture(t, servertest.Parts(func(a structs.Assignment, o *structs.Observed) []structs.PartReport {
		return []structs.PartReport{{Part: "c0", Observed: *o,
			State: structs.PartState{State: structs.PartTerminated, ExitCode: new(int), Reason: structs.ReasonCompleted}}}
	}))
	manifest := strings.Replace(podManifest("job", "x"), `"spec":{`, `"spec":{"restartPolicy":"Never",`, 1)
	f.do("POST", "/v1/pods?wait=1m", podOf(t, manifest, "")).is(201)
	f.do("GET", "/v1/pods/job/forward/ws?port=80", "", header{"Upgrade", "websocket"}, header{"Connection", "Upgrade"},
		header{"Sec-WebSocket-Version", "13"}, header{"Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg=="}).is(409).
		mentions("Pod job is Succeeded")
}
