//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// This file runs each command at least once, as users type it.

// TestCommands takes bays, hosts and containers from creation to deletion, with
// a server and an agent in two processes, and in one.
func TestCommands(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *cluster{
		"apart": func(t testing.TB) *cluster { return newCluster(t) },
		"dev":   newDev,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			// In this order: the last part deletes the bay.
			for _, part := range []struct {
				name string
				do   func(*commandLine)
			}{
				{"about", (*commandLine).about}, {"bays", (*commandLine).bays}, {"baymodels", (*commandLine).baymodels},
				{"hosts", (*commandLine).hosts},
				{"create", (*commandLine).create}, {"run", (*commandLine).run}, {"limits", (*commandLine).limits},
				{"ports", (*commandLine).ports},
				{"volumes", (*commandLine).volumes}, {"list", (*commandLine).list}, {"logs", (*commandLine).logs},
				{"execute", (*commandLine).execute},
				{"terminal", (*commandLine).terminal}, {"actions", (*commandLine).actions}, {"refusals", (*commandLine).refusals},
				{"noBay", (*commandLine).noBay},
			} {
				t.Run(part.name, func(t *testing.T) {
					own := *c
					own.TB = t
					part.do(&commandLine{&own})
				})
			}
		})
	}
}

// newDev starts magnum agent -dev.
func newDev(t testing.TB) *cluster {
	t.Helper()
	port := freePort(t)
	c := &cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + port, engine: newEngine(t)}
	c.server = c.process("server", "agent", "-dev", "-data-dir", filepath.Join(c.dir, "data"), "-http-port", port, "-name", "host-1",
		"-log-level", "debug")
	c.server.start()
	t.Cleanup(c.cleanup)
	client, err := api.New(api.Config{Address: c.addr})
	if err != nil {
		t.Fatal(err)
	}
	c.client = client
	c.eventually("the default bay has its host", time.Minute, func() error {
		b, _, err := client.Bays().Get(c.ctx(), "default", api.QueryOptions{})
		if err == nil && b.Status != structs.BayCreated {
			err = fmt.Errorf("the bay is %s: %s", b.Status, deref(b.StatusReason))
		}
		c.bay = b
		return err
	})
	return c
}

// commandLine is a cluster that is used by the command line.
type commandLine struct{ *cluster }

