// Package hostports says which ports of hosts a caller may ask for: those that the operator
// leaves to projects, and none of magnum's own. Operators may ask for any port.
//
// server/service calls it for each spec before the conductor decides about it. It knows
// neither hosts nor which ports are in use.
package hostports

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// Default are the ports that projects may ask for unless the operator says otherwise.
const Default = "1024-65535"

// span is a range of ports, both ends included.
type span struct{ first, last int }

func (s span) String() string {
	if s.first == s.last {
		return strconv.Itoa(s.first)
	}
	return fmt.Sprintf("%d-%d", s.first, s.last)
}

// Rule is which ports of hosts the members of projects may ask for. The zero value allows
// all of Default.
type Rule struct {
	allowed []span // in the operator's order; nil means Default
	own     []int  // ports of magnum itself, which no project gets
}

// maxSpans bounds the ranges of a rule.
const maxSpans = 64

// Parse reads ranges of ports, such as "1024-9999,20000-29999"; "" means Default. own are
// magnum's own ports; those that aren't positive are left out. Errors are CodeInvalid.
func Parse(text string, own ...int) (Rule, error) {
	if text == "" {
		text = Default
	}
	var r Rule
	for part := range strings.SplitSeq(text, ",") {
		s, ok := parseSpan(part)
		switch {
		case !ok:
			return Rule{}, structs.Errorf(structs.CodeInvalid, "%.64q is not a port or a range of ports within 1-65535, such as %s", part,
				Default)
		case len(r.allowed) == maxSpans:
			return Rule{}, structs.Errorf(structs.CodeInvalid, "more than %d ranges", maxSpans)
		}
		r.allowed = append(r.allowed, s)
	}
	for _, p := range own {
		if p > 0 && !slices.Contains(r.own, p) {
			r.own = append(r.own, p)
		}
	}
	slices.Sort(r.own)
	return r, nil
}

func parseSpan(text string) (span, bool) {
	first, last, isRange := strings.Cut(strings.TrimSpace(text), "-")
	if !isRange {
		last = first
	}
	var s span
	var err1, err2 error
	s.first, err1 = strconv.Atoi(first)
	s.last, err2 = strconv.Atoi(last)
	return s, err1 == nil && err2 == nil && s.first >= 1 && s.first <= s.last && s.last <= 65535
}

// String returns the ranges, as Parse reads them.
func (r Rule) String() string {
	if len(r.allowed) == 0 {
		return Default
	}
	var all []string
	for _, s := range r.allowed {
		all = append(all, s.String())
	}
	return strings.Join(all, ",")
}

// allows reports whether members of projects may ask for the port.
func (r Rule) allows(port int) bool {
	if len(r.allowed) == 0 {
		r.allowed = []span{{1024, 65535}}
	}
	return !slices.Contains(r.own, port) &&
		slices.ContainsFunc(r.allowed, func(s span) bool { return s.first <= port && port <= s.last })
}

// check refuses the port that the field asks for; 0 asks for none in particular.
func (r Rule) check(caller structs.Caller, field string, port int) error {
	if port == 0 || caller.Is(structs.RoleAdmin) || r.allows(port) {
		return nil
	}
	if slices.Contains(r.own, port) {
		return structs.Errorf(structs.CodeInvalid, "%s %d is a port of magnum itself; choose another one of %s", field, port, r)
	}
	return structs.Errorf(structs.CodeInvalid, "%s %d not in %s, the ports of hosts that projects may ask for", field, port, r)
}

// Container refuses ports that the caller may not ask for in a container's spec. Errors are
// CodeInvalid and name the field.
func (r Rule) Container(caller structs.Caller, spec *structs.ContainerSpec) error {
	for i, p := range spec.Ports {
		if err := r.check(caller, fmt.Sprintf("ports[%d].host_port", i), p.HostPort); err != nil {
			return err
		}
	}
	return nil
}

// Pod refuses ports that the caller may not ask for in a pod's spec, whose fields begin at
// the path of a manifest such as "spec". Errors are CodeInvalid and name the field.
func (r Rule) Pod(caller structs.Caller, path string, spec *structs.PodSpec) error {
	for name, list := range map[string][]structs.PodContainer{"containers": spec.Containers, "initContainers": spec.InitContainers} {
		for i := range list {
			for j, p := range list[i].Ports {
				if err := r.check(caller, fmt.Sprintf("%s.%s[%d].ports[%d].hostPort", path, name, i, j), p.HostPort); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
