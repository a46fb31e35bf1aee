package images

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/stackforge/magnum/structs"
)

// FuzzCheckImage compares the servers' check of an image's name with the engine's.
func FuzzCheckImage(f *testing.F) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{
		"a", "UPPER:tag:tag", "UPPER/a", "a/B", "localhost/a", "docker.io/a", "index.docker.io/a:b", "a__b.c/d",
		"x:80/y:z", "[::1]:5000/x", "a@sha256:" + hex, "a:b@sha512:" + hex + hex,
		hex, "a@md5:" + hex[:32], "a..b", "a/b/../c", strings.Repeat("a", 248), "x/" + strings.Repeat("a", 254), "x.y/" +
			strings.Repeat("a", 255),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := reference.ParseAnyReference(s)
		if _, byID := ref.(reference.Digested); byID && err == nil && len(s) == len(hex) {
			return // the engine accepts an image's ID, which is not a name
		}
		if len(s) <= structs.MaxText && (err == nil) != (structs.CheckImage(s) == nil) {
			t.Errorf("%q: the engine says %v, the servers %v", s, err, structs.CheckImage(s))
		}
	})
}
