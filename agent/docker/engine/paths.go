package engine

import (
	"regexp"
	"strings"
)

// The errors of the engine and of its runtime name files of the host. They reach tenants, as
// reasons of a status and in sessions, and a tenant is told nothing about the host. So each
// text of the engine goes through HidePaths.

// notPath ends a path in a text.
const notPath = `[^\s"':,;()\]]*`

const engineFile = "a file of the engine"

// hostPaths are the paths of the host in the engine's texts, and what is said instead.
var hostPaths = []struct {
	path *regexp.Regexp
	says string
}{
	// The root of a container: what follows is a path in the container.
	{regexp.MustCompile(`/` + notPath + `/(?:merged|rootfs|mnt/[0-9a-f]{32,64})(/` + notPath + `)`), "$1"},
	{regexp.MustCompile(`/` + notPath + `/(?:merged|rootfs|mnt/[0-9a-f]{32,64})\b`), "/"},
	{regexp.MustCompile(`/` + notPath + `/volumes/` + notPath + `/_data\b` + notPath), "the volume"},
	{regexp.MustCompile(` ?\(via /proc/[^)]*\)`), ""},
	{regexp.MustCompile(`/(?:proc/(?:self|thread-self|[0-9]+)|sys/fs/cgroup)\b` + notPath), "a file of the kernel"},
	{regexp.MustCompile(`/(?:var/lib|var/run|run|run/user/[0-9]+|(?:usr/|usr/local/)?s?bin|usr/libexec|etc)/(?:docker|containerd|runc)\b` +
		notPath), engineFile},
	// Of an engine with another root directory.
	{regexp.MustCompile(`/` + notPath + `/(?:overlay2|image/[a-z0-9-]+|buildkit|io\.containerd\.[a-z0-9.-]+)/` + notPath), engineFile},
	{regexp.MustCompile(`/` + notPath + `/(?:containers/[0-9a-f]{64}|tmp/(?:GetImageBlob|docker-))` + notPath), engineFile},
}

// engineIDs are the engine's names for a container in its texts, and what is said instead.
// A user knows neither the engine nor its IDs.
var engineIDs = []struct {
	id   *regexp.Regexp
	says string
}{
	{regexp.MustCompile(`\bdriver failed programming external connectivity on endpoint \S+ \([0-9a-f]{64}\): `), ""},
	{regexp.MustCompile(`\b[Nn]o such container: [0-9a-f]{64}\b`), "no such container"},
	{regexp.MustCompile(`\b[Cc]ontainer "?[0-9a-f]{64}\b"?`), "the container"},
}

// hideHost takes the IDs of the engine and the paths of the host out of a text of the engine.
func hideHost(text string) string {
	for _, e := range engineIDs {
		text = e.id.ReplaceAllString(text, e.says)
	}
	return HidePaths(text)
}

// HidePaths takes the paths of the host out of a text of the engine.
func HidePaths(text string) string {
	if !strings.Contains(text, "/") {
		return text
	}
	for _, p := range hostPaths {
		text = p.path.ReplaceAllString(text, p.says)
	}
	return text
}
