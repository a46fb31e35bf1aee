//go:build kubernetes

package command

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/agent/kubernetes/access"
	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// TestKubectlReadsBayConfig: kubectl works with the kubeconfig, and with what its plugin prints.
func TestKubectlReadsBayConfig(t *testing.T) {
	kube := kubetest.Open(t)
	conf, err := cluster.Load(filepath.Join(kube.Dir, "admin.conf"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := cluster.New(cluster.Config{Rest: conf})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := client.CA()
	if err != nil {
		t.Fatal(err)
	}
	namespace := kube.Namespace(t)
	made, err := access.Credential(t.Context(), client, namespace, map[string]string{"magnum.project": "p1"})
	if err != nil {
		t.Fatal(err)
	}
	body := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	f := newFakeAPI(t)
	f.answer("GET /v1/bays/web/config", 200, body(structs.BayConfigBody{
		BayUUID: structs.NewID(), Bay: "web", APIAddress: kube.URL, CA: &ca, Namespace: namespace}))
	f.answer("POST /v1/bays/web/credential", 200, body(made))
	s, dir := newShell(t, f), t.TempDir()
	plugin, config := filepath.Join(dir, "plugin"), filepath.Join(dir, "kube.conf")
	printed := s.run("bay-config", "-credential", "web")
	if printed.code != 0 {
		t.Fatalf("%+v", printed)
	}
	if r := s.run("bay-config", "-file", config, "-command", plugin, "web"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	script := "#!/bin/sh\necho '" + strings.TrimSpace(printed.stdout) + "'\n"
	if err := os.WriteFile(plugin, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	kubectl := func(args ...string) (string, error) {
		args = append([]string{"--kubeconfig", config}, args...)
		c := exec.CommandContext(t.Context(), filepath.Join(kube.Dir, "bin", "kubectl"), args...)
		c.Env = append(os.Environ(), "HOME="+dir)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := kubectl("create", "configmap", "mine", "--from-literal=a=b"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := kubectl("get", "configmaps", "-o", "name"); err != nil || !strings.Contains(out, "configmap/mine") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := kubectl("get", "pods", "-n", "default"); err == nil || !strings.Contains(out, "Forbidden") {
		t.Errorf("pods of another namespace: %v: %s", err, out)
	}
}