// says runs a command, expects success and all the words in its standard
// output, and returns that output.
func (l *commandLine) says(args []string, words ...string) string {
	l.Helper()
	out := l.magnum(args...).must(l)
	for _, w := range words {
		if !strings.Contains(out, w) {
			l.Errorf("magnum %s does not say %q but:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// field returns a field of a container as a template prints it.
func (l *commandLine) field(ident, name string) string {
	l.Helper()
	return strings.TrimSpace(l.says([]string{"container-show", ident, "-format", "{{." + name + "}}"}))
}

// refused runs a command that must fail with the exit code and have the words
// on standard error and nothing on standard output.
func (l *commandLine) refused(code int, args []string, words ...string) {
	l.Helper()
	r := l.magnum(args...)
	if r.code != code || r.stdout != "" {
		l.Errorf("magnum %s: exit code %d, want %d; it printed %q, and on standard error %q", strings.Join(args, " "), r.code, code,
			r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			l.Errorf("magnum %s does not say %q but %q", strings.Join(args, " "), w, r.stderr)
		}
	}
}

// runForeground runs a container with --rm and waits until it has ended.
func (l *commandLine) runForeground(args ...string) result {
	l.Helper()
	return l.magnum(append([]string{"container-run", "--rm"}, args...)...)
}

// runSleeper starts a container that runs until the subtest ends.
func (l *commandLine) runSleeper(name string, flags ...string) {
	l.Helper()
	args := append([]string{"container-run", "-d", "--name", name}, flags...)
	l.says(append(args, image, "sh", "-c", sleepScript))
	l.Cleanup(func() { l.magnum("container-delete", "-force", name) })
}

// inspect returns the engine's description of a container.
func (l *commandLine) inspect(ident string) container.InspectResponse {
	l.Helper()
	ctx := context.Background()
	label := filters.Arg("label", "magnum.container="+l.field(ident, "uuid"))
	list, err := l.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(label)})
	if err != nil || len(list) != 1 {
		l.Fatalf("the engine has %d containers for %s: %v", len(list), ident, err)
	}
	info, err := l.engine.ContainerInspect(ctx, list[0].ID)
	if err != nil {
		l.Fatal(err)
	}
	return info
}

func (l *commandLine) about() {
	if out := l.says([]string{"version"}); !regexp.MustCompile(`^magnum \S+ \(go\S+ linux/\w+\)\n$`).MatchString(out) {
		l.Errorf("version: %q", out)
	}
	main := l.says([]string{"help"}, "container-run", "bay-create", "Exit codes:", "MAGNUM_ADDR")
	commands := 0
	for _, line := range strings.Split(main, "\n") {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "  "), " "); ok && strings.HasPrefix(line, "  ") &&
			(strings.Contains(name, "-") && name != "tls-init" || name == "status") {
			flag := "-addr"
			if name == "keystone-setup" { // it calls no server
				flag = "-os-cloud"
			}
			l.says([]string{"help", name}, "Usage: magnum "+name+" [FLAGS]", flag, "Examples:")
			commands++
		}
	}
	if commands < 50 {
		l.Errorf("the help names only %d commands:\n%s", commands, main)
	}
	l.says([]string{"status"}, "| Property", "| hosts ", "| 1/1 ready ", "CREATE_COMPLETE", "| server ")
	l.says([]string{"status", "-format", "{{.bays}} {{.containers}}"}, "1 0\n")
	for shell, word := range map[string]string{"bash": "complete -C", "zsh": "bashcompinit", "fish": "complete -f -c magnum"} {
		l.says([]string{"completion", shell}, word)
	}
	l.refused(2, []string{"completion", "tcsh"}, `"tcsh"`, "bash, zsh, fish")
	l.refused(2, []string{"ps"}, "did you mean container-list?")
	// Completion works by environment, as bash runs it.
	for line, want := range map[string]string{"magnum container-ex": "container-execute", "magnum bay-show " + l.bay.Name[:3]: l.bay.Name} {
		r := magnum(l, []string{"MAGNUM_ADDR=" + l.addr, "COMP_LINE=" + line}, "", "magnum", "x", "y")
		if !slices.Contains(strings.Fields(r.stdout), want) {
			l.Errorf("completing %q gives %q", line, r.stdout)
		}
	}
}

func (l *commandLine) bays() {
	l.says([]string{"bay-list"}, "| uuid ", "| name ", "| node_count | status ", "| "+l.bay.Name+" ")
	l.says([]string{"bay-show", l.bay.Name}, "| Property", "| baymodel_id ", "| placement ", "| spread ")
	// The only host belongs to the first bay.
	l.refused(1, []string{"bay-create", "-name", "second", "-wait", "3s"}, "second is still CREATE_IN_PROGRESS", "start an agent",
		"bay-show")
	l.says([]string{"bay-list", "-wide"}, "0 of 1 hosts")
	l.says([]string{"bay-create", "-name", "second", "-label", "zone=a", "-placement", "binpack", "-detach"}, "| binpack ",
		`{"zone":"a"}`, "CREATE_IN_PROGRESS")
	l.refused(1, []string{"bay-show", "second"}, "Multiple bays exist with same name", "(HTTP 409)", "bay-list")
	l.refused(1, []string{"container-run", image}, "bay_uuid is missing", l.bay.Name, "second", "-bay")
	ids := strings.Fields(l.says([]string{"bay-list", "-name", "second", "-q"}))
	if len(ids) != 2 {
		l.Fatalf("two bays are called second, and %q are listed", ids)
	}
	l.says(append([]string{"bay-delete"}, ids...))
	if out := l.says([]string{"bay-list", "-q"}); out != l.bay.UUID+"\n" {
		l.Errorf("the bays left are %q", out)
	}
	l.says([]string{"bay-update", l.bay.Name, "replace", "node_count=2", "-detach"}, "UPDATE_IN_PROGRESS")
	l.refused(1, []string{"bay-update", l.bay.Name, "replace", "node_count=1"}, "UPDATE_IN_PROGRESS", "not supported")
	l.refused(1, []string{"bay-delete", "nope", "neither"}, "Delete for bay nope failed: Bay nope could not be found.", "neither",
		"bay-list")
	l.refused(2, []string{"bay-update", l.bay.Name, "turn", "node_count=1"}, "is not add, replace or remove")
	// A bay without hosts can be deleted at any time.
	l.says([]string{"bay-create", "-name", "third", "-detach"})
	l.says([]string{"bay-delete", "third"})
}

