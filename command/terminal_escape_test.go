package command

import (
	"strings"
	"testing"
)

// Control characters in names, labels and reasons are escaped for a terminal, in each
// format. A pipe gets them unchanged.
func TestTerminalOutputEscapesControlCharacters(t *testing.T) {
	const steering = "\x1b\u009b\u202e\u2028\x7f"
	f := newFakeAPI(t)
	object := `{"uuid":"u1","name":"a\u001b]0;x\u0007b\u009b2J` + "\u202e\u2028\x7f" + `c","status":"Running","labels":{"k` + "\u202e" +
		`":"v` + "\u009b" + `"}}`
	f.answer("GET /v1/containers/c1", 200, object)
	for _, path := range []string{"GET /v1/containers", "GET /v1/containers/detail"} {
		f.answer(path, 200, `{"containers":[`+object+`]}`)
	}
	const escapedText, escapedJSON = `b\u009b2J\u202e\u2028\x7fc`, `b\u009b2J\u202e\u2028\u007fc`
	for _, tt := range []struct {
		want string
		args []string
	}{
		{escapedText, []string{"container-show", "c1"}},
		{escapedJSON, []string{"container-show", "c1", "-json"}},
		{escapedJSON, []string{"container-show", "c1", "-format", "json"}},
		{"Running\ta" + `\x1b]0;x\x07` + escapedText, []string{"container-show", "c1", "-format", "{{.status}}\t{{.name}}"}},
		{`v\u009b`, []string{"container-show", "c1", "-format", "{{.labels}}"}},
		{escapedText, []string{"container-list"}},
		{escapedJSON, []string{"container-list", "-json"}},
		{escapedText, []string{"container-list", "-format", "{{.name}}"}},
	} {
		_, s, ends := ptyRun(t, f, tt.args...)
		ends(0)
		s.shows(t, tt.want)
		s.mu.Lock()
		got := s.text.String()
		s.mu.Unlock()
		if strings.ContainsAny(got, steering) {
			t.Errorf("%s: the terminal got %q", tt.args, got)
		}
	}
	if r := newShell(t, f).run("container-show", "c1", "-format", "{{.name}}"); r.stdout != "a\x1b]0;x\ab\u009b2J\u202e\u2028\x7fc\n" {
		t.Errorf("a pipe got %q", r.stdout)
	}
	if got := plainJSON("{\"a\":\"\u009b\u202e\U000e0001\x7f\"}\n"); got != `{"a":"\u009b\u202e\udb40\udc01\u007f"}`+"\n" {
		t.Errorf("JSON is %q", got)
	}
}
