package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
)

// fillPath returns a route's path with values for its parameters.
func fillPath(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, ":") {
			parts[i] = "x"
		}
	}
	return strings.Join(parts, "/")
}

// TestForeignHostIsRefused checks that, without authentication, no route answers under
// another site's name. By DNS rebinding a page can reach a server under the page's own
// name, and then has the same origin.
func TestForeignHostIsRefused(t *testing.T) {
	s := servertest.New(t, servertest.WithHosts("web-1", "Magnum.Example"))
	f := newFixtureOn(t, s)
	foreign := []string{
		"evil.example", "evil.example:9511", "localhost.evil.example", "127.0.0.1.evil.example:9511", "web-1.evil.example", "evilocalhost",
		"web-11",
		"2130706433", "0x7f000001", "127.1", "[::1].evil.example", "fe80::1%evil.example",
	}
	for _, rt := range s.REST.TestRoutes() {
		for i, host := range foreign {
			if i > 1 && rt.Path != "/v1/containers" {
				continue // all names are tried on one route, two names on all routes
			}
			headers := []header{{"Host", host}}
			if rt.Zun {
				headers = append(headers, speaksZun)
			}
			unchanged(t, s, rt.Path, func() {
				if r := f.raw(rt.Method, fillPath(rt.Path), "", headers...); r.status != 403 ||
					!strings.Contains(string(r.body), "is not this server") {
					t.Errorf("%s %s with Host %q: %d %s", rt.Method, rt.Path, host, r.status, r.body)
				}
			})
		}
	}
	for _, path := range []string{"/debug/pprof/heap", "/v1/nonsense", "/", "/v1/metrics", "/v1/operator/snapshot"} {
		f.raw("GET", path, "", header{"Host", "evil.example:9511"}).is(403)
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.1:9511", "10.1.2.3:80", "[::1]", "[::1]:9511", "localhost", "LOCALHOST:1",
		"localhost.:9511", "web-1", "web-1:9511", "magnum.example", "MAGNUM.EXAMPLE.:9511"} {
		if r := f.raw("GET", "/v1/containers", "", header{"Host", host}); r.status != 200 {
			t.Errorf("Host %q: %d %s", host, r.status, r.body)
		}
	}
	// With authentication any name is accepted: a page has no token to send, and load
	// balancers have names of their own.
	if r := newCaller(t, servertest.New(t)).raw("GET", "/v1/containers", "", header{"Host", "magnum.example"}); r.status != 200 {
		t.Errorf("a server that knows its callers: %d", r.status)
	}
}

// TestForeignOriginIsRefused checks on every route that requests from a page of another
// site are refused, also reads and upgrades.
func TestForeignOriginIsRefused(t *testing.T) {
	s := servertest.New(t, servertest.WithHosts())
	f := newFixtureOn(t, s)
	for _, rt := range s.REST.TestRoutes() {
		for _, headers := range [][]header{
			{{"Origin", "http://evil.example"}}, {{"Origin", "null"}}, {{"Origin", "http://127.0.0.1:1"}},
			{{"Sec-Fetch-Site", "cross-site"}},
			{{"Sec-Fetch-Site", "same-site"}, {"Origin", f.s.URL}},
			{{"Origin", "http://evil.example"}, {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-Fetch-Mode", "navigate"}},
		} {
			if rt.Zun {
				headers = append(headers, speaksZun)
			}
			unchanged(t, s, rt.Path, func() {
				if r := f.raw(rt.Method, fillPath(rt.Path), "", headers...); r.status != 403 {
					t.Errorf("%s %s with %v: %d %s", rt.Method, rt.Path, headers, r.status, r.body)
				}
			})
		}
	}
	for _, headers := range [][]header{
		{{"Origin", f.s.URL}}, {{"Origin", f.s.URL}, {"Sec-Fetch-Site", "same-origin"}}, {{"Sec-Fetch-Site", "none"}},
		{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"}}, // a link
	} {
		if r := f.raw("GET", "/v1/containers", "", headers...); r.status != 200 {
			t.Errorf("%v: %d %s", headers, r.status, r.body)
		}
	}
	f.raw("POST", "/v1/bays", `{"name":"b2"}`, header{"Origin", f.s.URL}, header{"Content-Type", "application/json"}).is(201)
}

// TestContentTypeIsChecked checks that forms and plain text are refused, because a page of
// another site can send them without a preflight request.
func TestContentTypeIsChecked(t *testing.T) {
	s := servertest.New(t)
	f := newFixtureOn(t, s)
	f.running("c")
	for _, media := range []string{"text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
		"multipart/form-data; boundary=x", "text/html", "application/octet-stream", "x", ";", "application/jsonp", "*/*",
		"text/json+json"} {
		for _, rt := range s.REST.TestRoutes() {
			if rt.Takes == "" || media == "application/octet-stream" && rt.Takes != "application/json" ||
				strings.HasPrefix(rt.Path, "/v1/peer") || strings.HasPrefix(rt.Path, "/v1/agent/hosts/:id") {
				continue
			}
			headers := []header{{"Content-Type", media}}
			if rt.Zun {
				headers = append(headers, speaksZun)
			}
			path := fillPath(rt.Path)
			for i, name := range rt.Wants {
				path += map[bool]string{true: "?", false: "&"}[i == 0] + name + "=1"
			}
			unchanged(t, s, rt.Path, func() {
				r := f.raw(rt.Method, path, `{"name":"x"}`, headers...)
				if strings.HasSuffix(media, "jsonp") && rt.Takes != "application/json" {
					return // an accepted type of a tar
				}
				if r.status != http.StatusUnsupportedMediaType || !strings.Contains(string(r.body), "Content-Type: "+rt.Takes) {
					t.Errorf("%s %s of type %q: %d %s", rt.Method, rt.Path, media, r.status, r.body)
				}
			})
		}
	}
	for i, media := range []string{"application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json-patch+json",
		""} {
		var headers []header
		if media != "" {
			headers = []header{{"Content-Type", media}}
		}
		if r := f.raw("POST", "/v1/baymodels", `{"coe":"docker","name":"m`+string(rune('0'+i))+`"}`, headers...); r.status != 201 {
			t.Errorf("type %q: %d %s", media, r.status, r.body)
		}
	}
	// A body without a type is refused from a browser.
	f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`, header{"Origin", f.s.URL}).is(415)
	f.raw("POST", "/v1/baymodels", `{"coe":"docker"}`, header{"Sec-Fetch-Site", "none"}).is(415)
	// Clients of 2015 send this type with a DELETE, and that of JSON with an action.
	f.raw("PUT", "/v1/containers/c/pause", "", header{"Content-Type", "application/json"}).is(200)
	f.raw("DELETE", "/v1/containers/c?force=true", "", header{"Content-Type", "application/octet-stream"}).is(204)
}