func (l *commandLine) baymodels() {
	l.says([]string{"baymodel-create", "-name", "small", "-coe", "docker", "-image-id", "any"}, "| coe ", "| docker ", "| any ")
	l.says([]string{"baymodel-list"}, "| uuid ", "| name ", "| small ")
	l.says([]string{"baymodel-show", "small", "-format", "{{.name}} {{.coe}}"}, "small docker\n")
	l.says([]string{"bay-create", "-name", "modelled", "-baymodel", "small", "-detach"})
	l.refused(1, []string{"baymodel-delete", "small"}, "is referenced", "modelled")
	l.says([]string{"bay-delete", "modelled"})
	l.says([]string{"baymodel-delete", "small"})
	l.refused(1, []string{"baymodel-show", "small"}, "could not be found", "baymodel-list")
}

func (l *commandLine) hosts() {
	l.says([]string{"host-list"}, "| uuid ", "| state ", "| host-1 ", "| ready ", "| docker ")
	l.says([]string{"host-show", "host-1", "-format", "{{.name}} {{.bay_uuid}} {{.cores}}"}, "host-1 "+l.bay.UUID)
	l.refused(1, []string{"host-show", "nope"}, "could not be found", "host-list")
	l.says([]string{"node-create", "-type", "virt", "-image-id", "f21"}, "| virt ")
	l.says([]string{"node-list"}, "| uuid ", "| type ", "| image_id ", "| virt ", "| host ")
}

// specFlags has each flag that describes a container once.
var specFlags = []string{"-e", "A=1", "--env", "B=two words", "-l", "tier=web", "--label", "x=y", "-m", "64m", "--cpu", "0.5",
	"-w", "/tmp", "-u", "65534", "-h", "inside", "--restart", "on-failure:2",
	"-v", "spec:/spec:ro", "--tmpfs", "/scratch:size=1m", "-p", "81/udp", "--stop-timeout", "3", "--log-max-size", "1m", "--pull", "never"}

func (l *commandLine) create() {
	flags := append([]string{"container-create", "--name", "made"}, specFlags...)
	l.says(append(flags, image, "--", "sh", "-c", sleepScript), "| Property", "| Stopped ", "| made ", "| 67108864 ", "on-failure:2")
	var made structs.ContainerBody
	if err := json.Unmarshal([]byte(l.says([]string{"container-show", "made", "-json"})), &made); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { l.engine.removeVolume("spec") })
	for what, ok := range map[string]bool{
		"environment": maps.Equal(made.Environment, map[string]string{"A": "1", "B": "two words"}),
		"labels":      maps.Equal(made.Labels, map[string]string{"tier": "web", "x": "y"}),
		"limits":      made.Memory == 64<<20 && made.MilliCPU == 500,
		"who, where":  made.Workdir == "/tmp" && made.User == "65534" && made.Hostname == "inside",
		"policies":    made.RestartPolicy.String() == "on-failure:2" && made.PullPolicy == structs.PullNever,
		"volumes": reflect.DeepEqual(made.Volumes, []structs.Mount{
			{Name: "spec", Target: "/spec", Type: structs.MountVolume, ReadOnly: true},
			{Target: "/scratch", Type: "tmpfs", Size: 1 << 20}}),
		"ports":   len(made.Ports) == 1 && made.Ports[0].ContainerPort == 81 && made.Ports[0].Protocol == "udp",
		"command": made.Command != nil && slices.Equal(made.Command.Args, []string{"sh", "-c", sleepScript}) && made.Entrypoint == nil,
		"the end": made.StopSeconds() == 3 && made.LogMaxSize == 1<<20 && !made.TTY && !made.Stdin && !made.AutoRemove,
	} {
		if !ok {
			l.Errorf("%s of the container are not as requested: %+v", what, made)
		}
	}
	// A body of the API of 2015 can be sent from a file.
	body := `{"name":"from2015","image_id":"` + image + `","command":"sh -c 'echo \"it runs\"; sleep 100'","bay_uuid":"` + l.bay.UUID + `"}`
	file := filepath.Join(l.TempDir(), "c.json")
	if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
		l.Fatal(err)
	}
	l.says([]string{"container-create", "--json", file}, "| from2015 ", "| Stopped ")
	r := magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, body, "container-create", "-format", "{{.name}} {{.status}}")
	if r.must(l) != "from2015 Stopped\n" {
		l.Errorf("a body on standard input: %+v", r)
	}
	l.says([]string{"container-create", "--json", file, "--name", "other", "-e", "X=1", "-run", "-format",
		"{{.name}} {{.status}} {{.environment.X}}"}, "other Running 1\n")
	l.refused(1, []string{"container-show", "from2015"}, "Multiple containers exist with same name", "container-list")
	l.refused(1, []string{"container-create", "--json", filepath.Join(l.TempDir(), "none")}, "no such file")
	l.refused(2, []string{"container-create", "-m", "lots", image}, "-m", `"lots"`, "512m")
	l.refused(1, []string{"container-create", "-bay", "nope", image}, "Bay nope could not be found", "bay-list")
	ids := strings.Fields(l.says([]string{"container-list", "-name", "from2015", "-q"}))
	l.says(append([]string{"container-delete", "made"}, ids...))
	l.says([]string{"container-delete", "-stop", "other"})
	// A missing image makes the container's status Error, with the way out as reason.
	l.refused(1, []string{"container-create", "--name", "bad", "--pull", "never", "magnum-test/none:1"}, "magnum-test/none:1",
		"container-delete")
	l.says([]string{"container-delete", "bad"})
	// A container that no host has room for waits, and can be deleted meanwhile.
	l.refused(1, []string{"container-run", "-d", "--name", "huge", "-m", "10000g", "-wait", "3s", image}, "huge is still Creating",
		"memory")
	l.says([]string{"container-delete", "huge"})
}

