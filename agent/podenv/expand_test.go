package podenv

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{
		"A": "a", "B": "$(A)", "EMPTY": "", "A_B.C-1": "dots", "ä": "umlaut", "$": "dollar", "A$(A": "inner", "": "unnamed",
	}
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"$(A)", "a"},
		{"x$(A)y$(A)z", "xayaz"},
		{"$(B)", "$(A)"}, // values are not expanded again
		{"[$(EMPTY)]", "[]"},
		{"$(A_B.C-1)", "dots"},
		{"$(ä)", "umlaut"},
		{"$(NONE)", "$(NONE)"},
		{"$(a)", "$(a)"},
		{"$( A )", "$( A )"},
		{"$()", "unnamed"},
		{"$$(A)", "$(A)"},
		{"$$$(A)", "$a"},
		{"$$$$(A)", "$$(A)"},
		{"$", "$"},
		{"$$", "$"},
		{"$$$", "$$"},
		{"$A", "$A"},
		{"${A}", "${A}"},
		{"cost: 5$", "cost: 5$"},
		{"$(", "$("},
		{"$(A", "$(A"},
		{"$(A$(A)", "inner"}, // a name ends with the first )
		{"$(A$(A))", "inner)"},
		{"$($)", "dollar"},
		{"$x$(A)", "$xa"},
		{"$é$(A)", "$éa"},
		{"\xff$(A)\xff", "\xffa\xff"},
	} {
		if got, err := Expand(c.in, vars, 1000); err != nil || got != c.want {
			t.Errorf("Expand(%q) is %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestExpandRefusesWhatGetsTooLong(t *testing.T) {
	vars := map[string]string{"A": strings.Repeat("a", 100)}
	if _, err := Expand("$(A)$(A)", vars, 200); err != nil {
		t.Errorf("200 bytes: %v", err)
	}
	for _, text := range []string{"$(A)$(A).", ".$(A)$(A)", strings.Repeat("$(A)", 1000), strings.Repeat("x", 201)} {
		if got, err := Expand(text, vars, 200); structs.CodeOf(err) != structs.CodeInvalid || got != "" {
			t.Errorf("Expand(%.20q...) is %.20q, %v", text, got, err)
		}
	}
}

// references are what Expand acts on, in another notation.
var references = regexp.MustCompile(`(?s)\$(?:\$|\([^)]*\))`)

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"", "$(A)", "$$(A)", "$(A", "$(A$(B))", "$($$)", "a$b$(B)$", "$(\xff)\xff", "$\n(A)$(\n)"} {
		f.Add(seed, "A", "value $(B)")
	}
	f.Fuzz(func(t *testing.T, text, name, value string) {
		vars := map[string]string{name: value, "B": "$$b"}
		want := references.ReplaceAllStringFunc(text, func(ref string) string {
			if ref == "$$" {
				return "$"
			}
			if v, ok := vars[ref[2:len(ref)-1]]; ok {
				return v
			}
			return ref
		})
		got, err := Expand(text, vars, len(want))
		if err != nil || got != want {
			t.Fatalf("Expand(%q) with %q is %q, %v; want %q", text, vars, got, err, want)
		}
		if len(want) > 0 {
			if _, err := Expand(text, vars, len(want)-1); structs.CodeOf(err) != structs.CodeInvalid {
				t.Errorf("a limit below the result's length: %v", err)
			}
		}
	})
}
