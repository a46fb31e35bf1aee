package identity

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func as(roles ...structs.Role) *structs.Caller { return &structs.Caller{Roles: roles} }

func TestRules(t *testing.T) {
	for text, want := range map[string]string{ // callers by role: reader, member, admin, auditor, none
		"":                                     "ramun",
		"@":                                    "ramun",
		"!":                                    "",
		"role:admin":                           "a",
		"role:ADMIN":                           "a",
		"rule:admin":                           "a",
		"rule:member":                          "am",
		"rule:reader":                          "ram",
		"is_admin:True":                        "a",
		"is_admin:False":                       "rmun",
		"not role:admin":                       "rmun",
		"not (role:admin or role:member)":      "run",
		"not role:admin and role:reader":       "r",
		"role:auditor or role:reader":          "ru",
		"role:reader and role:auditor":         "",
		"role:reader or role:member and !":     "r",
		"(role:reader or role:member) and !":   "",
		"NOT role:reader AND NOT role:auditor": "amn",
		"not not role:admin":                   "a",
	} {
		rules, err := ParseRules([]byte(fmt.Sprintf("\"bay:create\": %q\n", text)))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got := ""
		for letter, role := range map[string]structs.Role{"r": "reader", "m": "member", "a": "admin", "u": "auditor", "n": ""} {
			if rules.Allows(as(role), "bay:create") {
				got += letter
			}
		}
		if sorted := func(s string) string { b := []byte(s); slices.Sort(b); return string(b) }; sorted(got) != sorted(want) {
			t.Errorf("%q allows %q, want %q", text, got, want)
		}
	}
}