func (l *commandLine) run() {
	r := l.runForeground(image, "sh", "-c", "echo out; echo err >&2; exit 42")
	if r.code != 42 || r.stdout != "out\n" || r.stderr != "err\n" {
		l.Errorf("foreground: %+v", r)
	}
	if out := l.says([]string{"container-list", "-q"}); out != "" {
		l.Errorf("--rm left %s", out)
	}
	env := l.runForeground("-e", "A=1", "-e", "HOME", "-w", "/tmp", "-u", "65534", "-h", "inside", image, "sh", "-c",
		"echo $A $HOME $(pwd) $(id -u) $(hostname)")
	if want := "1 " + os.Getenv("HOME") + " /tmp 65534 inside\n"; env.code != 0 || env.stdout != want {
		l.Errorf("the container's environment is %+v, want %q", env, want)
	}
	// Flags after IMAGE belong to the command.
	if r := l.runForeground(image, "echo", "-d", "--rm", "-h"); r.stdout != "-d --rm -h\n" {
		l.Errorf("flags of the command: %+v", r)
	}
	// Without --rm the container stays, with its exit code.
	if r := l.magnum("container-run", "--name", "ends", image, "sh", "-c", "exit 3"); r.code != 3 || r.stderr != "" {
		l.Errorf("exit 3: %+v", r)
	}
	if got := l.field("ends", "status") + l.field("ends", "exit_code"); got != "Stopped3" {
		l.Errorf("status and exit code are %s", got)
	}
	l.says([]string{"container-delete", "ends"})

	id := strings.TrimSpace(l.says([]string{"container-run", "-d", "--name", "back", "-l", "tier=web", image, "sh", "-c", sleepScript}))
	if id != l.field("back", "uuid") || l.field("back", "status") != "Running" {
		l.Errorf("-d printed %q, and the status is %s", id, l.field("back", "status"))
	}
	if labels := l.inspect("back").Config.Labels; labels["tier"] != "web" {
		l.Errorf("the engine has the labels %v", labels)
	}
	l.says([]string{"container-delete", "-stop", "back"})
	// With -d --rm the server deletes the container.
	l.awaitGone(strings.TrimSpace(l.says([]string{"container-run", "-d", "--rm", image, "true"})))

	l.refused(2, []string{"container-run", "-it", image, "sh"}, "standard input is none", "-d")
	r = l.magnum("container-run", "-d", "-it", "--name", "tty", image, "sh")
	if r.code != 0 || l.field("tty", "tty") != "true" || l.field("tty", "status") != "Running" {
		l.Errorf("-d -it: %+v", r)
	}
	l.says([]string{"container-delete", "-force", "tty"})
	if r := l.runForeground("-t", image, "sh", "-c", "tty && echo err >&2"); r.stdout != "/dev/pts/0\r\nerr\r\n" {
		l.Errorf("-t: %+v", r)
	}
	l.interruptedRun()
}

