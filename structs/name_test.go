package structs

import (
	"cmp"
	"strings"
	"testing"
)

// controls are characters that forge lines, control terminals or hide others.
var controls = []string{
	"\n", "\r", "\t", "\x1b", "\a", "\b", "\x00", "\x7f", "\u0085", "\u009b", "\u00ad", "\u061c", "\u180e", "\u200b", "\u200d", "\u200e",
	"\u200f",
	"\u2028", "\u2029", "\u202a", "\u202d", "\u202e", "\u2060", "\u2066", "\u2069", "\ufeff", "\ufff9", "\U000e0001", "\U000e0041",
	"\xff", "\xc0\x80", "\xed\xa0\x80",
}

func TestNamesHaveNoControlCharacters(t *testing.T) {
	for _, c := range controls {
		for _, name := range []string{c, "a" + c, c + "a", "a" + c + "b", strings.Repeat("x", 300) + c} {
			err := CheckName(name)
			if CodeOf(err) != CodeInvalid {
				t.Errorf("the name %q was taken: %v", name, err)
			} else if strings.ContainsFunc(err.Error(), IsControl) {
				t.Errorf("the refusal of %q has the character in it: %q", name, err)
			}
		}
		if err := CheckLabels("labels", map[string]string{"a" + c: ""}); CodeOf(err) != CodeInvalid {
			t.Errorf("the label %q was taken: %v", "a"+c, err)
		}
		if err := CheckLabels("labels", map[string]string{"a": "b" + c}); CodeOf(err) != CodeInvalid && c != "\n" && c != "\t" {
			t.Errorf("a label of value %q was taken: %v", "b"+c, err)
		}
		spec := func(change func(*PrivateSpec)) error {
			s := PrivateSpec{ContainerSpec: ContainerSpec{Image: "busybox", PullPolicy: PullIfNotPresent,
				RestartPolicy: RestartPolicy{Name: RestartNo}}}
			change(&s)
			return cmp.Or(s.ContainerSpec.check(), s.Secrets.check())
		}
		for field, change := range map[string]func(*PrivateSpec){
			"image":       func(s *PrivateSpec) { s.Image = "busy" + c + "box" },
			"user":        func(s *PrivateSpec) { s.User = Text("u" + c) },
			"workdir":     func(s *PrivateSpec) { s.Workdir = Text("/w" + c) },
			"hostname":    func(s *PrivateSpec) { s.Hostname = Text("h" + c) },
			"environment": func(s *PrivateSpec) { s.Environment = map[string]string{"K" + c: "v"} },
			"constraints": func(s *PrivateSpec) { s.Constraints = map[string]string{"K" + c: "v"} },
			"registry":    func(s *PrivateSpec) { s.Registry = &Registry{Username: "u" + c, Password: "p"} },
		} {
			if err := spec(change); CodeOf(err) != CodeInvalid {
				t.Errorf("%s with %q in it was taken: %v", field, c, err)
			}
		}
	}
	for _, name := range []string{"web-1", "a b/c", "ü中", "naïve café", "🐳", "a\u00a0b", "Ω'\"<>&%$", "\u3000"} {
		if err := CheckName(name); err != nil {
			t.Errorf("the name %q was refused: %v", name, err)
		}
	}
}
