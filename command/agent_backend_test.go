package command

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSettingsOfTheOtherBackendAreRefused: they would do nothing, wherever they come from.
func TestSettingsOfTheOtherBackendAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.hcl")
	if err := os.WriteFile(file, []byte(`kubernetes_pod_security = "restricted"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"-backend kubernetes -docker-host unix:///x":          "-docker-host is of the backend docker",
		"-backend kubernetes -network-pool 172.16.0.0/12":     "-network-pool",
		"-backend kubernetes -image-gc-high 0":                "-image-gc-high",
		"-backend kubernetes -image-gc-low 0":                 "-image-gc-low",
		"-backend kubernetes -relay=false":                    "-relay",
		"-backend kubernetes -relay-port 1":                   "-relay-port",
		"-backend kubernetes -relay-addr a":                   "-relay-addr",
		"-backend kubernetes -dev":                            "-dev and -backend kubernetes",
		"-kubeconfig x":                                       "-kubeconfig is of the backend kubernetes, and the agent's is docker",
		"-backend docker -kubernetes-namespace x":             "-kubernetes-namespace",
		"-kubernetes-api https://x":                           "-kubernetes-api",
		"-kubernetes-pod-security baseline":                   "-kubernetes-pod-security",
		"-config " + file:                                     "-kubernetes-pod-security",
		"-backend kubernetes -kubernetes-pod-security lax":    "is not baseline or restricted",
		"-backend kubernetes -kubernetes-api kube:6443":       "is not a URL such as https://kube.example.com:6443",
		"-backend kubernetes -kubernetes-api https://u:p@x":   "is not a URL",
		"-backend swarm":                                      "is not docker or kubernetes",
		"-backend kubernetes":                                 "-kubeconfig: no kubeconfig file is given",
		"-backend kubernetes -kubeconfig /nowhere/admin.conf": "/nowhere/admin.conf",
		"$MAGNUM_KUBERNETES_NAMESPACE":                        "-kubernetes-namespace",
	} {
		var stderr bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &stderr,
			lookupEnv: func(name string) (string, bool) { return "x", "$"+name == line }}
		args := []string{"agent", "-data-dir=" + t.TempDir(), "-join-token=12345678", "-server=127.0.0.1"}
		if !strings.HasPrefix(line, "$") {
			args = append(args, strings.Fields(line)...)
		}
		if code := e.run(t.Context(), args); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr.String())
		}
	}
}
