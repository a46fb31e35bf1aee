package wire

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// LogsArgs are the query arguments of logs.
var LogsArgs = []Arg{
	{Name: "stdout", Kind: ArgBool, Doc: "Standard output, default true."},
	{Name: "stderr", Kind: ArgBool, Doc: "Standard error, default true."},
	{Name: "timestamps", Kind: ArgBool, Doc: "Begin each line with its time."},
	{Name: "tail", Kind: ArgText, Doc: "Lines from the end; default all."},
	{Name: "since", Kind: ArgText, Doc: "RFC 3339, seconds since 1970, or a duration before now such as 10m."},
	{Name: "follow", Kind: ArgBool, Doc: "Stream what comes, until the container ends."},
}

// LogsRequest reads the query arguments of logs. Errors are CodeInvalid.
func LogsRequest(q Query) (*structs.LogsRequest, error) {
	r := &structs.LogsRequest{
		Stdout: q.Bool("stdout", true), Stderr: q.Bool("stderr", true),
		Timestamps: q.Bool("timestamps", false), Follow: q.Bool("follow", false), Tail: -1,
	}
	if !r.Stdout && !r.Stderr {
		return nil, structs.Errorf(structs.CodeInvalid, "stdout and stderr are both false: there is nothing left to show")
	}
	if tail := q.Text("tail"); tail != "" && tail != "all" {
		n, ok := readCount(tail)
		if !ok {
			return nil, structs.Invalid("tail", tail, "It is a number of lines, or all.")
		}
		r.Tail = n
	}
	since := q.Text("since")
	if since == "" {
		return r, nil
	}
	if seconds, ok := readCount(since); ok {
		r.Since = time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
		return r, nil
	}
	if d, err := time.ParseDuration(since); err == nil && d >= 0 {
		r.Since = since
		return r, nil
	}
	if _, err := time.Parse(time.RFC3339Nano, since); err != nil {
		return nil, structs.Invalid("since", since,
			"It is a time such as 2015-04-20T19:06:08Z, seconds since 1970, or a duration before now such as 10m.")
	}
	r.Since = since
	return r, nil
}

// readCount parses a number of at most ten decimal digits.
func readCount(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || i == 10 {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, s != ""
}

// ExecArgs are the query arguments of execute.
var ExecArgs = []Arg{
	CommandArg,
	{Name: "user", Kind: ArgText, Doc: "User, or user:group, in the container."},
	{Name: "workdir", Kind: ArgText, Doc: "Directory to execute it in."},
	{Name: "env", Kind: ArgText, Many: true, Doc: "KEY=VALUE."},
}

// CommandArg is the query argument of a command.
var CommandArg = Arg{
	Name: "command", Kind: ArgText, Wants: true, Array: true,
	Doc: "Command to execute: a string, split as a shell does without expansions, or a JSON array.",
}

// ExecRequest reads the query arguments of execute. Errors are CodeInvalid.
func ExecRequest(q Query) (*structs.ExecRequest, error) {
	r := &structs.ExecRequest{User: q.Text("user"), Workdir: q.Text("workdir"), Env: q.Values["env"]}
	if err := structs.CheckLine("user", r.User, structs.MaxText); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"workdir", r.Workdir, structs.MaxText}, {"command", q.Text("command"), structs.MaxCommand},
		{"env", strings.Join(r.Env, "\n"), structs.MaxEnvironment},
	} {
		if err := structs.CheckText(f.name, f.value, f.most); err != nil {
			return nil, err
		}
	}
	text := q.Text("command")
	if !strings.HasPrefix(text, "[") || json.Unmarshal([]byte(text), &r.Command) != nil {
		words, err := structs.SplitCommand(text)
		if err != nil {
			return nil, structs.Invalid("command", text, "%v.", err)
		}
		r.Command = words
	}
	if len(r.Command) == 0 || r.Command[0] == "" {
		return nil, structs.Invalid("command", text, "It names no program.")
	}
	for _, word := range r.Command {
		if strings.ContainsRune(word, 0) {
			return nil, structs.Invalid("command", text, "It has a NUL byte in it.")
		}
	}
	if r.Workdir != "" && !strings.HasPrefix(r.Workdir, "/") {
		return nil, structs.Invalid("workdir", r.Workdir, "It is not an absolute path.")
	}
	for _, e := range r.Env {
		if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
			return nil, structs.Invalid("env", e, "It is written as KEY=VALUE.")
		}
	}
	return r, nil
}

// TerminalArgs are the query arguments of an interactive execute.
var TerminalArgs = []Arg{
	{Name: "tty", Kind: ArgBool, Doc: "Give the command a terminal."},
	{Name: "stdin", Kind: ArgBool, Doc: "Give the command what comes on channel 0."},
	{Name: "w", Kind: ArgInt, Doc: "Columns of the terminal."},
	{Name: "h", Kind: ArgInt, Doc: "Lines of the terminal."},
}

// maxSide is the largest accepted number of columns or lines of a terminal.
const maxSide = 10000

// TerminalSize reads the columns and lines of the user's terminal; 0 means unknown.
// Errors are CodeInvalid.
func TerminalSize(q Query) (width, height uint, err error) {
	w, h := q.Int("w", 0), q.Int("h", 0)
	return uint(w), uint(h), CheckSize(uint(w), uint(h))
}

// CheckSize returns CodeInvalid for a terminal with more than maxSide columns or
// lines.
func CheckSize(width, height uint) error {
	if width > maxSide || height > maxSide {
		return structs.Errorf(structs.CodeInvalid, "w and h: a terminal has at most %d columns and lines", maxSide)
	}
	return nil
}

// StopTimeout reads the seconds between SIGTERM and SIGKILL; nil if the argument isn't
// given. Errors are CodeInvalid.
func StopTimeout(q Query) (*int, error) {
	if !q.Has("timeout") {
		return nil, nil
	}
	seconds := int(min(q.Int("timeout", 0), structs.MaxStopTimeout+1))
	if seconds > structs.MaxStopTimeout {
		return nil, structs.Invalid("timeout", q.Text("timeout"), "Value should be lesser or equal to %d seconds", structs.MaxStopTimeout)
	}
	return &seconds, nil
}

// ArchiveArgs are the query arguments of archives.
var ArchiveArgs = []Arg{
	{Name: "path", Kind: ArgText, Wants: true, Doc: "Absolute path in the container; of a PUT the directory to unpack in."},
}
