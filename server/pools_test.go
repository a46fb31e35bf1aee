package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

func TestPools(t *testing.T) {
	for _, test := range []struct {
		config Config
		want   string // in the error; "" means none
	}{
		{Config{}, ""},
		{Config{ServicePool: "10.0.0.0/8", NodePortRange: "20000-20009"}, ""},
		{Config{ServicePool: "192.168.7.16/28", NodePortRange: "1-65535"}, ""},
		{Config{ServicePool: "10.127.0.0"}, `-service-pool: "10.127.0.0" is not a range of addresses such as 10.127.0.0/16`},
		{Config{ServicePool: "10.127.0.1/16"}, "-service-pool: 10.127.0.1/16 is not the beginning of its range, which is 10.127.0.0/16"},
		{Config{ServicePool: "10.0.0.0/7"}, "/8 to /28"},
		{Config{ServicePool: "10.0.0.0/29"}, "/8 to /28"},
		{Config{ServicePool: "fd00::/16"}, "IPv4"},
		{Config{ServicePool: "127.0.0.0/16"}, "IPv4 addresses that services can have"},
		{Config{NodePortRange: "30000"}, `-node-port-range: "30000" is not a range of ports such as 30000-32767`},
		{Config{NodePortRange: "0-10"}, "-node-port-range: 0-10 is not a range within 1-65535"},
		{Config{NodePortRange: "10-9"}, "-node-port-range: 10-9"},
		{Config{NodePortRange: "1-65536"}, "-node-port-range: 1-65536"},
		{Config{ManifestNetworks: []string{"10.20.0.0/16", "fd00::/8", "127.0.0.0/8"}}, ""},
		{Config{ManifestNetworks: []string{"10.20.0.0/16", "intranet"}}, `-manifest-network "intranet" is not a network`},
		{Config{ManifestNetworks: []string{"0.0.0.0/0"}}, "is not a network"},
		{Config{ManifestNetworks: []string{"10.20.0.1/16"}}, "the beginning of its range, which is 10.20.0.0/16"},
		{Config{ManifestNetworks: []string{"169.0.0.0/8"}}, "link-local"},
		{Config{ManifestNetworks: []string{"fe80::/64"}}, "link-local"},
	} {
		err := test.config.withDefaults().validate()
		refused := structs.CodeOf(err) == structs.CodeInvalid && strings.Contains(err.Error(), test.want)
		if test.want == "" && err != nil || test.want != "" && !refused {
			t.Errorf("%+v: %v, want %q", test.config, err, test.want)
		}
	}
}

// awaitDefaultBay waits until a server has made its default bay.
func awaitDefaultBay(t testing.TB, s *Server) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		for range s.store.Snapshot().List(structs.TableBays, state.AllProjects, 0) {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the default bay is not made")
		}
	}
}

// TestManifestNetworks: a server fetches manifests from private networks that its operator
// names, and from no others.
func TestManifestNetworks(t *testing.T) {
	var asked atomic.Int32
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1) }))
	defer files.Close()
	for _, test := range []struct {
		networks []string
		want     string
		asked    int32
	}{
		{nil, "isn't at a public address", 0},
		{[]string{"10.0.0.0/8"}, "isn't at a public address", 0},
		{[]string{"10.0.0.0/8", "127.0.0.0/8"}, "manifest: is empty", 1}, // what the server at the URL sent
	} {
		srv := serve(t, Config{Name: "s-1", ManifestNetworks: test.networks, DefaultBay: "b"})
		awaitSchema(t, srv)
		awaitDefaultBay(t, srv)
		asked.Store(0)
		resp, err := http.Post(srv.URL()+"/v1/services", "application/json",
			strings.NewReader(`{"manifest_url":"`+files.URL+`/web.yaml"}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), test.want) || asked.Load() != test.asked {
			t.Errorf("%v: %s %s, asked %d times", test.networks, resp.Status, body, asked.Load())
		}
	}
}
