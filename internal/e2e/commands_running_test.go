//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// This file runs commands on a running container, as users type them.

// TestCommandsOnRunningContainer runs the commands that TestCommands leaves out.
func TestCommandsOnRunningContainer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, part := range []struct {
		name string
		do   func(*commandLine)
	}{
		{"kill", (*commandLine).kill}, {"change", (*commandLine).change}, {"wait", (*commandLine).wait},
		{"observe", (*commandLine).observe}, {"copies", (*commandLine).copies},
		{"attach", (*commandLine).attach}, {"runAttached", (*commandLine).runAttached}, {"health", (*commandLine).health},
		{"history", (*commandLine).history}, {"drain", (*commandLine).drain},
	} {
		t.Run(part.name, func(t *testing.T) {
			own := *c
			own.TB = t
			part.do(&commandLine{&own})
		})
	}
}

func (l *commandLine) kill() {
	l.says([]string{"container-run", "-d", "--name", "hangs", image, "sh", "-c", `trap "echo hup" HUP; while :; do sleep 0.1; done`})
	l.Cleanup(func() { l.magnum("container-delete", "-force", "hangs") })
	l.eventually("the container has set its trap and gets the signal", patience, func() error {
		l.says([]string{"container-kill", "-s", "HUP", "hangs"})
		return has(l.says([]string{"container-logs", "hangs"}), "hup")
	})
	l.says([]string{"container-kill", "hangs"})
	if got := l.field("hangs", "status") + l.field("hangs", "exit_code"); got != "Stopped137" {
		l.Errorf("after SIGKILL status and exit code are %s", got)
	}
	l.refused(1, []string{"container-kill", "hangs"}, "Kill for container hangs failed", "Stopped")
	l.refused(1, []string{"container-kill", "-s", "NOSUCH", "hangs"}, "NOSUCH")
}

// has returns an error if a text lacks a word.
func has(text, word string) error {
	if !strings.Contains(text, word) {
		return &missingWord{text, word}
	}
	return nil
}

type missingWord struct{ text, word string }

func (e *missingWord) Error() string { return "there is no " + e.word + " in " + e.text }

func (l *commandLine) change() {
	l.runSleeper("old", "-m", "64m")
	l.says([]string{"container-rename", "old", "new"})
	l.Cleanup(func() { l.magnum("container-delete", "-force", "new") })
	l.says([]string{"container-update", "-m", "128m", "-cpus", "0.5", "new"}, "134217728")
	if r := l.inspect("new").HostConfig; r.Memory != 128<<20 || r.NanoCPUs != 5e8 {
		l.Errorf("the engine has memory %d, cpu %d", r.Memory, r.NanoCPUs)
	}
	l.says([]string{"container-execute", "new", "touch", "/made"})
	before := l.inspect("new").ID
	l.says([]string{"container-rebuild", "new"})
	if after := l.inspect("new").ID; after == before || l.field("new", "status") != "Running" {
		l.Errorf("a rebuild left Docker container %s, with status %s", after, l.field("new", "status"))
	}
	if r := l.magnum("container-execute", "new", "test", "-e", "/made"); r.code != 1 {
		l.Errorf("a file that was written survived a rebuild: %+v", r)
	}
	l.refused(2, []string{"container-update", "new"}, "nothing to change")
	l.refused(1, []string{"container-rename", "old", "x"}, "could not be found")
}

func (l *commandLine) wait() {
	for name, code := range map[string]string{"three": "3", "zero": "0"} {
		l.says([]string{"container-run", "-d", "--name", name, image, "sh", "-c", "sleep 0.5; exit " + code})
		l.Cleanup(func() { l.magnum("container-delete", "-force", name) })
	}
	if out := l.says([]string{"container-wait", "three", "zero"}); out != "3\n0\n" {
		l.Errorf("container-wait prints %q", out)
	}
	l.runSleeper("naps")
	l.refused(1, []string{"container-wait", "-timeout", "3s", "naps"}, "still Running after 3s")
}

func (l *commandLine) observe() {
	l.runSleeper("busy")
	l.says([]string{"container-top", "busy"}, "| PID ", "sleep")
	l.says([]string{"container-top", "busy", "-o", "pid,args"}, "| COMMAND ")
	l.says([]string{"container-stats", "-no-stream", "busy"}, "| name ", "| busy ", "%")
	var stats structs.StatsBody
	if err := json.Unmarshal([]byte(l.says([]string{"container-stats", "-no-stream", "-json"})), &stats); err != nil || stats.PIDs < 1 ||
		stats.MemoryLimit == 0 {
		l.Errorf("%v, %+v", err, stats)
	}
	s := l.atTerminal(160, 24, "container-stats", "busy")
	s.shows("\x1b[H")
	s.shows("| busy ")
	s.types("\x03")
	s.ends(130)
	l.says([]string{"container-stop", "-t", "0", "busy"})
	l.refused(1, []string{"container-top", "busy"}, "is Stopped")
	l.refused(1, []string{"container-stats", "-no-stream", "busy"}, "is Stopped")
}

