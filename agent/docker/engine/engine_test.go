package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/stackforge/magnum/agent/backend"
)

func TestScopeName(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"default", "a-b", "A.b_c", "", "a b", "-a", "../x", "ü", "a/b", "a:b"} {
		name := ScopeName(id)
		for i := range len(name) {
			if c := name[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
				t.Errorf("ScopeName(%q) is %q, which the engine refuses", id, name)
			}
		}
		if other, dup := seen[name]; dup {
			t.Errorf("projects %q and %q share %q", id, other, name)
		}
		seen[name] = id
	}
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
	}{
		{errors.New("Error response from daemon: driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 " +
			"failed: port is already allocated"), backend.ErrPortTaken},
		{errors.New("listen tcp4 0.0.0.0:80: bind: address already in use"), backend.ErrPortTaken},
		{errors.New("Error response from daemon: failed to update store for object type *libnetwork.endpoint: open : no such file or " +
			"directory"), backend.ErrAway},
		{errdefs.ErrNotFound.WithMessage("Error response from daemon: No such container: x"), backend.ErrNotFound},
		{errdefs.ErrNotFound.WithMessage("Error response from daemon: No such image: x"), backend.ErrNoImage},
		{errdefs.ErrConflict.WithMessage("Error response from daemon: Container x is not running"), backend.ErrNotRunning},
		{errdefs.ErrConflict.WithMessage("Error response from daemon: Container x is paused, unpause the container before exec"),
			backend.ErrNotRunning},
		{errors.New("unable to upgrade to tcp, received 409"), backend.ErrNotRunning},
		{errdefs.ErrConflict.WithMessage("Error response from daemon: Container x is restarting, wait until the container is running"),
			backend.ErrNotRunning},
		{errors.New("Error response from daemon: Cannot mkdir: /etc/passwd is not a directory"), backend.ErrStart},
		{errors.New("Error response from daemon: lstat /var/lib/docker/overlay2/b/merged/etc/x/x: not a directory"), backend.ErrStart},
		{errdefs.ErrInvalidArgument.WithMessage("Error response from daemon: failed to create shim task: OCI runtime create failed: runc " +
			`create failed: unable to start container process: exec: "x": executable file not found in $PATH: unknown`), backend.ErrStart},
		{errors.New("OCI runtime create failed: write x: no space left on device"), backend.ErrNoSpace},
		{errdefs.ErrInvalidArgument.WithMessage("Error response from daemon: Minimum memory limit allowed is 6MB"), backend.ErrInvalid},
	} {
		got := Failure(c.err)
		if !errors.Is(got, c.want) {
			t.Errorf("Failure(%q) is %v, want %v", c.err, got, c.want)
		}
	}
}

// TestHostsTroubleIsNoStartError: a pod that is never restarted must not fail for it.
func TestHostsTroubleIsNoStartError(t *testing.T) {
	for _, text := range []string{
		"OCI runtime create failed: fork/exec x: cannot allocate memory",
		"OCI runtime create failed: read init-p: connection reset by peer",
		"failed to create task for container: context deadline exceeded",
	} {
		if got := Failure(errors.New("Error response from daemon: " + text)); errors.Is(got, backend.ErrStart) {
			t.Errorf("Failure(%q) is %v", text, got)
		}
	}
}

func TestFailureOfKeptTaskNamesWayOut(t *testing.T) {
	const id = "6da742b0e5f3c1d2a4b6978899aabbccddeeff00112233445566778899aabbcc"
	for _, text := range []string{
		"Error response from daemon: task " + id + ": already exists",
		"Error response from daemon: failed to create task for container: task " + id + ": already exists: unknown",
	} {
		cause := errdefs.ErrConflict.WithMessage(text)
		got := Failure(cause)
		if strings.Contains(got.Error(), id) || !strings.Contains(got.Error(), "restart the Docker engine") {
			t.Errorf("Failure(%q) is %q, want the way out and no ID of the engine", text, got)
		}
		if !errors.Is(got, cause) {
			t.Errorf("Failure(%q) has lost its cause, which the log needs", text)
		}
	}
	other := "network task already exists"
	if got := Failure(errors.New(other)); got.Error() != other {
		t.Errorf("Failure(%q) is %q, want the engine's text", other, got)
	}
}