func (l *commandLine) limits() {
	l.runSleeper("limited", "-m", "64m", "--cpu", "0.5", "--restart", "on-failure:2")
	info := l.inspect("limited")
	if r := info.HostConfig; r.Memory != 64<<20 || r.NanoCPUs != 5e8 ||
		r.RestartPolicy != (container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 2}) {
		l.Errorf("the engine has memory %d, cpu %d, %+v", r.Memory, r.NanoCPUs, r.RestartPolicy)
	}
	l.says([]string{"host-show", "host-1", "-format", "{{.memory_used}} {{.cpu_used}}"}, "67108864 0.5\n")
}

func (l *commandLine) ports() {
	port := freePort(l)
	l.says([]string{"container-run", "-d", "--name", "web", "-p", port + ":80", "-p", "81", image, "sh", "-c",
		"mkdir /www; echo welcome >/www/index.html; exec httpd -f -p 80 -h /www"})
	l.Cleanup(func() { l.magnum("container-delete", "-force", "web") })
	if got := l.get("http://" + net.JoinHostPort("127.0.0.1", port)); got != "welcome\n" {
		l.Errorf("the published port answers %q", got)
	}
	l.says([]string{"container-list", "-wide"}, port+"->80/tcp")
	if any := l.field("web", "ports"); strings.Contains(any, "host_port:0") {
		l.Errorf("the port that the engine chose is not shown: %s", any)
	}
	// Another container of the project reaches the port without a published one.
	address := strings.TrimSpace(l.says([]string{"container-show", "web", "-format", "{{index .addresses 0}}"}))
	if r := l.runForeground(image, "wget", "-q", "-O", "-", "http://"+address+"/"); r.code != 0 || r.stdout != "welcome\n" {
		l.Errorf("through the project's network: %+v", r)
	}
	l.refused(1, []string{"container-run", "-d", "--name", "late", "-p", port + ":80", "-wait", "3s", image}, "late is still Creating",
		"port "+port)
	l.says([]string{"container-delete", "late"})
}

// get reads a URL as soon as it answers.
func (l *commandLine) get(url string) string {
	l.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	var text []byte
	l.eventually(url+" answers", patience, func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err = io.ReadAll(resp.Body)
		return err
	})
	return string(text)
}

func (l *commandLine) volumes() {
	name := "cycle-" + l.bay.UUID[:8]
	l.Cleanup(func() { l.engine.removeVolume(name) })
	if r := l.runForeground("-v", name+":/data", image, "sh", "-c", "echo kept >/data/x"); r.code != 0 {
		l.Fatalf("%+v", r)
	}
	if r := l.runForeground("-v", name+":/data:ro", image, "sh", "-c", "cat /data/x; echo more >/data/x"); r.code == 0 ||
		r.stdout != "kept\n" || !strings.Contains(r.stderr, "Read-only") {
		l.Errorf("the volume of a deleted container: %+v", r)
	}
	l.refused(2, []string{"container-run", "-v", "/etc:/data", image}, "-v", "path of the host")
}

