package kubernetes

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/structs"
)

// TestPublicAddress: what pods reach is not told to users.
func TestPublicAddress(t *testing.T) {
	conf := &rest.Config{Host: "https://10.96.0.1"}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, ""},
		{Options{Kubeconfig: "admin.conf"}, "https://10.96.0.1"},
		{Options{Kubeconfig: "admin.conf", Address: "https://kube"}, "https://kube"},
		{Options{Address: "https://kube"}, "https://kube"},
	} {
		if got := tt.o.public(conf); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.o, got, tt.want)
		}
	}
}

// TestPublishedCA: certificates are told, and neither a key nor too much.
func TestPublishedCA(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, append(key, certificate...), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(c rest.TLSClientConfig) (*Client, error) {
		api, err := cluster.New(cluster.Config{Rest: &rest.Config{Host: "https://kube", TLSClientConfig: c}})
		if err != nil {
			t.Fatal(err)
		}
		return New(Config{Cluster: api, PublicAddress: "https://public"})
	}
	for _, c := range []rest.TLSClientConfig{{CAFile: file}, {CAData: append(certificate, key...)}} {
		client, err := open(c)
		if err != nil {
			t.Fatal(err)
		}
		var is structs.KubernetesCluster
		if client.publish(&is); is.CA != string(certificate) || is.PublicAddress != "https://public" {
			t.Errorf("the cluster is %+v", is)
		}
	}
	large := rest.TLSClientConfig{CAData: []byte(strings.Repeat(string(certificate), 1+structs.MaxKubernetesCA/len(certificate)))}
	if _, err := open(large); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "more than 16384") {
		t.Errorf("too much: %v", err)
	}
	if client, err := open(rest.TLSClientConfig{}); err != nil || client.ca != "" {
		t.Errorf("none: %v", err)
	}
}

// TestCredentialOfNoAgent: an agent that isn't the active one gives out no token.
func TestCredentialOfNoAgent(t *testing.T) {
	api, err := cluster.New(cluster.Config{Rest: &rest.Config{Host: "https://kube"}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Config{Cluster: api})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Credential(t.Context(), "p1"); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("%v", err)
	}
}