func (l *commandLine) copies() {
	l.runSleeper("files")
	dir := l.TempDir()
	write := func(name, text string) {
		l.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			l.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			l.Fatal(err)
		}
	}
	read := func(name, want string) {
		l.Helper()
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != want {
			l.Errorf("%s: %q, %v", name, text, err)
		}
	}
	write("src/a", "one\n")
	write("src/sub/b", "two\n")
	src := filepath.Join(dir, "src")
	l.says([]string{"container-cp", src, "files:/tmp"})                  // into a directory
	l.says([]string{"container-cp", src, "files:/tmp/made"})             // becomes a new directory
	l.says([]string{"container-cp", src + "/.", "files:/srv"})           // its content
	l.says([]string{"container-cp", src + "/a", "files:/tmp/made/c"})    // becomes a file
	l.says([]string{"container-cp", src + "/sub/b", "files:/tmp/src/a"}) // over a file
	out := l.says([]string{"container-execute", "files", "sh", "-c",
		"cd /tmp; cat src/a src/sub/b made/a made/sub/b made/c /srv/a; stat -c %u /srv/a"})
	if out != "two\ntwo\none\ntwo\none\none\n0\n" {
		l.Errorf("the files in the container are %q", out)
	}
	l.refused(1, []string{"container-cp", src, "files:/tmp/src/a"}, "is a directory")
	l.refused(1, []string{"container-cp", src, "files:/no/such"}, "directory /no does not exist")
	l.refused(1, []string{"container-cp", src + "/a", "files:/no/"}, "/no is no directory")

	l.says([]string{"container-cp", "files:/tmp/made", dir})
	read("made/sub/b", "two\n")
	l.says([]string{"container-cp", "files:/tmp/made/c", filepath.Join(dir, "d")})
	read("d", "one\n")
	l.refused(1, []string{"container-cp", "files:/no/such", dir}, "/no/such")
	// A tar stream that was copied out can be copied in again.
	tar := l.says([]string{"container-cp", "files:/tmp/made", "-"})
	l.says([]string{"container-execute", "files", "mkdir", "/tmp/again"})
	magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, tar, "container-cp", "-", "files:/tmp/again").must(l)
	if out := l.says([]string{"container-execute", "files", "cat", "/tmp/again/made/sub/b"}); out != "two\n" {
		l.Errorf("the file that was copied in again is %q", out)
	}
	big, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		l.Fatal(err)
	}
	defer big.Close()
	if err := big.Truncate(65 << 20); err != nil {
		l.Fatal(err)
	}
	l.refused(1, []string{"container-cp", big.Name(), "files:/tmp"}, "more than 64 MiB")
	l.says([]string{"container-execute", "files", "dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=65"})
	l.refused(1, []string{"container-cp", "files:/tmp/big", dir + "/out"}, "67108864 bytes")
	// Copies also work on a stopped container.
	l.says([]string{"container-stop", "-t", "0", "files"})
	l.says([]string{"container-cp", "files:/tmp/made/c", filepath.Join(dir, "e")})
	read("e", "one\n")
}

func (l *commandLine) attach() {
	l.says([]string{"container-run", "-d", "-it", "--name", "shell", image, "sh"})
	l.Cleanup(func() { l.magnum("container-delete", "-force", "shell") })
	s := l.atTerminal(91, 31, "container-attach", "shell")
	s.types("echo it is $((40 + 2)); stty size\r")
	s.shows("it is 42\r\n31 91\r\n")
	s.resize(123, 45)
	s.types("sleep 0.2; stty size\r")
	s.shows("45 123\r\n")
	s.types("\x10\x11")
	s.shows("container shell goes on")
	s.ends(0)
	if got := l.field("shell", "status"); got != "Running" {
		l.Errorf("after the detach the status is %s", got)
	}
	s = l.atTerminal(80, 24, "container-attach", "shell")
	s.types("exit 4\r")
	s.ends(4)
	l.await(l.field("shell", "uuid"), structs.ContainerStopped) // the agent has reported it
	l.refused(1, []string{"container-attach", "shell"}, "is Stopped")
}

