package hostports

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

var member, operator = structs.Caller{Roles: []structs.Role{structs.RoleMember}}, structs.Caller{Roles: []structs.Role{structs.RoleAdmin}}

func TestPorts(t *testing.T) {
	for _, c := range []struct {
		rule    string
		port    int
		refused string // what the refusal has to mention; "" means none
	}{
		{"", 0, ""}, {"", 1024, ""}, {"", 65535, ""}, {"", 8080, ""},
		{"", 22, "22 not in 1024-65535"}, {"", 1023, "1023 not in"}, {"", 9511, "9511 is a port of magnum"},
		{"8000-8999,20000", 8000, ""}, {"8000-8999,20000", 20000, ""}, {"8000-8999,20000", 20001, "not in 8000-8999,20000"},
		{"80, 443", 80, ""}, {"9000-9999", 9511, "is a port of magnum itself"},
	} {
		r, err := Parse(c.rule, 9511, -1, 0)
		if err != nil {
			t.Fatalf("%q is refused: %v", c.rule, err)
		}
		spec := structs.ContainerSpec{Ports: []structs.Port{{ContainerPort: 80, HostPort: c.port}}}
		pod := structs.PodSpec{Containers: []structs.PodContainer{{Ports: []structs.PodPort{{Port: spec.Ports[0]}}}}}
		for field, err := range map[string]error{
			"ports[0].host_port": r.Container(member, &spec), "spec.containers[0].ports[0].hostPort": r.Pod(member, "spec", &pod),
		} {
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("port %d is refused under %q: %v", c.port, c.rule, err)
			case c.refused == "":
			case structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), c.refused) ||
				!strings.Contains(err.Error(), field):
				t.Errorf("port %d under %q gives %v, want %q of %s", c.port, c.rule, err, c.refused, field)
			}
		}
		if err := r.Container(operator, &spec); err != nil {
			t.Errorf("an operator is refused port %d: %v", c.port, err)
		}
	}
	if err := (Rule{}).Container(member, &structs.ContainerSpec{Ports: []structs.Port{{HostPort: 22}}}); err == nil {
		t.Error("the zero rule allows port 22")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{",", "0-5", "x", "5-4", "1-65536", "1-2-3", "-1", "80,", strings.Repeat("1,", maxSpans) + "1"} {
		if r, err := Parse(text); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%q is read as %v, %v", text, r, err)
		}
	}
}

// FuzzParse: what a rule prints is read as the same rule.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "1-2", "80,443", "1024-65535", "7-7", " 1 , 2-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q is %s, which is read as %s, %v", text, r, again, err)
		}
		for _, p := range []int{0, -1, 65536} {
			if r.allows(p) {
				t.Errorf("%q allows port %d", text, p)
			}
		}
	})
}
