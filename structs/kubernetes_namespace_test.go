package structs

import (
	"fmt"
	"strings"
	"testing"
)

func TestKubernetesNamespace(t *testing.T) {
	seen := map[string]string{}
	for project, want := range map[string]string{
		"p1":                               "magnum-p1",
		"0a1b2c3d4e5f60718293a4b5c6d7e8f9": "magnum-0a1b2c3d4e5f60718293a4b5c6d7e8f9",
		strings.Repeat("a", 56):            "magnum-" + strings.Repeat("a", 56),
		"a-b":                              "magnum-a-b",
		strings.Repeat("a", 57):            "",
		"":                                 "",
		"P1":                               "",
		"a_b":                              "",
		"a-":                               "",
		"a.b":                              "",
		"ä":                                "",
	} {
		got := KubernetesNamespace(project)
		if want == "" {
			hash, ok := strings.CutPrefix(got, "magnum-")
			if !ok || len(hash) != 32 {
				t.Errorf("the namespace of %q is %q, which has no hash", project, got)
			}
		} else if got != want {
			t.Errorf("the namespace of %q is %q, want %q", project, got, want)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have the same namespace", project, other)
		}
		seen[got] = project
	}
}

func TestCredentialIsHidden(t *testing.T) {
	body := BayCredentialBody{Token: "very-secret"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{body, &body} {
			if got := fmt.Sprintf(format, v); strings.Contains(got, "very-secret") {
				t.Errorf("%s shows %s", format, got)
			}
		}
	}
}