func (l *commandLine) list() {
	l.runSleeper("one", "-l", "tier=web")
	l.says([]string{"container-create", "--name", "two", "-l", "tier=db", image})
	l.Cleanup(func() { l.magnum("container-delete", "two") })
	one, two := l.field("one", "uuid"), l.field("two", "uuid")
	rows := []string{"| " + one + " | one  | Running |", "| " + two + " | two  | Stopped |"}
	slices.Sort(rows)
	frame := "+--------------------------------------+------+---------+\n"
	want := frame + "| uuid                                 | name | status  |\n" + frame + strings.Join(rows, "\n") + "\n" + frame
	if out := l.says([]string{"container-list"}); out != want {
		l.Errorf("the list is\n%swant\n%s", out, want)
	}
	l.says([]string{"container-list", "-wide"}, "| image_id ", "| command ", "| host ", "| ports ", "| created_at ", "| host-1 ", image)
	for filter, want := range map[string]string{
		"-name one": one, "-status running": one, "-status Stopped": two, "-label tier=db": two, "-label tier": one + two,
		"-bay " + l.bay.Name: one + two, "-host host-1": one + two, "-name none": "", "-limit 1": one,
		"-sort-key name -sort-dir desc": two + one, "-marker " + one: two,
	} {
		out := l.says(append([]string{"container-list", "-q"}, strings.Fields(filter)...))
		if got := strings.ReplaceAll(out, "\n", ""); got != want {
			l.Errorf("container-list -q %s lists %q, want %q", filter, got, want)
		}
	}
	l.says([]string{"container-list", "-sort-key", "name", "-format", "{{.name}} {{.status}} {{upper .labels.tier}}"},
		"one Running WEB\ntwo Stopped DB\n")
	for _, format := range [][]string{{"-json"}, {"-format", "json"}} {
		var list []structs.ContainerBody
		if err := json.Unmarshal([]byte(l.says(append([]string{"container-list"}, format...))), &list); err != nil || len(list) != 2 ||
			list[0].Name != "one" {
			l.Errorf("%v: %v, %+v", format, err, list)
		}
	}
	l.refused(2, []string{"container-list", "-format", "{{.nosuch}}"}, "nosuch", "the fields are uuid, name")
	l.refused(1, []string{"container-list", "-bay", "nope"}, "nope")
}

