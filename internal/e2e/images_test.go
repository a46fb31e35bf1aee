//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// TestImagesAndVolumes uses and manages the images and volumes of a host. It
// has an engine of its own, because a prune removes all unused images.
func TestImagesAndVolumes(t *testing.T) {
	t.Parallel()
	own := newOwnEngine(t)
	l := &commandLine{newClusterOn(t, engineAt(t, own.host), "-docker-host", own.host)}
	l.loads()
	l.pulls()
	l.prunes()
	l.volumesOfHost()
	l.silentHost()
}

// archive writes an image archive and returns its path. The image has one file
// of that size in bytes.
func (l *commandLine) archive(name string, size int) string {
	l.Helper()
	raw, err := backendtest.ImageArchive(name, size)
	if err != nil {
		l.Fatal(err)
	}
	path := filepath.Join(l.dir, "image.tar")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		l.Fatal(err)
	}
	return path
}

// images returns the host's images by name.
func (l *commandLine) images() map[string]structs.ImageBody {
	l.Helper()
	var list []structs.ImageBody
	if err := json.Unmarshal([]byte(l.says([]string{"image-list", "-json"})), &list); err != nil {
		l.Fatal(err)
	}
	byName := make(map[string]structs.ImageBody)
	for _, img := range list {
		for _, name := range img.Names {
			byName[name] = img
		}
	}
	return byName
}

func (l *commandLine) loads() {
	server, agent := l.server.rss(), l.agent.rss()
	const size = 200 << 20
	l.says([]string{"image-load", l.archive("e2e/large:1", size)}, "host-1", "success", "e2e/large:1")
	for name, grown := range map[string]int64{"server": l.server.rss() - server, "agent": l.agent.rss() - agent} {
		l.Logf("with an archive of %d MiB the memory of the %s has grown by %d KiB", size>>20, name, grown>>10)
		if grown > size/4 {
			l.Errorf("the memory of the %s has grown by %d bytes with an archive of %d", name, grown, size)
		}
	}
	piped, err := os.ReadFile(l.archive("e2e/piped:1", 1000))
	if err != nil {
		l.Fatal(err)
	}
	if out := magnum(l, []string{"MAGNUM_ADDR=" + l.addr}, string(piped), "image-load", "-json").must(l); !strings.Contains(out,
		`"images":["e2e/piped:1"]`) {
		l.Errorf("a load from standard input prints %s", out)
	}
	have := l.images()
	if img := have["e2e/large:1"]; img.Size < size || img.InUse || img.Host != "host-1" || img.PulledAt.IsZero() || img.BayUUID == nil {
		l.Errorf("the image is %+v", img)
	}
	if _, ok := have["e2e/piped:1"]; !ok {
		l.Errorf("images are %v", have)
	}
	broken := filepath.Join(l.dir, "broken.tar")
	for what, content := range map[string][]byte{"half": piped[:len(piped)/2], "garbage": []byte(strings.Repeat("no archive ", 10_000)),
		"empty": nil} {
		if err := os.WriteFile(broken, content, 0o600); err != nil {
			l.Fatal(err)
		}
		l.refused(1, []string{"image-load", broken}, "host host-1", "docker save", "HTTP 400")
		if what == "half" && len(l.images()) != len(have) {
			l.Errorf("half an archive made an image: %v", l.images())
		}
	}
	l.refused(1, []string{"image-load", l.dir}, "is a directory")
	l.refused(1, []string{"image-load", filepath.Join(l.dir, "none.tar")}, "no such file")
	l.refused(1, []string{"image-load", "-bay", "none", broken}, "Bay none could not be found")
	l.refused(1, []string{"image-load", "-bay", l.bay.Name, "-host", "host-1", broken}, "name one of them")
	l.refused(2, []string{"image-load", "a", "b"}, "too many")
}

func (l *commandLine) pulls() {
	const none = "127.0.0.1:1/none:1" // nobody listens there
	l.refused(1, []string{"image-pull", none}, "host-1: pulling "+none, "Pull on host host-1 failed: image "+none+" can't be pulled",
		"check the name")
	l.refused(2, []string{"image-pull", "-host", "host-1", "-registry-username", "joe", "-registry-password-stdin", none}, "password",
		"empty")
	l.refused(1, []string{"image-pull", "a b"}, "white space")
	l.refused(1, []string{"image-pull", "-bay", "none", none}, "Bay none could not be found")
	l.refused(1, []string{"image-pull", "-host", "none", none}, "Host none could not be found")
	l.refused(2, []string{"image-pull"}, "IMAGE is missing")
	l.refused(1, []string{"image-list", "-host", "none"}, "Host none could not be found")
	l.refused(1, []string{"image-list", "-bay", "none"}, "Bay none could not be found")
}

