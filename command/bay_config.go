package command

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// credentialAPI is the version of the plugins that kubectl and other clients of Kubernetes
// run for credentials.
const credentialAPI = "client.authentication.k8s.io/v1"

func bayConfigCommand() *command {
	return &command{
		name: "bay-config", group: groupBays, args: "BAY", complete: completeBays,
		synopsis: "Write a kubeconfig, so that kubectl and helm work in a bay of coe kubernetes",
		about: "Writes the kubeconfig of the project's namespace in the bay's cluster. It has no secret: for each token\n" +
			"kubectl runs \"magnum bay-config -credential BAY\", which asks the servers with the OS_TOKEN, or other\n" +
			"OS_* variables, that kubectl was run with. A token is good for 10 minutes. The kubeconfig names the servers,\n" +
			"cloud and CA of -addr, -os-cloud and -tls-ca, or of MAGNUM_ADDR, OS_CLOUD and MAGNUM_TLS_CA.",
		examples: []string{
			"magnum bay-config -file kube.conf web && kubectl --kubeconfig kube.conf get pods",
			"magnum bay-config -command /opt/magnum/bin/magnum web > kube.conf",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var file, program string
			credential := false
			f.text(&file, "file f", "FILE", "write to this file, which is replaced (default standard output)")
			f.text(&program, "command", "PROGRAM", "the magnum that kubectl runs: in its PATH, or a path (default magnum)")
			f.switchOn(&credential, "credential", "print a token as kubectl's plugins do; excludes -file and -command")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args, "BAY"); err != nil {
					return err
				}
				if credential && (file != "" || program != "") {
					return usagef("-credential prints a token, and writes no kubeconfig: leave out -file and -command")
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				if credential {
					return printCredential(ctx, e, client, args[0])
				}
				body, _, err := client.Bays().Config(ctx, args[0])
				if err != nil {
					return err
				}
				k := kubeconfig{bay: body, program: orDefault(program, "magnum")}
				if k.env, err = conn.environment(e); err != nil {
					return err
				}
				if file == "" {
					_, err = fmt.Fprint(e.stdout, k.text())
					return err
				}
				if at, err := os.Stat(file); err == nil && !at.Mode().IsRegular() {
					return fmt.Errorf("%s is no regular file", file)
				}
				return atomicfile.Replace(file, []byte(k.text()))
			}
		},
	}
}

// printCredential prints a new token as kubectl's plugins do.
func printCredential(ctx context.Context, e *env, client *api.Client, bay string) error {
	made, err := client.Bays().Credential(ctx, bay)
	if err != nil {
		return err
	}
	type status struct {
		ExpirationTimestamp string `json:"expirationTimestamp"`
		Token               string `json:"token"`
	}
	return json.NewEncoder(e.stdout).Encode(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Status     status `json:"status"`
	}{credentialAPI, "ExecCredential", status{made.ExpiresAt.UTC().Format(time.RFC3339), made.Token}})
}

// environment returns the environment variables with which another run of magnum calls the
// same servers; never a token.
func (c *connection) environment(e *env) ([][2]string, error) {
	var vars [][2]string
	if addr := orDefault(c.addr, e.getenv("MAGNUM_ADDR")); addr != "" {
		vars = append(vars, [2]string{"MAGNUM_ADDR", addr})
	}
	if cloud := orDefault(c.cloud, e.getenv("OS_CLOUD")); cloud != "" {
		vars = append(vars, [2]string{"OS_CLOUD", cloud})
	}
	if ca := orDefault(c.tlsCA, e.getenv("MAGNUM_TLS_CA")); ca != "" {
		path, err := filepath.Abs(ca) // kubectl runs anywhere
		if err != nil {
			return nil, err
		}
		vars = append(vars, [2]string{"MAGNUM_TLS_CA", path})
	}
	return vars, nil
}

// kubeconfig is the configuration of clients of Kubernetes.
type kubeconfig struct {
	bay     *structs.BayConfigBody
	program string
	env     [][2]string // of the plugin
}

// text returns the file. Every string in it is quoted as JSON, which YAML reads alike.
func (k *kubeconfig) text() string {
	var b strings.Builder
	line := func(format string, values ...string) {
		quoted := make([]any, 0, len(values))
		for _, v := range values {
			text, _ := json.Marshal(v) // a string
			quoted = append(quoted, string(text))
		}
		fmt.Fprintf(&b, format+"\n", quoted...)
	}
	name := "magnum-" + k.bay.Bay
	line("apiVersion: v1\nkind: Config\ncurrent-context: %s", name)
	line("clusters:\n- name: %s\n  cluster:\n    server: %s", name, k.bay.APIAddress)
	if k.bay.CA != nil {
		line("    certificate-authority-data: %s", base64.StdEncoding.EncodeToString([]byte(*k.bay.CA)))
	}
	line("contexts:\n- name: %s\n  context:\n    cluster: %s\n    user: %s\n    namespace: %s", name, name, name, k.bay.Namespace)
	line("users:\n- name: %s\n  user:\n    exec:\n      apiVersion: %s\n      command: %s", name, credentialAPI, k.program)
	line("      args: [bay-config, -credential, %s]", k.bay.BayUUID)
	if len(k.env) > 0 {
		line("      env:")
	}
	for _, v := range k.env {
		line("      - name: %s\n        value: %s", v[0], v[1])
	}
	line("      interactiveMode: Never\n      provideClusterInfo: false\n      installHint: %s", "This kubeconfig was written by \"magnum "+
		"bay-config\" and needs magnum in the PATH: install it, or write the file again with -command PROGRAM. Set OS_TOKEN as for magnum.")
	return b.String()
}
