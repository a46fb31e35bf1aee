// Package userland is what a container on a backendtest.Fake has of a system: a shell and
// files. It knows neither containers nor engines. Package backendtest is the only caller.
package userland

import (
	"strconv"
	"strings"
)

// Outcome is the outcome of a command.
type Outcome struct {
	Stdout, Stderr []byte
	ExitCode       int
	Lasts          bool // until it is killed
	Cat            bool // copies its input to its output
}

// Run runs the shell: ["sh", "-c", SCRIPT] with echo, echo >&2, exit, sleep and cat, joined by
// semicolons, and ["sleep", N]. more runs further commands, and returns false of others; it
// may be nil. An unknown command, and none, runs until it is killed.
func Run(command, env []string, more func(words []string, o *Outcome) bool) (o Outcome) {
	script := strings.Join(command, " ")
	if len(command) == 3 && command[0] == "sh" {
		script = command[2]
	}
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			script = strings.ReplaceAll(script, "$"+k, v)
		}
	}
	for _, line := range strings.Split(script, ";") {
		words := strings.Fields(line)
		if more != nil && more(words, &o) {
			continue
		}
		switch {
		case len(words) == 0 && len(command) > 0:
		case len(words) > 0 && words[0] == "cat":
			o.Cat = true
		case len(words) == 2 && words[0] == "exit":
			o.ExitCode, _ = strconv.Atoi(words[1])
			return o
		case len(words) > 1 && words[0] == "echo" && words[len(words)-1] == ">&2":
			o.Stderr = append(o.Stderr, strings.Join(words[1:len(words)-1], " ")+"\n"...)
		case len(words) > 0 && words[0] == "echo":
			o.Stdout = append(o.Stdout, strings.Join(words[1:], " ")+"\n"...)
		default:
			o.Lasts = true
			return o
		}
	}
	return o
}
