package web

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

var someProxies = Proxies{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}

func TestClientOfAProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		remote string
		lines  []string
		want   string
	}{
		"a stranger's word":  {"192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1"},
		"nothing said":       {"10.1.0.1:99", nil, "10.1.0.1"},
		"one proxy":          {"10.1.0.1:99", []string{"192.0.2.1"}, "192.0.2.1"},
		"two proxies":        {"10.1.0.1:99", []string{"192.0.2.1, 10.1.9.9"}, "192.0.2.1"},
		"two lines":          {"10.1.0.1:99", []string{"192.0.2.1", "10.1.9.9"}, "192.0.2.1"},
		"a forged beginning": {"10.1.0.1:99", []string{"10.1.0.7", "203.0.113.9,192.0.2.1"}, "192.0.2.1"},
		"garbage":            {"10.1.0.1:99", []string{"192.0.2.1, unknown"}, "10.1.0.1"},
		"garbage before":     {"10.1.0.1:99", []string{"unknown, 10.1.9.9"}, "10.1.9.9"},
		"empty":              {"10.1.0.1:99", []string{""}, "10.1.0.1"},
		"only proxies":       {"10.1.0.1:99", []string{"10.1.0.2"}, "10.1.0.2"},
		"with ports":         {"10.1.0.1:99", []string{"192.0.2.1:1234"}, "192.0.2.1"},
		"IPv6":               {"[2001:db8::1]:99", []string{"[fd00::1]:1234, 2001:db8::2"}, "fd00::1"},
		"mapped":             {"[::ffff:10.1.0.1]:99", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		"too many":           {"10.1.0.1:99", []string{"192.0.2.1" + strings.Repeat(", 10.1.0.3", maxHops)}, "10.1.0.3"},
		"no address":         {"@", []string{"192.0.2.1"}, "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = tt.remote, tt.lines
		r, _ = someProxies.unwrap(r)
		if got := ClientAddress(r).String(); got != tt.want {
			t.Errorf("%s: client %s, want %s", name, got, tt.want)
		}
	}
}

// FuzzForwardedFor: whatever a client writes, the address that the trusted proxy appends is the
// client, and the hosts that go into links are harmless.
func FuzzForwardedFor(f *testing.F) {
	f.Add("192.0.2.1", "magnum.example.org", "https")
	f.Add(", ,10.1.0.1,[::1", "[::1]:80, evil\n", "http,ftp")
	f.Add("::ffff:10.1.0.1%eth0", "a/b", "")
	f.Fuzz(func(t *testing.T, forwardedFor, host, proto string) {
		for _, lines := range [][]string{{forwardedFor + ", 192.0.2.7"}, {forwardedFor, "192.0.2.7"}, {forwardedFor, "192.0.2.7", "10.1.2.3"}} {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = "10.1.0.1:99"
			r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"] = lines, []string{host}, []string{proto}
			r, scheme := someProxies.unwrap(r)
			if got := ClientAddress(r).String(); got != "192.0.2.7" {
				t.Fatalf("%q: client %s", lines, got)
			}
			if scheme != "" && scheme != "http" && scheme != "https" {
				t.Fatalf("scheme %q", scheme)
			}
			if r.Host == "" || len(r.Host) > structs.MaxName || strings.ContainsAny(r.Host, "/\\@?#%<>\"' \r\n,") {
				t.Fatalf("host %q", r.Host)
			}
		}
	})
}

// FuzzText: a text in parts is the text that encoding/json writes.
func FuzzText(f *testing.F) {
	f.Add([]byte(""), 0)
	f.Add([]byte("a\x00\"\\<é€😀\xff\xc3"), 3)
	f.Add(bytes.Repeat([]byte("€"), outputPart/3), 1)
	f.Fuzz(func(t *testing.T, piece []byte, before int) {
		text := bytes.Repeat([]byte("x"), max(0, before)%8)
		for len(piece) > 0 && len(text) < 3*outputPart {
			text = append(text, piece...)
		}
		rec := httptest.NewRecorder()
		q := &Request{W: &ResponseWriter{ResponseWriter: rec, store: state.New()}}
		if err := Output(q, text, structs.OutputBody{Truncated: true}); err != nil {
			t.Fatal(err)
		}
		var got, want structs.OutputBody
		whole, err := json.Marshal(structs.OutputBody{Output: string(text), Truncated: true})
		if err != nil || json.Unmarshal(whole, &want) != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || got != want {
			t.Fatalf("%q is answered as %q (%v)", text, rec.Body, err)
		}
	})
}
