package command

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

func TestPortPair(t *testing.T) {
	for text, want := range map[string]portPair{
		"8080:80": {8080, 80}, "0:80": {0, 80}, ":80": {0, 80}, "80": {80, 80}, "65535:65535": {65535, 65535},
	} {
		if got, err := parsePortPair(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":", "80:", "x:80", "80:x", "1:0", "0", "65536:1", "1:65536", "-1:80", "1:2:3", "+1:80", "80:http"} {
		if got, err := parsePortPair(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

// messages takes what is written, one write after the other.
type messages chan string

func (w messages) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

// TestPortForward forwards to a host whose pod answers on port 80 with what it gets, in upper
// case, and refuses other ports.
func TestPortForward(t *testing.T) {
	s := podServer(t, servertest.Serve(func(ctx context.Context, offer structs.SessionOffer, conn *websocket.Conn) {
		send := func(channel byte, text string) {
			_ = conn.Write(ctx, websocket.MessageBinary, append([]byte{channel}, text...)) // the user sees what is missing
		}
		if offer.Port != 80 {
			send(structs.ChannelControl, fmt.Sprintf(`{"error":"port %d is closed","code":"unavailable"}`, offer.Port))
			return
		}
		for {
			_, m, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if m[0] == structs.ChannelControl {
				break
			}
			send(structs.ChannelStdout, strings.ToUpper(string(m[1:])))
		}
		send(structs.ChannelControl, `{"eof":true}`)
		send(structs.ChannelControl, `{"done":true}`)
	}))
	web := strings.Replace(manifestOf("web", "nginx"), "  name: web\n", "  name: web\n  labels: {app: web}\n", 1) + "---\n" +
		serviceManifestOf("web", "ports: [{name: a, port: 8080, targetPort: 80}, {name: b, port: 8081, targetPort: none}]")
	r := s.run("apply", "-f", write(t, t.TempDir(), "web.yaml", web))
	if r.code != 0 || r.stdout != "pod/web created\nservice/web created\n" {
		t.Fatalf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	errOut := make(messages, 100)
	said := func(want string) { // the next thing that standard error says
		t.Helper()
		select {
		case got := <-errOut:
			if !strings.Contains(got, want) {
				t.Errorf("standard error says %q, not %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Errorf("standard error doesn't say %q", want)
		}
	}
	e := &env{stdin: strings.NewReader(""), stdout: in, stderr: errOut, lookupEnv: func(k string) (string, bool) {
		v, ok := s.env[k]
		return v, ok
	}}
	ended := make(chan int, 1)
	go func() { ended <- e.run(ctx, []string{"port-forward", "pod/web", ":80", "0:81"}) }()
	var addrs [2]string
	lines := bufio.NewScanner(out)
	for i, port := range []int{80, 81} {
		if !lines.Scan() {
			t.Fatalf("no line %d", i)
		}
		var to int
		if _, err := fmt.Sscanf(lines.Text(), "Forwarding from %s -> %d", &addrs[i], &to); err != nil || to != port ||
			!strings.HasPrefix(addrs[i], "127.0.0.1:") {
			t.Fatalf("line %q", lines.Text())
		}
	}
	talk := func(addr string) (string, error) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return "", err // a reset may come before the dial returns
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return "", err // a reset has come already, and the read would not say so again
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		all, err := io.ReadAll(conn)
		return string(all), err
	}
	for range 3 {
		if got, err := talk(addrs[0]); got != "HELLO" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got, err := talk(addrs[1]); got != "" || err == nil {
		t.Errorf("a closed port answers %q, %v", got, err)
	}
	said("port 81: port 81 is closed\n")
	if got, err := talk(addrs[0]); got != "HELLO" || err != nil {
		t.Errorf("after a failure: %q, %v", got, err)
	}
	cancel()
	if code := <-ended; code != 0 || len(errOut) > 0 {
		t.Errorf("code %d, %d more messages", code, len(errOut))
	}
	if _, err := net.Dial("tcp", addrs[0]); err == nil {
		t.Error("it still listens")
	}

	// A service leads to its pods.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- e.run(ctx, []string{"port-forward", "service/web", ":8080", ":8081"}) }()
	var services [2]string
	for i := range services {
		if !lines.Scan() {
			t.Fatalf("no line %d", i)
		}
		services[i] = strings.Fields(lines.Text())[2]
	}
	if got, err := talk(services[0]); got != "HELLO" || err != nil {
		t.Errorf("of a service: %q, %v", got, err)
	}
	if got, err := talk(services[1]); got != "" {
		t.Errorf("a port that leads nowhere answers %q, %v", got, err)
	}
	said("port 8081: service web has no ready pod for port 8081; \"magnum service-show web\" says why\n")
	without := serviceManifestOf("web", "ports: [{name: a, port: 8079, targetPort: 80}]")
	if r := s.run("service-update", "web", "replace", "manifest="+write(t, t.TempDir(), "web.yaml", without)); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if got, err := talk(services[0]); got != "" {
		t.Errorf("a port that is gone answers %q, %v", got, err)
	}
	said("port 8080: service web has no TCP port 8080: it has 8079\n")
	cancel()
	if code := <-ended; code != 0 || len(errOut) > 0 {
		t.Errorf("code %d, %d more messages", code, len(errOut))
	}

	// Another one ends by itself when the pod is gone.
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { ended <- e.run(ctx, []string{"port-forward", "web", ":80"}) }()
	if !lines.Scan() {
		t.Fatal("no line")
	}
	addr := strings.Fields(lines.Text())[2]
	if r := s.run("pod-delete", "web"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	_, _ = talk(addr)
	if code := <-ended; code != 1 {
		t.Errorf("code %d", code)
	}
	said("could not be found")
}

func TestPortForwardRefusals(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/pods/web", 200, podJSON("web", "Running", true))
	f.answer("GET /v1/services/web", 200, `{"name":"web","ports":[{"port":8080,"protocol":"TCP"},{"port":53,"protocol":"UDP"}]}`)
	f.answer("GET /v1/services/dns", 200, `{"name":"dns","ports":[{"port":53,"protocol":"UDP"}]}`)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	f.answer("GET /v1/pods/done", 200, podJSON("done", "Succeeded", false))
	f.answer("GET /v1/pods/broken", 200, podJSON("broken", "Failed", false))
	for line, want := range map[string]result{
		"done :80":                            {1, "", "pod done is Succeeded: its containers have ended for good"},
		"pod/broken :80":                      {1, "", "pod broken is Failed"},
		"":                                    {2, "", "POD|service/NAME and LOCAL:REMOTE is missing"},
		"web":                                 {2, "", "LOCAL:REMOTE is missing"},
		"web 80:http":                         {2, "", "is not a pair of ports: write LOCAL:REMOTE"},
		"rc/web 80":                           {2, "", `"rc/web" can't be forwarded to`},
		"pod/ 80":                             {2, "", "can't be forwarded to"},
		"none 80":                             {1, "", "none could not be found"},
		"service/web :8080 :80":               {1, "", "service web has no TCP port 80: it has 8080"},
		"service/dns :53":                     {1, "", "service dns has no TCP port 53: it has UDP ports only"},
		fmt.Sprintf("web :1 %d:80", port):     {1, "", fmt.Sprintf("listening on local port %d: ", port)},
		"-address 203.0.113.1.example web 80": {1, "", "listening on local port 80: "},
	} {
		r := newShell(t, f).run(append([]string{"port-forward"}, strings.Fields(line)...)...)
		if r.code != want.code || r.stdout != "" || !strings.Contains(r.stderr, want.stderr) {
			t.Errorf("%s: %+v, want %+v", line, r, want)
		}
	}
}
