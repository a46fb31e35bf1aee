package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// A report has a longer deadline than a poll. It ends early when the poll of the same
// server times out.
func TestTimeoutCancelsAllCallsToThatServer(t *testing.T) {
	reporting := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			close(reporting)
		}
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	healthy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "7", `{}`) }))
	t.Cleanup(healthy.Close)
	a, err := NewAgent(AgentConfig{Servers: []string{silent.URL, healthy.URL}})
	if err != nil {
		t.Fatal(err)
	}
	a.Leave(healthy.URL) // if the agent starts there
	reported := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := a.Report(t.Context(), structs.StatusReport{})
		reported <- err
	}()
	<-reporting
	if _, _, err := a.Work(t.Context(), WorkRequest{Wait: time.Millisecond}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("the poll of a silent server: %v", err)
	}
	if err := <-reported; structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("the report to a silent server: %v", err)
	}
	if took := time.Since(began); took >= agentTimeout {
		t.Errorf("the report waited for %v", took)
	}
	if a.Server() != healthy.URL {
		t.Errorf("the agent is still at %s", a.Server())
	}
	// Later calls are not canceled.
	if _, err := a.Report(t.Context(), structs.StatusReport{}); err != nil {
		t.Error(err)
	}
	a.Leave(healthy.URL)
	if _, _, err := a.Work(t.Context(), WorkRequest{Wait: 100 * time.Millisecond}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("the second poll of a silent server: %v", err)
	}
}

// Only the first attempt has the short deadline, and only while another server is
// known.
func TestFirstRegistrationLeavesSilentServerEarly(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	healthy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "7", `{}`) }))
	t.Cleanup(healthy.Close)
	alone, err := NewAgent(AgentConfig{Servers: []string{silent.URL}})
	if err != nil {
		t.Fatal(err)
	}
	if got := alone.nextRegisterTimeout(); got != agentTimeout {
		t.Errorf("the only server has %v", got)
	}
	a, err := NewAgent(AgentConfig{Servers: []string{silent.URL, healthy.URL}})
	if err != nil {
		t.Fatal(err)
	}
	a.Leave(healthy.URL) // if the agent starts there
	began := time.Now()
	if _, err := a.Register(t.Context(), structs.HostRegister{}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("registering with a silent server: %v", err)
	}
	if took := time.Since(began); took >= agentTimeout {
		t.Errorf("a silent server was left after %v", took)
	}
	if got := a.nextRegisterTimeout(); got != agentTimeout || a.Server() != healthy.URL {
		t.Errorf("the next try has %v, at %s", got, a.Server())
	}
	if _, err := a.Register(t.Context(), structs.HostRegister{}); err != nil || a.nextRegisterTimeout() != registerTimeout {
		t.Errorf("registering with the other one: %v; the next registration has %v", err, a.nextRegisterTimeout())
	}
}

// The user's server may accept connections and stay silent, as behind a firewall that
// drops packets. The agent then dials the server that offered the session.
func TestDialSessionFallsBackToRelay(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("via") != "s2" {
			t.Errorf("the session goes to %s", r.URL)
		}
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			conn.CloseNow()
		}
	}))
	t.Cleanup(relay.Close)
	a, err := NewAgent(AgentConfig{Servers: []string{relay.URL}})
	if err != nil {
		t.Fatal(err)
	}
	a.Use("h", "secret", 1)
	conn, err := a.DialSession(t.Context(), relay.URL,
		structs.SessionOffer{SID: "sid", Server: "http://" + silent.Addr().String(), ServerID: "s2"})
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
}

// With TLS, an agent never sends its secret in clear to an address from gossip, from a
// server or from a session offer.
func TestAgentIgnoresPlainHTTPServers(t *testing.T) {
	var stolen atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	t.Cleanup(thief.Close)
	relays := make(chan string, 10)
	right := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		relays <- r.URL.String()
		answer(w, 503, "7", `{}`)
	}))
	t.Cleanup(right.Close)
	given := []string{strings.TrimPrefix(right.URL, "https://")}
	for name, c := range map[string]AgentConfig{
		"with a CA":         {Servers: given, Secure: true},
		"found by gossip":   {Secure: true},
		"with an https URL": {Servers: []string{right.URL}},
	} {
		c.HTTPClient = right.Client()
		a, err := NewAgent(c)
		if err != nil {
			t.Fatal(err)
		}
		a.SetFound([]string{thief.URL})
		a.SetServers([]string{thief.URL})
		for range 3 {
			if at := a.Server(); at == thief.URL {
				t.Errorf("%s: the agent is at the thief's", name)
			}
			_, err := a.Register(t.Context(), structs.HostRegister{JoinToken: "join"})
			if structs.CodeOf(err) != structs.CodeUnavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
		a.SetFound([]string{right.URL})
		a.Use("h", "secret", 1)
		for len(relays) > 0 {
			<-relays
		}
		if _, err := a.DialSession(t.Context(), right.URL,
			structs.SessionOffer{SID: "sid", Server: thief.URL, ServerID: "s2"}); err == nil {
			t.Errorf("%s: a session", name)
		}
		if at := <-relays; !strings.HasSuffix(at, "/sessions/sid?via=s2") {
			t.Errorf("%s: the session goes to %s", name, at)
		}
	}
	if stolen.Load() > 0 {
		t.Errorf("%d requests went to the thief", stolen.Load())
	}
}

