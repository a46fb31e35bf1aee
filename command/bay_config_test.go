package command

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const bayConfigJSON = `{"bay_uuid":"0a1b2c3d-1111-4222-8333-444455556666","bay":"web: \"x\" #1",` +
	`"api_address":"https://kube.example.com:6443",` +
	`"ca":"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n","namespace":"magnum-p1"}`

// TestBayConfig: the kubeconfig is what clients of Kubernetes read, and has no token.
func TestBayConfig(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/bays/web/config", 200, bayConfigJSON)
	s := newShell(t, f)
	s.env["OS_TOKEN"], s.env["MAGNUM_TLS_CA"] = "very-secret", ""
	r := s.run("bay-config", "web")
	if r.code != 0 || r.stderr != "" || strings.Contains(r.stdout, "very-secret") {
		t.Fatalf("%+v", r)
	}
	var got map[string]any
	if err := yaml.UnmarshalStrict([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v in\n%s", err, r.stdout)
	}
	exec := got["users"].([]any)[0].(map[string]any)["user"].(map[string]any)["exec"].(map[string]any)
	if hint, _ := exec["installHint"].(string); !strings.Contains(hint, "OS_TOKEN") {
		t.Errorf("the hint is %q", hint)
	}
	delete(exec, "installHint")
	name := `magnum-web: "x" #1`
	ca := base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"))
	want := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": "https://kube.example.com:6443", "certificate-authority-data": ca}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name, "namespace": "magnum-p1"}}},
		"users": []any{map[string]any{"name": name, "user": map[string]any{"exec": map[string]any{
			"apiVersion": "client.authentication.k8s.io/v1", "command": "magnum",
			"args":            []any{"bay-config", "-credential", "0a1b2c3d-1111-4222-8333-444455556666"},
			"env":             []any{map[string]any{"name": "MAGNUM_ADDR", "value": s.env["MAGNUM_ADDR"]}},
			"interactiveMode": "Never", "provideClusterInfo": false,
		}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the kubeconfig is\n%v, want\n%v", got, want)
	}
	if r := s.run("bay-config"); r.code != 2 {
		t.Errorf("without a bay: %+v", r)
	}
}

// TestBayConfigFile: the file is replaced, and readable by its owner only.
func TestBayConfigFile(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/bays/web/config", 200, strings.Replace(bayConfigJSON, `"ca":"`, `"ca":null,"x":"`, 1))
	s := newShell(t, f)
	path := filepath.Join(t.TempDir(), "kube.conf")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := s.run("bay-config", "-file", path, "-command", "/opt/magnum", "web"); r.code != 0 || r.stdout != "" || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "certificate-authority") || !strings.Contains(string(text), `command: "/opt/magnum"`) {
		t.Errorf("%v, the file is\n%s", err, text)
	}
	if is, err := os.Stat(path); err != nil || is.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, is.Mode())
	}
	f.answer("GET /v1/bays/web/config", 400, `{"errors":[{"code":"bay.invalid","detail":"Bay web is of coe docker"}]}`)
	before := text
	if r := s.run("bay-config", "-file", path, "web"); r.code != 1 || !strings.Contains(r.stderr, "Bay web is of coe docker") {
		t.Errorf("of a Docker bay: %+v", r)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != string(before) {
		t.Errorf("after a failure the file is\n%s", text)
	}
}

// TestBayCredential: kubectl gets its token, once for each run.
func TestBayCredential(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/bays/web/credential", 200, `{"token":"kube-token","expires_at":"2026-01-02T03:04:05+00:00"}`)
	s := newShell(t, f)
	r := s.run("bay-config", "-credential", "-debug", "web")
	want := `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":` +
		`{"expirationTimestamp":"2026-01-02T03:04:05Z","token":"kube-token"}}`
	if r.code != 0 || strings.TrimSpace(r.stdout) != want || !json.Valid([]byte(r.stdout)) {
		t.Errorf("%+v", r)
	}
	if strings.Contains(r.stderr, "kube-token") {
		t.Errorf("-debug shows the token: %s", r.stderr)
	}
	r = s.run("bay-config", "-credential", "-file", "x", "web")
	if r.code != 2 || !strings.Contains(r.stderr, "leave out -file and -command") {
		t.Errorf("-credential with -file: %+v", r)
	}
	f.answer("POST /v1/bays/web/credential", 403, `{"errors":[{"code":"forbidden","detail":"Policy doesn't allow it"}]}`)
	r = s.run("bay-config", "-credential", "web")
	if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "Policy doesn't allow it") {
		t.Errorf("refused: %+v", r)
	}
}