func (l *commandLine) runAttached() {
	s := l.atTerminal(91, 31, "container-run", "-it", "--rm", "--name", "mine", image, "sh", "-c", "echo first; exec sh")
	s.shows("first\r\n")
	// A container's terminal gets its size once it runs. Until then stty complains, and succeeds.
	s.types("while stty size 2>&1 | grep -q input; do sleep 0.1; done; stty size; echo $((40 + 2))\r")
	s.shows("31 91\r\n42\r\n")
	s.types("sh -c 'echo begins; sleep 100'\r")
	s.shows("begins\r\n")
	s.types("\x03")
	s.types("echo still $((40 + 3)) here\r")
	s.shows("still 43 here")
	s.types("exit 6\r")
	s.ends(6)
	if n := strings.Count(s.shown(), "first"); n != 1 {
		l.Errorf("the terminal shows its first line %d times: %q", n, s.shown())
	}
	l.refused(1, []string{"container-show", "mine"}, "could not be found")
	// All output is shown, also that of a container that ends before the CLI is attached.
	s = l.atTerminal(80, 24, "container-run", "-it", "--rm", image, "sh", "-c", "tty; exit 3")
	s.shows("/dev/pts/0\r")
	s.ends(3)
	// Standard input is passed on line by line.
	r := magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, "typed\n", "container-run", "-i", "--rm", image, "sh", "-c",
		"echo ready; read x; echo got $x; exit 5")
	if r.code != 5 || r.stdout != "ready\ngot typed\n" || r.stderr != "" {
		l.Errorf("-i: %+v", r)
	}
	// All output comes, also what the log has no room for.
	const lines = 300_000
	r = magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, "", "container-run", "--rm", "--log-max-size", "64k", image, "sh", "-c",
		fmt.Sprintf("seq 1 %d; exit 5", lines))
	n := 0
	for line := range strings.Lines(r.stdout) {
		if n++; line != fmt.Sprintf("%d\n", n) {
			l.Fatalf("line %d is %q", n, line)
		}
	}
	if r.code != 5 || n != lines || r.stderr != "" {
		l.Errorf("code %d, %d lines of %d, %q", r.code, n, lines, r.stderr)
	}
	// The end of standard input is passed on.
	r = magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, "a\nb\n", "container-run", "-i", "--rm", image, "cat")
	if r.code != 0 || r.stdout != "a\nb\n" || r.stderr != "" {
		l.Errorf("-i to the end: %+v", r)
	}
}

func (l *commandLine) health() {
	l.runSleeper("checked", "-health-cmd", "test -e /ok", "-health-interval", "1s", "-health-retries", "1")
	state := func(want string) {
		l.Helper()
		l.eventually("the health is "+want, patience, func() error {
			if got := l.field("checked", "health"); got != want {
				return &missingWord{got, want}
			}
			return nil
		})
	}
	state("unhealthy")
	l.says([]string{"container-execute", "checked", "touch", "/ok"})
	state("healthy")
	l.runSleeper("unchecked", "-no-healthcheck")
	if h := l.inspect("unchecked").Config.Healthcheck; h == nil || len(h.Test) != 1 || h.Test[0] != "NONE" {
		l.Errorf("-no-healthcheck: the engine has %+v", h)
	}
}

func (l *commandLine) history() {
	s := l.atTerminal(200, 24, "events", "-follow", "-type", "container")
	l.eventually("events arrive", patience, func() error {
		if r := l.magnum("container-run", "-d", "--rm", "--name", "brief", image, "true"); r.code != 0 {
			return &missingWord{r.stderr, "exit code 0"}
		}
		return has(s.shown(), "container created brief ")
	})
	s.shows("container deleted brief ")
	s.types("\x03")
	s.ends(130)
	l.runSleeper("acted")
	l.says([]string{"container-stop", "-t", "0", "acted"})
	if out := l.says([]string{"container-actions", "acted", "-format",
		"{{.action}} {{.result}}"}); !regexp.MustCompile(`^stop success\n(start success\n)?create success\n$`).MatchString(out) {
		l.Errorf("container-actions: %q", out)
	}
	l.says([]string{"container-actions", "acted"}, "| action ", "| user_id ", "| stop ")
}

func (l *commandLine) drain() {
	l.says([]string{"host-label", "host-1", "zone=a"}, "zone")
	l.says([]string{"host-label", "host-1", "zone-"})
	l.says([]string{"host-drain", "host-1"})
	l.says([]string{"host-show", "host-1", "-format", "{{.draining}}"}, "true\n")
	l.refused(1, []string{"container-run", "-d", "--name", "late", "-wait", "3s", image, "true"}, "late is still Creating")
	l.says([]string{"host-undrain", "host-1"})
	l.says([]string{"container-wait", "late"}, "0\n")
	l.says([]string{"container-delete", "late"})
	l.refused(1, []string{"host-drain", "nope"}, "could not be found", "host-list")
}