// A server that was away gets its share of the agents back within 15 minutes, but not
// at once. No agent moves to a server that the cluster does not announce.
func TestAgentsRebalanceAfterServerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"http://s1:9511", "http://s2:9511", "http://s3:9511"}
		var agents []*Agent
		for range 300 {
			a, err := NewAgent(AgentConfig{Servers: append(all, "gone:9511")})
			if err != nil {
				t.Fatal(err)
			}
			a.SetServers(all)
			for a.Server() == all[2] || a.Server() == "http://gone:9511" {
				a.Leave(a.Server())
			}
			agents = append(agents, a)
		}
		// round announces servers to all agents and counts the agents of each server.
		round := func(named []string) map[string]int {
			with := make(map[string]int)
			for _, a := range agents {
				a.SetServers(named)
				with[a.Server()]++
			}
			return with
		}
		if with := round(all); with[all[2]] != 0 {
			t.Errorf("agents move at once: %v", with)
		}
		time.Sleep(rebalanceMin - time.Second)
		if with := round(all); with[all[2]] != 0 {
			t.Errorf("agents move too soon: %v", with)
		}
		before, most := 0, 0
		for range 601 { // seconds
			time.Sleep(time.Second)
			with := round(all)
			most = max(most, with[all[2]]-before)
			before = with[all[2]]
		}
		if with := round(all); with[all[0]] < 60 || with[all[1]] < 60 || with[all[2]] < 60 ||
			with[all[0]]+with[all[1]]+with[all[2]] != 300 {
			t.Errorf("after 15 minutes the agents are at %v", with)
		}
		if most > 10 {
			t.Errorf("%d agents have moved in one second, want at most 10", most)
		}
		time.Sleep(15 * time.Minute)
		if with := round(nil); fmt.Sprint(with) != fmt.Sprint(round(nil)) {
			t.Error("agents move although no server is announced")
		}
		if with := round([]string{"no address", "elsewhere:1/x"}); with[all[0]]+with[all[1]]+with[all[2]] != 300 {
			t.Errorf("invalid addresses move agents: %v", with)
		}
	})
}

// answers is a transport that answers each request with a body.
type answers func() io.Reader

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(f()), Request: r}, nil
}

// All assignments of a host are one response, which may be larger than others: spaces stand
// for most of it. A host that can't read it runs nothing. With a clock that stands meanwhile, a
// busy machine may take its time.
func TestWorkOfLargestSpecsIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := `{"Image":"busybox","Environment":{"LARGE":"` + strings.Repeat("x", structs.MaxSpec) + `"}}`
		a, err := NewAgent(AgentConfig{Servers: []string{"server"}, HTTPClient: &http.Client{Transport: answers(func() io.Reader {
			return strings.NewReader(strings.Repeat(" ", maxAnswer) + `{"index":7,"full":true,"assignments":[` +
				`{"container_id":"0","spec":` + spec + `},{"container_id":"1","spec":` + spec + `}]}`)
		})}})
		if err != nil {
			t.Fatal(err)
		}
		work, _, err := a.Work(t.Context(), WorkRequest{Wait: time.Second})
		if err != nil || len(work.Assignments) != 2 || len(work.Assignments[1].Spec.Environment["LARGE"]) != structs.MaxSpec {
			t.Fatalf("got work %v, %v", work != nil, err)
		}
	})
}

// TestReportsHaveNoHTMLEscapes: texts of processes take no more of a body than they must.
func TestReportsHaveNoHTMLEscapes(t *testing.T) {
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		answer(w, 200, "7", `{}`)
	}))
	t.Cleanup(server.Close)
	a, err := NewAgent(AgentConfig{Servers: []string{server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	report := structs.StatusReport{Containers: []structs.ContainerReport{{ContainerID: "a", Observed: structs.Observed{Reason: "<a & b>"}}}}
	if _, err := a.Report(t.Context(), report); err != nil || !strings.Contains(body, "<a & b>") {
		t.Errorf("sent %s, %v", body, err)
	}
}