// TestTextsTellNothingOfTheHost: tenants read what the engine says.
func TestTextsTellNothingOfTheHost(t *testing.T) {
	const id = "6da742b0e5f3c1d2a4b6978899aabbccddeeff00112233445566778899aabbcc"
	const oci = "OCI runtime create failed: runc create failed: unable to start container process: "
	for text, want := range map[string]string{
		oci + `error during container init: error mounting "/var/lib/docker/volumes/v/_data" to rootfs at "/etc/passwd": mount ` +
			"/var/lib/docker/volumes/v/_data:/etc/passwd (via /proc/self/fd/6), flags: 0x5000: not a directory: unknown": oci +
			`error during container init: error mounting "the volume" to rootfs at "/etc/passwd": mount the volume:/etc/passwd, ` +
			"flags: 0x5000: not a directory: unknown",
		"lstat /var/lib/docker/overlay2/" + id + "/merged/etc/passwd/x: not a directory":         "lstat /etc/passwd/x: not a directory",
		"lstat /srv/engine/overlay2/" + id + "/merged/etc/passwd/x: not a directory":             "lstat /etc/passwd/x: not a directory",
		`mkdir "/var/lib/docker/overlay2/` + id + `/merged": read-only file system`:              `mkdir "/": read-only file system`,
		"mkdir /run/containerd/io.containerd.runtime.v2.task/moby/" + id + "/rootfs/a: no space": "mkdir /a: no space",
		"stat /srv/engine/volumes/mg-p-v/_data/a: gone":                                          "stat the volume: gone",
		"open /proc/self/fd/7: permission denied":                                                "open <K>: permission denied",
		"closing exec fds: open /proc/thread-self/fd: gone":                                      "closing exec fds: open <K>: gone",
		`write "/sys/fs/cgroup/memory/docker/` + id + `/memory.limit_in_bytes": busy`:            `write "<K>": busy`,
		"register layer: write /srv/engine/tmp/GetImageBlob123: full":                            "register layer: write <E>: full",
		"open /srv/engine/containers/" + id + "/" + id + "-json.log: gone":                       "open <E>: gone",
		"fork/exec /usr/bin/containerd-shim-runc-v2: no memory":                                  "fork/exec <E>: no memory",
		"dial unix /run/docker/plugins/x.sock: refused":                                          "dial unix <E>: refused",
		"open /etc/docker/key.json: denied":                                                      "open <E>: denied",
		// What is the user's own stays.
		oci + `exec: "/app/run.sh": stat /app/run.sh: no such file or directory: unknown`: oci +
			`exec: "/app/run.sh": stat /app/run.sh: no such file or directory: unknown`,
		`chdir to cwd ("/etc/passwd") failed: not a directory`: `chdir to cwd ("/etc/passwd") failed: not a directory`,
		"access denied for me/app/docker":                      "access denied for me/app/docker",
		// The engine's IDs mean nothing to them.
		"Container " + id + " is paused, unpause the container before exec": "the container is paused, unpause the container before exec",
		"No such container: " + id:               "no such container",
		"unable to upgrade to tcp, received 409": "the container's process has just ended, or was paused: try again once it runs",
		"driver failed programming external connectivity on endpoint mg-pod-x-1-_infra-1 (" + id + "): Bind for 0.0.0.0:80 failed: port " +
			"is already allocated": "Bind for 0.0.0.0:80 failed: port is already allocated",
		`Conflict. The container name "/a" is already in use by container "` + id + `".`: `Conflict. The container name "/a" is already ` +
			`in use by the container.`,
		"Container " + id + " is restarting, wait until the container is running": "the container's process has ended and is about to be " +
			"restarted: try again",
		"manifest for app@sha256:" + id + " not found":     "manifest for app@sha256:" + id + " not found",
		"Get https://registry.example/v2/docker/x: broken": "Get https://registry.example/v2/docker/x: broken",
	} {
		err := errdefs.ErrInvalidArgument.WithMessage("Error response from daemon: " + text)
		got := Failure(err)
		want = strings.NewReplacer("<K>", "a file of the kernel", "<E>", "a file of the engine").Replace(want)
		if got.Error() != want {
			t.Errorf("Failure(%q) is\n%q, want\n%q", text, got, want)
		}
		if want != text && !errors.Is(got, err) {
			t.Errorf("Failure(%q) has lost its cause, which the log needs", text)
		}
	}
}