func (l *commandLine) logs() {
	// Each stream by itself: the engine keeps no order between two streams.
	l.says([]string{"container-run", "-d", "--name", "talks", image, "sh", "-c",
		"for i in 1 2 3; do echo out $i; done; echo err >&2; " + sleepScript})
	l.Cleanup(func() { l.magnum("container-delete", "-force", "talks") })
	l.eventually("the logs have all lines", patience, func() error {
		if out := l.says([]string{"container-logs", "talks"}); strings.Count(out, "\n") != 4 {
			return fmt.Errorf("they are %q", out)
		}
		return nil
	})
	for flags, want := range map[string]string{
		"-stdout": "out 1\nout 2\nout 3\n", "-stderr": "err\n", "-tail 0": "", "-stdout -n all": "out 1\nout 2\nout 3\n",
		"-stdout -since 1h": "out 1\nout 2\nout 3\n", "-since 2100-01-01T00:00:00Z": "",
	} {
		if out := l.says(append([]string{"container-logs", "talks"}, strings.Fields(flags)...)); out != want {
			l.Errorf("container-logs %s prints %q, want %q", flags, out, want)
		}
	}
	if out := l.says([]string{"container-logs", "-timestamps", "-stderr",
		"talks"}); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]+Z err\n$`).MatchString(out) {
		l.Errorf("-timestamps: %q", out)
	}
	// -follow goes on until the container ends.
	l.says([]string{"container-run", "-d", "--name", "counts", image, "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.3; done"})
	if out := l.says([]string{"container-logs", "-follow", "counts"}); out != "1\n2\n3\n4\n" {
		l.Errorf("-follow prints %q", out)
	}
	if out := l.says([]string{"container-logs", "-tail", "2", "counts"}); out != "3\n4\n" {
		l.Errorf("-tail 2 prints %q", out)
	}
	l.says([]string{"container-delete", "-force", "counts"})
	l.says([]string{"container-create", "--name", "silent", image})
	l.refused(1, []string{"container-logs", "silent"}, "has not been started yet", "start it")
	l.says([]string{"container-delete", "silent"})
	l.refused(2, []string{"container-logs", "talks", "-tail", "some"}, "-tail", `"some"`)
	l.refused(1, []string{"container-logs", "talks", "-since", "yesterday"}, "since", "yesterday")
}

func (l *commandLine) execute() {
	l.runSleeper("host", "-e", "A=1")
	r := l.magnum("container-execute", "host", "-command", "sh -c 'echo out; echo err >&2; exit 5'")
	if r.code != 5 || r.stdout != "out\n" || r.stderr != "err\n" {
		l.Errorf("%+v", r)
	}
	if out := l.says([]string{"container-execute", "-e", "B=2", "-u", "65534", "-w", "/tmp", "host", "sh", "-c",
		"echo $A $B $(id -u) $(pwd)"}); out != "1 2 65534 /tmp\n" {
		l.Errorf("it ran in %q", out)
	}
	r = magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, "typed\n", "container-execute", "-i", "host", "sh", "-c", "cat; echo err >&2; exit 6")
	if r.code != 6 || r.stdout != "typed\n" || r.stderr != "err\n" {
		l.Errorf("-i: %+v", r)
	}
	// The engine's message about a program that can't be executed is output, as with docker.
	if r := l.magnum("container-execute", "host", "nosuchprogram"); r.code != 126 && r.code != 127 ||
		!strings.Contains(r.stdout+r.stderr, "nosuchprogram") {
		l.Errorf("no such program: %+v", r)
	}
	l.refused(2, []string{"container-execute", "host"}, "COMMAND is missing")
	l.refused(2, []string{"container-execute", "host", "-command", "'"}, "quote")
	l.refused(1, []string{"container-execute", "nope", "ls"}, "could not be found", "container-list")
}

func (l *commandLine) actions() {
	l.runSleeper("acts")
	status := func(want string) {
		l.Helper()
		if got := l.field("acts", "status"); got != want {
			l.Errorf("the status is %s, want %s", got, want)
		}
	}
	l.says([]string{"container-pause", "acts"})
	status("Paused")
	l.refused(1, []string{"container-execute", "acts", "ls"}, "is Paused")
	l.says([]string{"container-unpause", "acts"})
	status("Running")
	l.refused(1, []string{"container-unpause", "acts"}, "Unpause for container acts failed", "not paused")
	before := l.inspect("acts").State.StartedAt
	l.says([]string{"container-reboot", "acts", "-stop-timeout", "5"})
	if after := l.inspect("acts").State.StartedAt; after == before {
		l.Error("a reboot did not start it again")
	}
	l.refused(1, []string{"container-delete", "acts"}, "Delete for container acts failed", "is Running", "stop")
	l.says([]string{"container-stop", "acts"})
	status("Stopped")
	l.refused(1, []string{"container-pause", "acts"}, "it is Stopped")
	l.says([]string{"container-start", "acts"})
	status("Running")
	r := l.magnum("container-stop", "acts", "nope")
	if r.code != 1 || !strings.Contains(r.stderr, "Stop for container nope failed: Container nope could not be found") {
		l.Errorf("%+v", r)
	}
	status("Stopped")
	id := l.field("acts", "uuid")
	l.says([]string{"container-delete", "acts"})
	l.refused(1, []string{"container-show", id}, "could not be found", "container-list")
	if err := l.engine.agrees(l.hostID(), map[string]structs.ContainerBody{}); err != nil {
		l.Errorf("after the delete: %v", err)
	}
}

func (l *commandLine) refusals() {
	nowhere := "127.0.0.1:" + freePort(l)
	l.refused(1, []string{"container-list", "-addr", nowhere}, "ERROR: no server reachable at http://"+nowhere, "connection refused",
		`"magnum agent -dev"`, "MAGNUM_ADDR")
	l.refused(1, []string{"container-stop", "-addr", nowhere, "c1"}, "no server reachable", `"magnum agent -dev"`)
	l.refused(2, []string{"container-list", "-addr", "a b"}, "-addr")
	l.refused(2, []string{"container-list", "-fromat", "json"}, "there is no flag -fromat; did you mean -format?", "Usage:")
	l.refused(2, []string{"container-show"}, "CONTAINER is missing", "Usage:")
	l.refused(2, []string{"container-show", "a", "b"}, `"b" is one argument too many`)
	l.refused(2, []string{"container-run"}, "IMAGE is missing")
	l.refused(2, []string{"nonsense"}, `there is no command "nonsense"`, "magnum help")
}

func (l *commandLine) noBay() {
	l.runSleeper("lost")
	l.says([]string{"bay-delete", l.bay.Name})
	if out := l.says([]string{"bay-list", "-q"}) + l.says([]string{"container-list", "-q"}); out != "" {
		l.Errorf("after bay-delete there is %q", out)
	}
	l.refused(1, []string{"container-run", image, "true"}, "there is no bay", "bay-create")
	if err := l.engine.agrees(l.hostID(), map[string]structs.ContainerBody{}); err != nil {
		l.Error(err)
	}
	l.says([]string{"bay-create", "-name", "again", "-format", "{{.name}} {{.status}}"}, "again CREATE_COMPLETE\n")
	if r := l.runForeground(image, "echo", "again"); r.stdout != "again\n" {
		l.Errorf("in a new bay: %+v", r)
	}
}
