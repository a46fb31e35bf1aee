package command

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDatapathArguments: what isn't a data directory of an agent is refused, also when there
// is something to stop.
func TestDatapathArguments(t *testing.T) {
	empty := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
	}{
		{nil, exitUsage}, {[]string{"-dir"}, exitUsage}, {[]string{"-dir", ""}, exitUsage}, {[]string{"-dir", empty, "-x"}, exitUsage},
		{[]string{"-stop", "-dir", empty}, exitUsage}, {[]string{"-dir", empty, "-stop"}, exitFailure},
		{[]string{"-dir", filepath.Join(empty, "none"), "-stop"}, exitFailure},
	} {
		if code := runDatapath(c.args); code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("it has made %v, %v", left, err)
	}
}
