package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

func TestPodRequests(t *testing.T) {
	var asked string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
		switch {
		case strings.HasSuffix(r.URL.Path, "/actions"):
			answer(w, 200, "7", `{"actions":[{"action":"create"}]}`)
		case r.URL.Path == "/v1/pods" && r.Method == "GET", r.URL.Path == "/v1/pods/detail":
			answer(w, 200, "7", `{"pods":[{"uuid":"u1","name":"web","status":"Running"}]}`)
		case strings.HasSuffix(r.URL.Path, "/logs"):
			w.Header().Set("Content-Type", "text/plain")
			io.WriteString(w, "line\n")
		case r.Method == "DELETE":
			w.WriteHeader(204)
		case strings.HasSuffix(r.URL.Path, "/execute"):
			answer(w, 200, "7", `{"output":"out","exit_code":0}`)
		default:
			answer(w, 200, "7", `{"uuid":"u1","name":"web","ready":true,"containers":[{"name":"app","state":{"state":"running"}}]}`)
		}
	})
	pods, ctx := c.Pods(), t.Context()
	check := func(want string, err error) {
		t.Helper()
		if err != nil || asked != want {
			t.Errorf("asked %s, %v; want %s", asked, err, want)
		}
	}
	list, _, err := pods.List(ctx, QueryOptions{Detail: true})
	check("GET /v1/pods/detail", err)
	if len(list) != 1 || list[0].Status != structs.PodRunning {
		t.Errorf("listed %+v", list)
	}
	pod, meta, err := pods.Get(ctx, "a b", QueryOptions{Index: 3, Wait: time.Second})
	check("GET /v1/pods/a%20b?index=3&wait=1s", err)
	if !pod.Ready || pod.Containers[0].State.State != structs.PartRunning || meta.Index != 7 {
		t.Errorf("got %+v, index %d", pod, meta.Index)
	}
	_, _, err = pods.Create(ctx, &structs.PodRequest{Bay: "web", Manifest: "kind: Pod"}, WriteOptions{Wait: time.Minute})
	check(`POST /v1/pods?wait=1m0s {"bay":"web","manifest":"kind: Pod"}`, err)
	_, _, err = pods.Update(ctx, "p", []structs.PatchOp{{Op: "replace", Path: "/manifest", Value: "x"}}, WriteOptions{Wait: -1})
	check(`PATCH /v1/pods/p?wait=0s [{"op":"replace","path":"/manifest","value":"x"}]`, err)
	_, err = pods.Delete(ctx, "p", DeleteOptions{Force: true})
	check("DELETE /v1/pods/p?force=true", err)
	_, err = pods.Delete(ctx, "p", DeleteOptions{})
	check("DELETE /v1/pods/p", err)
	_, _, err = pods.Actions(ctx, "p")
	check("GET /v1/pods/p/actions", err)
	_, _, err = pods.Execute(ctx, "p", "app", structs.ExecRequest{Command: []string{"ls"}})
	check("PUT /v1/pods/p/execute?command=%5B%22ls%22%5D&container=app&encoding=base64&split=true", err)

	for container, more := range map[string]string{"": "", "app": "container=app&"} {
		logs, err := pods.Logs(ctx, "p", container, structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1, Previous: true})
		check("GET /v1/pods/p/logs?"+more+"previous=true&stderr=true&stdout=true", err)
		if text, err := io.ReadAll(logs); string(text) != "line\n" || err != nil {
			t.Errorf("logs %q, %v", text, err)
		}
		logs.Close()
	}
	if _, err := pods.Logs(ctx, "", "", structs.LogsRequest{}); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("no pod: %v", err)
	}
	if _, err := pods.ExecuteInteractive(ctx, "p", "", structs.ExecRequest{}, Streams{}); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("no command: %v", err)
	}
}

func TestPodSessions(t *testing.T) {
	var asked string
	c := sessionServer(t, func(ctx context.Context, r *http.Request, conn *websocket.Conn) {
		asked = r.URL.RequestURI()
		if r.URL.Query().Get("container") == "none" {
			sendTest(t, ctx, conn, structs.ChannelControl, `{"error":"gone","code":"not_found"}`)
			return
		}
		sendTest(t, ctx, conn, structs.ChannelControl, `{"exit_code":3}`)
	})
	pods := c.Pods()
	code, err := pods.ExecuteInteractive(t.Context(), "p", "app", structs.ExecRequest{Command: []string{"ls"}}, Streams{})
	want := "/v1/pods/p/execute/ws?command=%5B%22ls%22%5D&container=app&stdin=false&tty=false"
	if code != 3 || err != nil || asked != want {
		t.Errorf("code %d, %v, asked %s", code, err, asked)
	}
	end, err := pods.Attach(t.Context(), "p", "app", AttachOptions{})
	if want := "/v1/pods/p/attach/ws?container=app&stdin=false"; err != nil || *end != 3 || asked != want {
		t.Errorf("code %v, %v, asked %s", end, err, asked)
	}
	// An error of the session is about the pod, not about a container of that name.
	_, err = pods.ExecuteInteractive(t.Context(), "p", "none", structs.ExecRequest{Command: []string{"ls"}}, Streams{})
	if e, ok := err.(*structs.Error); !ok || e.Kind != structs.KindPod || e.Code != structs.CodeNotFound {
		t.Errorf("a failed session: %#v", err)
	}
}
