package structs

import (
	"strings"
	"testing"
)

func TestCheckImage(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for _, good := range []string{
		"a", "busybox", "busybox:latest", "busybox:v1.0_x-Y", "library/busybox", "a/b/c:d", "a__b.c--d/e", "docker.io/busybox",
		"quay.io/a/b:c",
		"localhost/a", "localhost:5000/a:b", "127.0.0.1:5000/a", "[::1]:5000/a", "host:5000/a", "Host/a", "busybox@sha256:" + hex,
		"host:1/a:b@sha256:" + hex,
		"sha256:" + hex, hex, hex[:12], strings.Repeat("a", 247), "a:" + strings.Repeat("t", 128),
	} {
		if err := CheckImage(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "UPPER", "UPPER:tag:tag", "a:b:c", "a:", ":a", "a@", "@sha256:" + hex, "a@sha256:" + hex[1:], "a@md5:" + hex[:32], "a//b",
		"/a", "a/", "a/B", "-a", "a-", "a..b", "a___b",
		"host:port/a", "a:-b", "a:" + strings.Repeat("t", 129), "ü", "a b", "a\n", "a\x00", "http://a/b", "a?b", "[x]/a",
		strings.Repeat("a", 248), "a.b/" + strings.Repeat("a", 256),
	} {
		if err := CheckImage(bad); CodeOf(err) != CodeInvalid || err == nil || !strings.Contains(err.Error(), "image_id") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzPlainImage checks that every reference that plainImage accepts is valid.
func FuzzPlainImage(f *testing.F) {
	for _, s := range []string{"a", "busybox:latest", "a/b/c:d", "a__b", "a..b", "a.-b", "localhost/a", "a:b:c", "a:", "a:.b", "a:B_.-",
		"-a", "a/", "host:5000/a", "a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if plainImage(s) && (!imageReference.MatchString(s) || CheckText("image_id", s, MaxText) != nil) {
			t.Errorf("%q", s)
		}
	})
}

func BenchmarkCheckImage(b *testing.B) {
	for b.Loop() {
		if err := CheckImage("nginx:1.27"); err != nil {
			b.Fatal(err)
		}
	}
}
