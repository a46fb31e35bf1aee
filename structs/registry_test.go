package structs

import (
	"strings"
	"testing"
)

func TestRegistryOf(t *testing.T) {
	for image, want := range map[string]string{
		"busybox": "docker.io", "busybox:1.2": "docker.io", "library/busybox": "docker.io", "a/b/c:d": "docker.io",
		"docker.io/busybox": "docker.io", "index.docker.io/a/b": "docker.io", "localhost/a": "localhost",
		"localhost:5000/a:b": "localhost:5000",
		"[::1]:5000/a":       "[::1]:5000", "host:5000/a": "host:5000", "Host/a": "host", "quay.io/a/b:c": "quay.io",
		"quay.io:443/a": "quay.io:443",
	} {
		if got := RegistryOf(image); got != want {
			t.Errorf("%s is of %s, want %s", image, got, want)
		}
	}
}

// podOf returns the spec of a pod with an infra image, an init container and containers.
func podOf(infra, first string, images ...string) *PodSpec {
	s := &PodSpec{InfraImage: infra, InitContainers: []PodContainer{{Image: first}}}
	for _, image := range images {
		s.Containers = append(s.Containers, PodContainer{Image: image})
	}
	return s
}

// TestCredentialsOfAPod: only the registry that the credentials are for gets to know them.
func TestCredentialsOfAPod(t *testing.T) {
	same := podOf("", "quay.io/a", "quay.io/b", "QUAY.io/c:1")
	infra := podOf("docker.io/pause", "quay.io/a", "quay.io/b")
	mixed := podOf("", "busybox", "quay.io/b", "quay.io:443/c")
	hub := podOf("docker.io/pause", "busybox", "a/b")
	never := podOf("", "quay.io/a", "busybox")
	never.Containers[0].PullPolicy = PullNever
	for _, c := range []struct {
		pod     *PodSpec
		server  string
		refused string // the registries that the refusal names; "" if the pod isn't refused
		to      string // the images that get the credentials
		not     string // those that don't
	}{
		{same, "", "", "quay.io/a quay.io/b QUAY.io/c:1", ""},
		{same, "quay.io", "", "quay.io/a quay.io/b QUAY.io/c:1", ""},
		{same, "https://Quay.io/v2/", "", "quay.io/a", ""},
		{same, "docker.io", "", "", "quay.io/a quay.io/b QUAY.io/c:1"},
		{infra, "", "quay.io, docker.io", "", "docker.io/pause quay.io/a quay.io/b"},
		{infra, "quay.io", "", "quay.io/a quay.io/b", "docker.io/pause"},
		{mixed, "", "docker.io, quay.io, quay.io:443", "", "busybox quay.io/b quay.io:443/c"},
		{mixed, "quay.io:443", "", "quay.io:443/c", "busybox quay.io/b"},
		{mixed, "https://index.docker.io/v1/", "", "busybox", "quay.io/b quay.io:443/c"},
		{hub, "", "", "docker.io/pause busybox a/b", ""},
		{never, "", "", "quay.io/a", ""},
	} {
		r := &Registry{Username: "u", Password: "secret", Server: c.server}
		for _, image := range strings.Fields(c.to) {
			if c.pod.CredentialsFor(image, r) != r {
				t.Errorf("%s lacks the credentials for %q", image, c.server)
			}
		}
		for _, image := range strings.Fields(c.not) {
			if c.pod.CredentialsFor(image, r) != nil {
				t.Errorf("%s gets the credentials for %q", image, c.server)
			}
		}
		err := c.pod.CheckCredentials(r)
		if c.refused == "" {
			if err != nil {
				t.Errorf("server %q: %v", c.server, err)
			}
			continue
		}
		want := "registry.server is missing: the images name the registries " + c.refused + "; say which one the credentials are for"
		if CodeOf(err) != CodeInvalid || err == nil || err.Error() != want {
			t.Errorf("server %q: %v, want %s", c.server, err, want)
		}
	}
	if mixed.CheckCredentials(nil) != nil || mixed.CredentialsFor("busybox", nil) != nil {
		t.Error("no credentials are refused, or given to an image")
	}
}
