package backend

import "testing"

func TestSameImage(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"busybox", "busybox:latest", true},
		{"busybox", "docker.io/library/busybox", true},
		{"index.docker.io/library/busybox:1", "busybox:1", true},
		{"docker.io/me/x", "me/x:latest", true},
		{"127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", true},
		{"x@sha256:00", "x@sha256:00", true},
		{"busybox", "busybox:1", false},
		{"me/x", "x", false},
		{"127.0.0.1:5000/x", "x", false},
		{"x@sha256:00", "x", false},
	} {
		if got := SameImage(c.a, c.b); got != c.want || SameImage(c.b, c.a) != got {
			t.Errorf("SameImage(%q, %q) is %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
