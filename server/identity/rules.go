package identity

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.yaml.in/yaml/v3"

	"github.com/stackforge/magnum/structs"
)

// Limits of a policy file.
const (
	maxPolicyFile = 256 << 10 // bytes
	maxPolicy     = 1024      // rules
)

// Rules are the rules of all actions. They don't change.
type Rules struct {
	actions map[Action]rule
	named   map[string]rule
	texts   map[string]string // by the name of an action or a rule
	changed int               // rules of the file
}

// DefaultRules returns the rules without a file.
var DefaultRules = sync.OnceValue(func() *Rules {
	r, err := newRules(nil)
	if err != nil {
		panic(err) // a test parses them
	}
	return r
})

// Allows reports whether the caller may do the action.
func (r *Rules) Allows(caller *structs.Caller, action string) bool {
	of := r.actions[Action(action)]
	return of != nil && of.allows(caller, r.named)
}

// Rule returns the text of the action's rule, with the named rules that it refers to by
// name; "" for an action without one.
func (r *Rules) Rule(action string) string {
	if _, ok := r.actions[Action(action)]; !ok {
		return ""
	}
	text := r.texts[action]
	if name, ok := strings.CutPrefix(text, "rule:"); ok && r.texts[name] != "" {
		text = r.texts[name]
	}
	return text
}

// All returns the text of every rule, by the name of its action or its own.
func (r *Rules) All() map[string]string { return maps.Clone(r.texts) }

// override is a rule of a file.
type override struct {
	name, text string
	line       int
}

// newRules returns the default rules with overrides. Errors name the line.
func newRules(overrides []override) (*Rules, error) {
	r := &Rules{actions: make(map[Action]rule), named: make(map[string]rule), texts: make(map[string]string), changed: len(overrides)}
	for name, text := range named {
		r.texts[name] = text
	}
	for action, text := range defaults {
		r.texts[string(action)] = text
	}
	lines := make(map[string]int, len(overrides))
	for _, o := range overrides {
		if lines[o.name] != 0 {
			return nil, fmt.Errorf("line %d: %q is there twice, first in line %d", o.line, o.name, lines[o.name])
		}
		if _, isAction := defaults[Action(o.name)]; !isAction && strings.Contains(o.name, ":") {
			return nil, fmt.Errorf("line %d: there is no action %.64q%s", o.line, o.name, suggestion(o.name))
		}
		if err := checkRuleName(o.name); err != nil {
			return nil, fmt.Errorf("line %d: %w", o.line, err)
		}
		lines[o.name], r.texts[o.name] = o.line, o.text
	}
	for name, text := range r.texts {
		parsed, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", lines[name], name, err)
		}
		if _, isAction := defaults[Action(name)]; isAction {
			r.actions[Action(name)] = parsed
		} else {
			r.named[name] = parsed
		}
	}
	return r, r.checkReferences(lines)
}

// checkRuleName refuses a name that no rule can refer to.
func checkRuleName(name string) error {
	if name == "" || len(name) > structs.MaxName || strings.ContainsAny(name, " \t\r\n()'\"%[]{},") {
		return fmt.Errorf("%.64q can't be the name of a rule", name)
	}
	return nil
}

// suggestion returns which actions a wrong name may mean.
func suggestion(name string) string {
	noun, _, _ := strings.Cut(name, ":")
	var known []string
	for action := range defaults {
		if of, _, _ := strings.Cut(string(action), ":"); of == noun {
			known = append(known, string(action))
		}
	}
	if len(known) == 0 {
		nouns := map[string]bool{}
		for action := range defaults {
			of, _, _ := strings.Cut(string(action), ":")
			nouns[of] = true
		}
		return ": actions are of " + strings.Join(slices.Sorted(maps.Keys(nouns)), ", ")
	}
	slices.Sort(known)
	return ": known are " + strings.Join(known, ", ")
}

// maxRuleCost bounds the checks of one rule, with those of the rules that it refers to.
const maxRuleCost = 4096