// prunes checks that images in use stay, also those of stopped containers, and
// that their containers still run.
func (l *commandLine) prunes() {
	l.runSleeper("naps")
	l.says([]string{"container-create", "--name", "idle", "e2e/piped:1"})
	l.await(l.field("idle", "uuid"), structs.ContainerStopped)
	have := l.images()
	if !have[image].InUse || !have["e2e/piped:1"].InUse || have["e2e/large:1"].InUse || have["e2e/piped:1"].UsedAt.IsZero() {
		l.Errorf("images are %+v", have)
	}
	l.refused(2, []string{"image-prune"}, "give -bay, -host or -all")
	l.refused(1, []string{"image-prune", "-host", "none"}, "Host none could not be found")
	l.says([]string{"image-prune", "-bay", l.bay.Name}, "host-1", "success", "e2e/large:1")
	have = l.images()
	if _, gone := have["e2e/large:1"]; gone || len(have) != 2 {
		l.Errorf("images after a prune are %v", have)
	}
	l.says([]string{"container-delete", "idle"})
	l.says([]string{"image-prune", "-all", "-format", "{{.host}}: {{join .images \",\"}}"}, "host-1: e2e/piped:1\n")
	if have := l.images(); len(have) != 1 {
		l.Errorf("images after a second prune are %v", have)
	}
	l.says([]string{"container-execute", "naps", "true"})
}

func (l *commandLine) volumesOfHost() {
	l.says([]string{"container-run", "-d", "--name", "writes", "-v", "data:/data", image, "sh", "-c",
		"echo kept > /data/a; " + sleepScript})
	l.says([]string{"volume-list"}, "data", "host-1", "writes")
	l.says([]string{"container-rename", "writes", "renamed"})
	l.says([]string{"volume-list", "-name", "data", "-format", "{{.name}} {{join .used_by \",\"}}"}, "data renamed\n")
	l.refused(1, []string{"volume-delete", "data"}, "is used by container renamed", "HTTP 409")
	l.says([]string{"container-stop", "-stop-timeout", "1", "renamed"})
	l.refused(1, []string{"volume-delete", "data"}, "is used by container renamed")
	l.says([]string{"container-delete", "renamed"})
	l.refused(1, []string{"volume-delete", "-host", "none", "data"}, "Host none could not be found")
	l.refused(1, []string{"volume-delete", "-project", structs.NewID(), "data"}, "Volume data could not be found", "HTTP 404")
	l.says([]string{"volume-delete", "data"})
	l.refused(1, []string{"volume-delete", "data"}, "Volume data could not be found", "HTTP 404", "volume-list")
	l.refused(2, []string{"volume-delete"}, "VOLUME is missing")
	if out := l.says([]string{"volume-list", "-json"}); strings.TrimSpace(out) != "[]" {
		l.Errorf("volumes are %s", out)
	}
	// The next volume of the name is empty.
	if r := l.runForeground("-v", "data:/data", image, "cat", "/data/a"); r.code == 0 {
		l.Errorf("a deleted volume still has %q", r.stdout)
	}
	l.says([]string{"volume-delete", "-host", "host-1", "data"})
}

// silentHost checks that a host that does not answer is named, and that lists
// leave it out.
func (l *commandLine) silentHost() {
	l.agent.signal(syscall.SIGSTOP)
	for _, list := range []string{"image-list", "volume-list"} {
		r := l.magnum(list, "-json")
		if r.code != 0 || strings.TrimSpace(r.stdout) != "[]" || !strings.Contains(r.stderr, "Host host-1 is left out: ") {
			l.Errorf("%s of a host that does not answer: %+v", list, r)
		}
	}
	l.refused(1, []string{"volume-delete", "data"}, "host-1", "can't be asked", "HTTP 503")
	l.agent.signal(syscall.SIGCONT)
	l.eventually("the host answers again", time.Minute, func() error {
		if r := l.magnum("image-list", "-host", "host-1"); !strings.Contains(r.stdout, image) {
			return fmt.Errorf("the list is %+v", r)
		}
		return nil
	})
}
