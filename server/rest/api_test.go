package rest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// caller is a client in a test. It checks every response against the OpenAPI document and
// against what all responses have in common.
type caller struct {
	t     testing.TB
	s     *servertest.Server
	spec  *spec
	token string
}

func newCaller(t testing.TB, s *servertest.Server) *caller {
	t.Helper()
	c := &caller{t: t, s: s}
	return c
}

// as returns the caller with another token.
func (c *caller) as(token string) *caller {
	other := *c
	other.token = token
	return &other
}

// reply is a response.
type reply struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// header is an extra header of a request.
type header struct{ name, value string }

var httpClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// raw makes a request and checks nothing.
func (c *caller) raw(method, path, body string, headers ...header) *reply {
	c.t.Helper()
	r, err := http.NewRequest(method, c.s.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	if c.token != "" {
		r.Header.Set("X-Auth-Token", c.token)
	}
	for _, h := range headers {
		if r.Header.Set(h.name, h.value); h.name == "Host" {
			r.Host = h.value
		}
	}
	resp, err := httpClient.Do(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &reply{t: c.t, what: method + " " + path + " " + cut(body), status: resp.StatusCode, header: resp.Header, body: b}
}

func cut(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// do makes a request and checks what all responses have in common.
func (c *caller) do(method, path, body string, headers ...header) *reply {
	c.t.Helper()
	if c.spec == nil {
		r := c.raw("GET", "/v1/openapi.json", "")
		if r.status == http.StatusOK {
			c.spec = readSpec(c.t, r.body)
		}
	}
	r := c.raw(method, path, body, headers...)
	if !strings.HasPrefix(r.header.Get("X-Openstack-Request-Id"), "req-") {
		c.t.Errorf("%s: request id %q", r.what, r.header.Get("X-Openstack-Request-Id"))
	}
	if _, err := strconv.ParseUint(r.header.Get("X-Magnum-Index"), 10, 64); err != nil {
		c.t.Errorf("%s: X-Magnum-Index %q", r.what, r.header.Get("X-Magnum-Index"))
	}
	if r.status/100 == 3 {
		c.t.Errorf("%s: the answer is a redirection", r.what)
	}
	if c.spec != nil {
		if err := c.spec.checkAnswer(method, path, r.status, r.header.Get("Content-Type"), r.body); err != nil {
			c.t.Errorf("%s: %d: %v\n%s", r.what, r.status, err, cut(string(r.body)))
		}
	}
	if r.status >= 400 && method != "HEAD" {
		r.checkError()
	}
	return r
}

// checkError checks that an error has both forms and that they agree.
func (r *reply) checkError() {
	r.t.Helper()
	var body structs.ErrorBody
	if err := json.Unmarshal(r.body, &body); err != nil || len(body.Errors) != 1 {
		r.t.Errorf("%s: error body %s (%v)", r.what, r.body, err)
		return
	}
	var fault structs.Fault
	if err := json.Unmarshal([]byte(body.ErrorMessage), &fault); err != nil {
		r.t.Errorf("%s: error_message %s: %v", r.what, body.ErrorMessage, err)
	}
	want := "Client"
	if r.status >= 500 {
		want = "Server"
	}
	item := body.Errors[0]
	if fault.FaultCode != want || fault.FaultString != item.Detail || item.Detail == "" || item.Status != r.status ||
		item.Title != http.StatusText(r.status) || item.RequestID != r.header.Get("X-Openstack-Request-Id") || fault.DebugInfo != nil {
		r.t.Errorf("%s: status %d, fault %+v, item %+v", r.what, r.status, fault, item)
	}
	if (r.status == 429 || r.status == 503) && r.header.Get("Retry-After") == "" {
		r.t.Errorf("%s: %d without Retry-After", r.what, r.status)
	}
}

// is checks the status.
func (r *reply) is(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.what, r.status, status, cut(string(r.body)))
	}
	return r
}

// says checks an error's whole message.
func (r *reply) says(message string) *reply {
	r.t.Helper()
	if got := r.message(); got != message {
		r.t.Errorf("%s: message\n  %q, want\n  %q", r.what, got, message)
	}
	return r
}

// mentions checks that an error's message contains all of the texts.
func (r *reply) mentions(texts ...string) *reply {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.message(), text) {
			r.t.Errorf("%s: message %q doesn't mention %q", r.what, r.message(), text)
		}
	}
	return r
}

