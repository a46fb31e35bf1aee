package networks

import (
	"errors"
	"testing"
)

func TestIsMissing(t *testing.T) {
	for text, want := range map[string]bool{
		"Error response from daemon: network mg-c-p not found":                   true,
		"could not find a network matching network mode: network x not found":    true,
		"Error response from daemon: network mg-c-p is ambiguous (2 matches)":    true,
		"Error response from daemon: No such container: x":                       false,
		"Error response from daemon: driver failed programming external network": false,
	} {
		if got := IsMissing(errors.New(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if IsMissing(nil) {
		t.Error("no error lacks a network")
	}
}

// TestProjectsHaveNetworksOfTheirOwn: also two projects with one ID in two clusters.
func TestProjectsHaveNetworksOfTheirOwn(t *testing.T) {
	seen := make(map[string]Key)
	for _, k := range []Key{{"c1", "p"}, {"c2", "p"}, {"c1", "q"}, {"c1", "p/q"}, {"c1", ""}} {
		name := Name(k)
		if other, dup := seen[name]; dup {
			t.Errorf("%v and %v share %s", k, other, name)
		}
		seen[name] = k
	}
}