func TestPolicyFileOverrides(t *testing.T) {
	for name, text := range map[string]string{
		"yaml": "# bays are the operators'\nbay:create: rule:operators\n\"operators\": \"role:admin or role:cloud\"\nmember: role:user\n",
		"json": `{"bay:create": "rule:operators", "operators": "role:admin or role:cloud", "member": "role:user"}`,
	} {
		rules, err := ParseRules([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, c := range []struct {
			role   structs.Role
			action Action
			want   bool
		}{
			{"member", BayCreate, false}, {"cloud", BayCreate, true}, {"admin", BayCreate, true}, {"user", BayCreate, false},
			{"member", ContainerCreate, false}, {"user", ContainerCreate, true}, {"user", ContainerGet, true},
			{"reader", ContainerGet, true},
			{"admin", ContainerCreate, false}, // member no longer includes admin: the file says so
			{"admin", Action("operators"), false}, {"admin", PeerCall, false}, {"admin", Public, false},
		} {
			caller := structs.Caller{Roles: []structs.Role{c.role}, Rules: rules}
			if May(caller, c.action) != c.want {
				t.Errorf("%s: %s may %s: %v", name, c.role, c.action, !c.want)
			}
		}
	}
	rules, err := ParseRules([]byte("# nothing\n"))
	if err != nil || !maps.Equal(rules.All(), DefaultRules().All()) {
		t.Errorf("a file of comments: %v", err)
	}
}

func TestPolicyFileRefusals(t *testing.T) {
	deep := strings.Repeat("(", 40) + "@" + strings.Repeat(")", 40)
	var doubling strings.Builder
	doubling.WriteString("bay:create: rule:n0\n")
	for i := range 40 {
		fmt.Fprintf(&doubling, "n%d: rule:n%d and rule:n%d\n", i, i+1, i+1)
	}
	doubling.WriteString("n40: '@'\n")
	for name, c := range map[string]struct{ text, says string }{
		"unknown action":      {"\n\"bay:craete\": \"role:admin\"", "line 2: there is no action \"bay:craete\": known are bay:actions"},
		"unknown noun":        {"bya:create: role:admin", "actions are of "},
		"an agent's action":   {"agent:call: '@'", "no action"},
		"a public action":     {"public: '!'", "no rule refers to it"},
		"unknown rule":        {"bay:create: rule:operator", "there is no rule \"operator\": known are admin, member, reader"},
		"unused rule":         {"operators: role:admin", "line 1: \"operators\" is no action, and no rule refers to it"},
		"itself":              {"admin: rule:admin", "refers to itself"},
		"a circle":            {"bay:create: rule:a\na: rule:b\nb: not rule:a", "refers to itself"},
		"a circle by default": {"admin: rule:reader", "refers to itself"},
		"many":                {doubling.String(), "refers to more than 4096 rules"},
		"twice":               {"bay:create: '@'\nbay:get: '@'\nbay:create: '!'", "line 3: \"bay:create\" is there twice, first in line 1"},
		"role without name":   {"bay:create: 'role:'", "line 1: \"bay:create\": \"role:\" is not a check"},
		"unknown check":       {"bay:create: group:x", "is not a check"},
		"project_id":          {"bay:create: project_id:%(project_id)s", "not supported"},
		"attribute":           {"bay:create: project_id:x", "hidden before"},
		"no and":              {"bay:create: role:a role:b", "is missing before it"},
		"ends early":          {"bay:create: role:a or", "the rule ends"},
		"not alone":           {"bay:create: not", "the rule ends"},
		"open":                {"bay:create: (role:a", "parenthesis"},
		"close":               {"bay:create: role:a)", "is too much"},
		"deep":                {"bay:create: '" + deep + "'", "nested more than 32 deep"},
		"long":                {"bay:create: '" + strings.Repeat("@ or ", 300) + "@'", "longer than 1024"},
		"no value":            {"bay:create:", "is not a string"},
		"a list":              {"bay:create: [[\"role:admin\"]]", "is not a string"},
		"a number":            {"bay:create: 1", "is not a string"},
		"a boolean":           {"bay:create: true", "is not a string"},
		"alias":               {"bay:create: &a '@'\nbay:get: *a", "line 2: the rule of \"bay:get\" is not a string"},
		"a list of rules":     {"- bay:create", "is not a mapping"},
		"a word":              {"bay", "is not a mapping"},
		"not YAML":            {"bay:create: @", "found character"},
		"two documents":       {"bay:create: '@'\n---\nbay:get: '@'", "more than one document"},
		"large":               {"#" + strings.Repeat("x", maxPolicyFile), "larger than"},
		"name with a space":   {"'a b': '@'", "can't be the name"},
	} {
		if _, err := ParseRules([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
}

func TestPolicyReloadKeepsOldRulesAfterError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenPolicy(path); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "-policy-file") {
		t.Errorf("a missing file: %v", err)
	}
	write("bay:create: role:admin\n")
	p, err := OpenPolicy(path)
	if err != nil || p.Changed() != 1 || p.Rules().Allows(as("member"), "bay:create") {
		t.Fatalf("%v, %d changed", err, p.Changed())
	}
	write("bay:craete: '@'\n")
	if err := p.Reload(); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a bad file: %v", err)
	}
	if p.Changed() != 1 || p.Rules().Allows(as("member"), "bay:create") {
		t.Error("a bad file has changed the rules")
	}
	write("bay:create: role:member\n")
	if err := p.Reload(); err != nil || !p.Rules().Allows(as("member"), "bay:create") {
		t.Errorf("a good file: %v", err)
	}
}

// TestRefusalNamesTheRule: who is refused learns which role is missing.
func TestRefusalNamesTheRule(t *testing.T) {
	for action, want := range map[Action]string{
		ContainerCreate: `its rule is "role:member or rule:admin"`, HostList: `its rule is "role:admin"`, "no:such": `its rule is "!"`,
	} {
		if err := Check(structs.Caller{}, action); structs.CodeOf(err) != structs.CodeForbidden || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", action, err)
		}
	}
}

// FuzzPolicyFile: no file makes the parser panic, and an accepted one has a rule for every
// action, which ends.
func FuzzPolicyFile(f *testing.F) {
	for _, seed := range []string{
		"bay:create: rule:x\nx: not (role:a or role:b and @)\n", `{"bay:create": "role:admin"}`, "admin: role:root", "a: &b c\nd: *b",
		"bay:create: is_admin:True", "member: '!'", "<<: {a: b}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := ParseRules(text)
		if err != nil {
			return
		}
		for action := range defaults {
			rules.Allows(as("admin"), string(action))
			if rules.actions[action] == nil {
				t.Errorf("%s has no rule", action)
			}
		}
		if rules.Allows(as("admin"), string(PeerCall)) {
			t.Error("a file allows calls of servers")
		}
	})
}

// FuzzLocalToken: a text is a local token only if it is what FormatToken makes.
func FuzzLocalToken(f *testing.F) {
	f.Add(structs.FormatToken("a81bc81b-dead-4e5d-abff-90865d1e13b1", "s"))
	f.Add("mgt__")
	f.Add("gAAAAABl")
	f.Fuzz(func(t *testing.T, text string) {
		id, secret, ok := structs.ParseToken(text)
		if ok && (structs.FormatToken(id, secret) != text || !structs.IsLocalToken(text)) {
			t.Errorf("%q has ID %q and secret %q", text, id, secret)
		}
	})
}

// manual is the page that lists the default rules.
const manual = "../../website/docs/keystone.md"

// TestManualHasTheDefaultRules: the list in the manual is that of the code. UPDATE=1 writes
// it.
func TestManualHasTheDefaultRules(t *testing.T) {
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(named)) {
		fmt.Fprintf(&list, "%q: %q\n", name, named[name])
	}
	actions := slices.Sorted(maps.Keys(defaults))
	for _, action := range actions {
		fmt.Fprintf(&list, "%q: %q\n", action, defaults[action])
	}
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- the default rules: UPDATE=1 go test ./server/identity -->\n\n```yaml\n", "```\n"
	before, rest, found := strings.Cut(string(page), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no list of the default rules", manual)
	}
	if got == list.String() {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s lists other default rules than the code: run with UPDATE=1", manual)
	}
	if err := os.WriteFile(manual, []byte(before+begin+list.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