// hints checks an error's hint.
func (r *reply) hints(want structs.Hint) *reply {
	r.t.Helper()
	var body structs.ErrorBody
	if err := json.Unmarshal(r.body, &body); err != nil || len(body.Errors) == 0 || body.Errors[0].Hint != want {
		r.t.Errorf("%s: %s doesn't hint at %q", r.what, r.body, want)
	}
	return r
}

func (r *reply) message() string {
	var body structs.ErrorBody
	if json.Unmarshal(r.body, &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	return body.Errors[0].Detail
}

// code checks an error's code.
func (r *reply) code(code string) *reply {
	r.t.Helper()
	var body structs.ErrorBody
	if json.Unmarshal(r.body, &body) != nil || len(body.Errors) == 0 || body.Errors[0].Code != code {
		r.t.Errorf("%s: error %s, want code %q", r.what, r.body, code)
	}
	return r
}

// object returns the body as an object.
func (r *reply) object() map[string]any {
	r.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(r.body, &m); err != nil {
		r.t.Fatalf("%s: %v: %s", r.what, err, cut(string(r.body)))
	}
	return m
}

func (r *reply) index() uint64 {
	n, _ := strconv.ParseUint(r.header.Get("X-Magnum-Index"), 10, 64)
	return n
}

// uuid returns the object's UUID.
func (r *reply) uuid() string {
	r.t.Helper()
	id, _ := r.object()["uuid"].(string)
	if !structs.IsID(id) {
		r.t.Fatalf("%s: uuid %q", r.what, id)
	}
	return id
}

// items returns the objects of a list.
func (r *reply) items(noun string) []map[string]any {
	r.t.Helper()
	raw, ok := r.object()[noun].([]any)
	if !ok {
		r.t.Fatalf("%s: no list %q: %s", r.what, noun, cut(string(r.body)))
	}
	var out []map[string]any
	for _, item := range raw {
		out = append(out, item.(map[string]any))
	}
	return out
}

// names returns the names of a list's objects.
func (r *reply) names(noun string) string {
	r.t.Helper()
	var names []string
	for _, item := range r.items(noun) {
		names = append(names, item["name"].(string))
	}
	return strings.Join(names, " ")
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// unchanged checks that do changes nothing in the state.
func unchanged(t testing.TB, s *servertest.Server, what string, do func()) {
	t.Helper()
	before := s.Store.Snapshot()
	do()
	after := s.Store.Snapshot()
	if before.Index() != after.Index() || before.Hash() != after.Hash() {
		t.Errorf("%s: the state has changed: index %d -> %d, hash %016x -> %016x", what, before.Index(), after.Index(), before.Hash(),
			after.Hash())
	}
}

// fixture is a server with one host and one bay, and nothing else.
type fixture struct {
	*caller
	agent *servertest.Agent
	bay   string // UUID of the bay "b1"
}

func newFixture(t testing.TB, options ...servertest.AgentOption) *fixture {
	t.Helper()
	return newFixtureOn(t, servertest.New(t), options...)
}

func newFixtureOn(t testing.TB, s *servertest.Server, options ...servertest.AgentOption) *fixture {
	t.Helper()
	f := &fixture{caller: newCaller(t, s), agent: s.StartAgent(t, "host-1", options...)}
	f.bay = f.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201).uuid()
	return f
}

// container creates a container and waits until its host has created it.
func (f *fixture) container(name, more string) string {
	f.t.Helper()
	return f.do("POST", "/v1/containers?wait=1m", `{"name":"`+name+`","image":"busybox:latest"`+more+`}`).is(201).uuid()
}

// running creates a running container.
func (f *fixture) running(name string) string {
	f.t.Helper()
	return f.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"`+name+`","image":"busybox:latest"}`).is(201).uuid()
}
