package identity

import (
	"fmt"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// Limits of a rule.
const (
	maxRuleText  = 1024 // bytes
	maxRuleDepth = 32   // of parentheses and not
)

// rule is a parsed rule, in the language of OpenStack's policies. It reports whether the
// caller may; named are the rules by name.
type rule interface {
	allows(caller *structs.Caller, named map[string]rule) bool
	// refers calls f with each name that the rule itself refers to.
	refers(f func(name string))
}

type (
	constant  bool              // "@" and "!"
	ofRole    structs.Role      // "role:NAME"
	ofAdmin   bool              // "is_admin:True", "is_admin:False"
	reference string            // "rule:NAME"
	negation  struct{ of rule } // "not RULE"
	allOf     []rule            // "RULE and RULE"
	anyOf     []rule            // "RULE or RULE"
)

func (r constant) allows(*structs.Caller, map[string]rule) bool   { return bool(r) }
func (r ofRole) allows(c *structs.Caller, _ map[string]rule) bool { return c.Is(structs.Role(r)) }
func (r ofAdmin) allows(c *structs.Caller, _ map[string]rule) bool {
	return c.Is(structs.RoleAdmin) == bool(r)
}
func (r reference) allows(c *structs.Caller, n map[string]rule) bool {
	return n[string(r)].allows(c, n)
}
func (r negation) allows(c *structs.Caller, n map[string]rule) bool { return !r.of.allows(c, n) }

func (r allOf) allows(c *structs.Caller, n map[string]rule) bool {
	for _, part := range r {
		if !part.allows(c, n) {
			return false
		}
	}
	return true
}

func (r anyOf) allows(c *structs.Caller, n map[string]rule) bool {
	for _, part := range r {
		if part.allows(c, n) {
			return true
		}
	}
	return false
}

func (constant) refers(func(string))      {}
func (ofRole) refers(func(string))        {}
func (ofAdmin) refers(func(string))       {}
func (r reference) refers(f func(string)) { f(string(r)) }
func (r negation) refers(f func(string))  { r.of.refers(f) }

func (r allOf) refers(f func(string)) {
	for _, part := range r {
		part.refers(f)
	}
}

func (r anyOf) refers(f func(string)) {
	for _, part := range r {
		part.refers(f)
	}
}

// parseRule parses the text of a rule.
func parseRule(text string) (rule, error) {
	if len(text) > maxRuleText {
		return nil, fmt.Errorf("the rule is longer than %d bytes", maxRuleText)
	}
	words, err := ruleWords(text)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return constant(true), nil // as OpenStack does
	}
	p := &ruleParser{words: words}
	r, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	if len(p.words) > 0 {
		return nil, fmt.Errorf("%.64q is too much: \"and\" or \"or\" is missing before it", p.words[0])
	}
	return r, nil
}

// ruleWords splits the text of a rule at spaces and parentheses.
func ruleWords(text string) ([]string, error) {
	var words []string
	for _, field := range strings.Fields(text) {
		for field != "" {
			at := strings.IndexAny(field, "()")
			switch at {
			case 0:
				words, field = append(words, field[:1]), field[1:]
			case -1:
				words, field = append(words, field), ""
			default:
				words, field = append(words, field[:at]), field[at:]
			}
		}
	}
	for _, w := range words {
		if strings.ContainsAny(w, "'\"%[]{},") {
			return nil, fmt.Errorf("%.64q is not a check: quotes, lists and %%(...)s are not supported", w)
		}
	}
	return words, nil
}

// ruleParser parses the words of a rule. "not" binds closer than "and", and that closer
// than "or".
type ruleParser struct {
	words []string // that are left
	depth int
}

// next takes the next word if it is the given one.
func (p *ruleParser) next(word string) bool {
	if len(p.words) == 0 || !strings.EqualFold(p.words[0], word) {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *ruleParser) alternatives() (rule, error) {
	var all anyOf
	for {
		r, err := p.conditions()
		if err != nil {
			return nil, err
		}
		if all = append(all, r); !p.next("or") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *ruleParser) conditions() (rule, error) {
	var all allOf
	for {
		r, err := p.condition()
		if err != nil {
			return nil, err
		}
		if all = append(all, r); !p.next("and") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *ruleParser) condition() (rule, error) {
	if p.depth++; p.depth > maxRuleDepth {
		return nil, fmt.Errorf("the rule is nested more than %d deep", maxRuleDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case len(p.words) == 0:
		return nil, fmt.Errorf("the rule ends where a check such as role:admin is expected")
	case p.next("not"):
		of, err := p.condition()
		if err != nil {
			return nil, err
		}
		return negation{of}, nil
	case p.next("("):
		of, err := p.alternatives()
		if err != nil {
			return nil, err
		}
		if !p.next(")") {
			return nil, fmt.Errorf("a closing parenthesis is missing")
		}
		return of, nil
	}
	word := p.words[0]
	p.words = p.words[1:]
	return parseCheck(word)
}

// parseCheck parses one check.
func parseCheck(word string) (rule, error) {
	kind, what, ok := strings.Cut(word, ":")
	switch {
	case word == "@":
		return constant(true), nil
	case word == "!":
		return constant(false), nil
	case !ok || what == "":
		return nil, fmt.Errorf("%.64q is not a check: there are role:NAME, rule:NAME, is_admin:True, @ (always) and ! (never), "+
			"with and, or, not and parentheses", word)
	case kind == "role":
		return ofRole(strings.ToLower(what)), nil
	case kind == "rule":
		return reference(what), nil
	case kind == "is_admin" && (strings.EqualFold(what, "true") || what == "1"):
		return ofAdmin(true), nil
	case kind == "is_admin" && (strings.EqualFold(what, "false") || what == "0"):
		return ofAdmin(false), nil
	case kind == "project_id", kind == "user_id", kind == "tenant", kind == "tenant_id":
		return nil, fmt.Errorf("%.64q is not supported: objects of other projects are hidden before a rule is asked", word)
	}
	return nil, fmt.Errorf("%.64q is not a check: there are role:NAME, rule:NAME, is_admin:True, @ (always) and ! (never)", word)
}
