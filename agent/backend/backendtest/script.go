package backendtest

import (
	"strconv"
	"strings"
)

// outcome is the outcome of a Fake's command.
type outcome struct {
	stdout, stderr []byte
	exitCode       int
	lasts          bool // until it is killed
	cat            bool // copies its input to its output
}

// runScript runs the shell that a Fake knows: ["sh", "-c", SCRIPT] with echo, echo >&2,
// exit, sleep and cat, joined by semicolons, and ["sleep", N]. In a container of a pod it
// knows the commands of podShell, too; in is nil elsewhere. An unknown command, and none,
// runs until it is killed.
func runScript(command, env []string, in *podShell) (o outcome) {
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
		if in.run(words, &o) {
			continue
		}
		switch {
		case len(words) == 0 && len(command) > 0:
		case len(words) > 0 && words[0] == "cat":
			o.cat = true
		case len(words) == 2 && words[0] == "exit":
			o.exitCode, _ = strconv.Atoi(words[1])
			return o
		case len(words) > 1 && words[0] == "echo" && words[len(words)-1] == ">&2":
			o.stderr = append(o.stderr, strings.Join(words[1:len(words)-1], " ")+"\n"...)
		case len(words) > 0 && words[0] == "echo":
			o.stdout = append(o.stdout, strings.Join(words[1:], " ")+"\n"...)
		default:
			o.lasts = true
			return o
		}
	}
	return o
}
