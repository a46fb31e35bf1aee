package peer

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestRelayErrorNamesServer: the error names the server and its address, and nothing is
// written to the client.
func TestRelayErrorNamesServer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(cut.Close)
	for name, root := range map[string]string{"closed": "http://" + closed.Addr().String(), "hangs up": cut.URL} {
		w := httptest.NewRecorder()
		err := forwarding(root).Relay(w, httptest.NewRequest(http.MethodGet, "/v1/agent/hosts/h/sessions/s", nil), "s7")
		if structs.CodeOf(err) != structs.CodeUnavailable || !strings.Contains(err.Error(), "server s7 at "+root) || w.Body.Len() != 0 {
			t.Errorf("%s: %v, %q was written", name, err, w.Body)
		}
	}
	w := httptest.NewRecorder()
	err = forwarding("").Relay(w, httptest.NewRequest(http.MethodGet, "/", nil), "s7")
	if structs.CodeOf(err) != structs.CodeNotFound || !strings.Contains(err.Error(), "s7") {
		t.Errorf("%v", err)
	}
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.URL.Path)) }))
	t.Cleanup(there.Close)
	err = forwarding(there.URL).Relay(w, httptest.NewRequest(http.MethodGet, "/v1/x", nil), "s7")
	if err != nil || w.Body.String() != "/v1/x" {
		t.Errorf("%v, %q", err, w.Body)
	}
}