// checkReferences refuses rules that refer to rules that don't exist, in circles, or to
// too many, and named rules of a file that nothing refers to.
func (r *Rules) checkReferences(lines map[string]int) error {
	used := map[string]bool{}
	costs := map[string]int{} // of named rules that were checked; -1 while one is
	var check func(from string, of rule) (int, error)
	check = func(from string, of rule) (total int, failed error) {
		total = 1
		of.refers(func(name string) {
			used[name] = true
			cost, known := costs[name]
			switch target := r.named[name]; {
			case failed != nil:
			case target == nil:
				failed = fmt.Errorf("line %d: %q: there is no rule %.64q: known are %s", lines[from], from, name,
					strings.Join(slices.Sorted(maps.Keys(r.named)), ", "))
			case known && cost < 0:
				failed = fmt.Errorf("line %d: %q: rule:%s refers to itself", lines[from], from, name)
			case !known:
				costs[name] = -1
				if cost, failed = check(name, target); failed == nil {
					costs[name] = cost
				}
			}
			total = min(total+cost, maxRuleCost+1)
		})
		if failed == nil && total > maxRuleCost {
			failed = fmt.Errorf("line %d: %q refers to more than %d rules", lines[from], from, maxRuleCost)
		}
		return total, failed
	}
	for _, action := range slices.Sorted(maps.Keys(r.actions)) {
		if _, err := check(string(action), r.actions[action]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.named)) {
		if _, err := check(name, r.named[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		if _, isDefault := named[name]; r.named[name] != nil && !isDefault && !used[name] {
			return fmt.Errorf("line %d: %q is no action, and no rule refers to it%s", lines[name], name, suggestion(name))
		}
	}
	return nil
}

// ParseRules reads a policy file: a mapping of actions and names to rules, in YAML or
// JSON. Errors name the line.
func ParseRules(text []byte) (*Rules, error) {
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxPolicyFile)
	}
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 1 && doc.Content[0].Tag == "!!null" {
		return newRules(nil) // a file of comments only
	}
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file has more than one document")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: the file is not a mapping such as \"bay:create\": \"role:admin\"", max(doc.Line, 1))
	}
	content := doc.Content[0].Content
	if len(content) > 2*maxPolicy {
		return nil, fmt.Errorf("the file has more than %d rules", maxPolicy)
	}
	var overrides []override
	for i := 0; i+1 < len(content); i += 2 {
		name, text := content[i], content[i+1]
		if name.Kind != yaml.ScalarNode || text.Kind != yaml.ScalarNode || text.Tag != "!!str" {
			return nil, fmt.Errorf("line %d: the rule of %.64q is not a string such as \"role:admin\"",
				cmp.Or(text.Line, name.Line), name.Value)
		}
		overrides = append(overrides, override{name: name.Value, text: text.Value, line: name.Line})
	}
	return newRules(overrides)
}

// Policy holds the rules that are in force. It is safe for concurrent use.
type Policy struct {
	path  string // "" if there is no file
	rules atomic.Pointer[Rules]
}

// OpenPolicy reads a policy file; "" means the default rules. CodeInvalid.
func OpenPolicy(path string) (*Policy, error) {
	p := &Policy{path: path}
	p.rules.Store(DefaultRules())
	return p, p.Reload()
}

// Reload reads the file again. After an error the old rules stay in force. CodeInvalid.
func (p *Policy) Reload() error {
	if p.path == "" {
		return nil
	}
	f, err := os.Open(p.path)
	if err != nil {
		return structs.Errorf(structs.CodeInvalid, "-policy-file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err != nil {
		return structs.Errorf(structs.CodeInvalid, "-policy-file: %w", err)
	}
	rules, err := ParseRules(text)
	if err != nil {
		return structs.Errorf(structs.CodeInvalid, "-policy-file: %s: %v", p.path, err)
	}
	p.rules.Store(rules)
	return nil
}

// Rules returns the rules that are in force.
func (p *Policy) Rules() *Rules { return p.rules.Load() }

// Changed returns how many rules the file has.
func (p *Policy) Changed() int { return p.Rules().changed }
