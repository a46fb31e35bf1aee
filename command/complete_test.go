package command

import (
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/posener/complete"
)

// completions returns the words that the shell gets for a line. The library prints them
// on the standard output of the process.
func completions(t *testing.T, f *fakeAPI, line string) []string {
	t.Helper()
	t.Setenv("COMP_LINE", line)
	t.Setenv("COMP_POINT", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	vars := map[string]string{"COMP_LINE": line}
	if f != nil {
		vars["MAGNUM_ADDR"] = f.url
	}
	e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard,
		lookupEnv: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }}
	// A shell passes the program's name, the word and the word before.
	code := e.run(context.Background(), []string{"magnum", "x", "y"})
	os.Stdout = stdout
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil || code != 0 {
		t.Fatalf("completing %q: code %d, %v", line, code, err)
	}
	words := strings.Fields(string(text))
	slices.Sort(words)
	return words
}

func TestCompletion(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/bays", 200, `{"bays":[{"uuid":"b1","name":"web"},{"uuid":"b2","name":"two words"}]}`)
	f.answer("GET /v1/containers", 200, `{"containers":[{"uuid":"u1","name":"c1"},{"uuid":"u2","name":null}]}`)
	f.answer("GET /v1/hosts", 403, `{}`)
	f.answer("GET /v1/tokens", 200, `{"tokens":[{"uuid":"t1","name":"ci"}]}`)
	f.answer("GET /v1/volumes", 200, `{"volumes":[{"name":"data","host":"h"}],"errors":[]}`)
	for line, want := range map[string]string{
		"magnum container-s":                     "container-show container-start container-stats container-stop",
		"magnum bay-list -m":                     "-marker",
		"magnum bay-list --wi":                   "--wide",
		"magnum bay-show ":                       "b2 web",
		"magnum bay-show w":                      "web",
		"magnum container-stop c1 ":              "c1 u2",
		"magnum container-run -bay ":             "b2 web",
		"magnum container-run -restart un":       "unless-stopped",
		"magnum bay-create -placement ":          "binpack spread",
		"magnum host-show ":                      "",
		"magnum image-p":                         "image-prune image-pull",
		"magnum image-pull -bay ":                "b2 web",
		"magnum volume-delete ":                  "data",
		"magnum completion ":                     "bash fish zsh",
		"magnum container-list -bay ":            "b2 web",
		"magnum server -log-format ":             "json text",
		"magnum baymodel-create -coe d":          "docker",
		"magnum help baymodel-":                  "baymodel-actions baymodel-create baymodel-delete baymodel-list baymodel-show",
		"magnum help operator ":                  "bootstrap raft snapshot",
		"magnum help operator snapshot re":       "restore",
		"magnum help bay-list ":                  "",
		"magnum bay-create -name ":               "",
		"magnum token-revoke ":                   "ci",
		"magnum token-create -role ":             "admin member reader",
		"magnum op":                              "operator",
		"magnum operator ":                       "bootstrap raft snapshot",
		"magnum operator raft l":                 "list-peers",
		"magnum operator bootstrap -qu":          "-quiet",
		"magnum -addr 127.0.0.1:1 bay-show w":    "",
		"magnum bay-show -addr=127.0.0.1:1 -deb": "-debug",
	} {
		got := strings.Join(completions(t, f, line), " ")
		for range 5 { // a busy machine may take longer than a user waits for a completion
			if got == want {
				break
			}
			got = strings.Join(completions(t, f, line), " ")
		}
		if got != want {
			t.Errorf("%q completes to %q, want %q", line, got, want)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, sh := range shells {
		r := newShell(t, nil).run("completion", sh)
		if r.code != 0 || !strings.Contains(r.stdout, "magnum") || r.stderr != "" {
			t.Errorf("%s: %+v", sh, r)
		}
		path, err := exec.LookPath(sh)
		if err != nil {
			t.Logf("%s is not installed: its script is not checked", sh)
			continue
		}
		if out, err := exec.Command(path, "-n", "-c", r.stdout).CombinedOutput(); err != nil {
			t.Errorf("%s doesn't take its script: %v\n%s", sh, err, out)
		}
	}
	script, _ := completionScript("bash", "/opt/it's/magnum")
	if script != `complete -C '/opt/it'\''s/magnum' magnum`+"\n" {
		t.Errorf("a path with a quote: %s", script)
	}
}

func TestEveryFlagHasUsageAndUniqueName(t *testing.T) {
	e := &env{lookupEnv: func(string) (string, bool) { return "", false }}
	for _, c := range commands() {
		f := newFlagSet(c.name)
		c.setup(e, f)
		seen := map[string]bool{}
		for _, o := range f.options {
			if o.usage == "" {
				t.Errorf("%s -%s says nothing", c.name, o.names[0])
			}
			for _, n := range o.names {
				if seen[n] {
					t.Errorf("%s has two flags -%s", c.name, n)
				}
				seen[n] = true
			}
		}
		r := &runner{e: e, cmd: c}
		var flags complete.Flags = r.AutocompleteFlags()
		if c.name != "help" && c.name != "version" && c.name != "completion" && c.name != "keygen" && len(flags) == 0 {
			t.Errorf("%s completes no flags", c.name)
		}
	}
}
