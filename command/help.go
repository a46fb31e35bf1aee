package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The groups of the main help.
const (
	groupBays       = "Bays: sets of hosts that run containers"
	groupBayModels  = "Baymodels: templates for bays"
	groupContainers = "Containers"
	groupPods       = "Pods: containers that share a host and its network"
	groupRCs        = "Replication controllers: numbers of equal pods"
	groupServices   = "Services: addresses and ports that lead to pods"
	groupManifests  = "Manifests: files that say what there is to be"
	groupImages     = "Images and volumes on hosts"
	groupHosts      = "Hosts: machines that run an agent (operators)"
	groupOperators  = "The cluster and its tokens (operators)"
	groupQuotas     = "Quotas: what projects may use (set by operators)"
	groupDaemons    = "Daemons"
	groupClient     = "This program"
)

// exitCodesText explains the exit codes.
const exitCodesText = `Exit codes:
  0    success
  1    failure; a sentence on standard error says why
  2    error in the command line
  130  interrupted
container-run, container-attach, container-execute, pod-attach and pod-execute exit with the exit code of the process.`

const environmentText = `Environment:
  MAGNUM_ADDR    servers, host[:port] or URLs, separated by commas (flag -addr; default http://127.0.0.1:9511)
  MAGNUM_TLS_CA  file with the CA of https servers (flag -tls-ca)
  OS_TOKEN       token, sent as X-Auth-Token
  OS_CLOUD       cloud of clouds.yaml, at whose Keystone to sign in (flag -os-cloud)
  OS_AUTH_URL    Keystone at which to sign in, with OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and others of an openrc file`

// mainHelp returns the help of magnum: the list of commands.
func mainHelp() string {
	var b strings.Builder
	b.WriteString("Usage: magnum COMMAND [FLAGS] [ARGUMENTS]\n\n" +
		"magnum runs containers for many projects on many hosts.\n")
	width := map[string]int{} // of each group's names
	for _, c := range commands() {
		width[c.group] = max(width[c.group], 19, len(c.name))
	}
	group := ""
	for _, c := range commands() {
		if c.group != group {
			group = c.group
			b.WriteString("\n" + group + "\n")
		}
		fmt.Fprintf(&b, "  %-*s %s\n", width[group], c.name, c.synopsis)
	}
	b.WriteString("\n" + environmentText + "\n\n" + exitCodesText + "\n\n" +
		"Flags can stand before or after arguments; -x and --x are the same; -- ends the flags.\n" +
		"\"magnum help COMMAND\" shows the help of a command.")
	return b.String()
}

// usageLine returns the usage of a command.
func usageLine(c *command) string {
	line := "magnum " + c.name + " [FLAGS]"
	if c.args != "" {
		line += " " + c.args
	}
	return line
}

// commandHelp returns the help of a command.
func commandHelp(e *env, c *command) string {
	f := newFlagSet(c.name)
	c.setup(e, f)
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s.\n", usageLine(c), c.synopsis)
	if c.about != "" {
		b.WriteString("\n" + c.about + "\n")
	}
	for _, part := range []struct {
		title  string
		shared bool
	}{{"Flags", false}, {"Common flags", true}} {
		title := "\n" + part.title + ":\n"
		for _, o := range f.options {
			if o.shared == part.shared {
				b.WriteString(title + o.help())
				title = ""
			}
		}
	}
	if len(c.examples) > 0 {
		b.WriteString("\nExamples:\n")
		for _, x := range c.examples {
			b.WriteString("  " + x + "\n")
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// groupHelp returns the help of a prefix of commands' names, such as "operator raft".
func groupHelp(words string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: magnum %s COMMAND [FLAGS] [ARGUMENTS]\n\n%s.\n\nCommands:\n", words, groupSynopses[words])
	below := commandsWithPrefix(words)
	width := 0
	for _, name := range below {
		width = max(width, len(name))
	}
	for _, name := range below {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, name, findCommand(name).synopsis)
	}
	fmt.Fprintf(&b, "\n\"magnum help %s\" shows the help of a command.", below[0])
	return b.String()
}

// help returns the flag's lines in the help of a command.
func (o *option) help() string {
	names := slices.Clone(o.names)
	slices.SortStableFunc(names, func(a, b string) int { return min(len(a), 2) - min(len(b), 2) })
	head := "  -" + strings.Join(names, ", -")
	if o.placeholder != "" {
		head += " " + o.placeholder
	}
	text := o.usage
	if o.def != "" {
		text += " (default " + o.def + ")"
	}
	const column = 30
	if len(head) < column-1 {
		return head + strings.Repeat(" ", column-len(head)) + text + "\n"
	}
	return head + "\n" + strings.Repeat(" ", column) + text + "\n"
}

func helpCommand() *command {
	return &command{
		name: "help", group: groupClient, args: "[COMMAND|exit-codes]", complete: completeCommands,
		synopsis: "Show this help, or that of a command",
		examples: []string{"magnum help container-run", "magnum help operator raft", "magnum help exit-codes"},
		setup: func(e *env, _ *flagSet) runFunc {
			return func(_ context.Context, args []string) error {
				if len(args) == 0 {
					fmt.Fprintln(e.stdout, mainHelp())
					return nil
				}
				words := commandWords(args)
				if group, n := groupPrefix(args); n == len(args) {
					fmt.Fprintln(e.stdout, groupHelp(group))
					return nil
				} else if n > 0 && findCommand(strings.Join(args[:words], " ")) == nil {
					return unknownCommand(args)
				}
				if err := exactly(args[words-1:], "the command"); err != nil {
					return err
				}
				if args[0] == "exit-codes" {
					fmt.Fprintln(e.stdout, exitCodesText)
					return nil
				}
				c := findCommand(strings.Join(args[:words], " "))
				if c == nil {
					return unknownCommand(args)
				}
				fmt.Fprintln(e.stdout, commandHelp(e, c))
				return nil
			}
		},
	}
}

// dockerWords maps docker's commands to those of magnum.
var dockerWords = map[string]string{
	"ps": "container-list", "run": "container-run", "exec": "container-execute", "logs": "container-logs",
	"rm": "container-delete", "create": "container-create", "start": "container-start", "stop": "container-stop",
	"restart": "container-reboot", "container-restart": "container-reboot", "container-exec": "container-execute",
	"pause": "container-pause", "unpause": "container-unpause", "inspect": "container-show", "info": "status",
	"container-rm": "container-delete", "container-ls": "container-list", "kill": "container-stop",
	"images": "image-list", "pull": "image-pull", "load": "image-load", "image-ls": "image-list",
	"volume-ls": "volume-list", "volume-rm": "volume-delete",
}

// unknownCommand returns the error for an unknown command, with the nearest command.
func unknownCommand(args []string) error {
	name := args[0]
	if group, n := groupPrefix(args); n > 0 {
		below := strings.Join(commandsWithPrefix(group), ", ")
		if len(args) > n && !strings.HasPrefix(args[n], "-") {
			return usagef("there is no command \"%s %s\"; the commands are %s", group, args[n], below)
		}
		return usagef("%q is only the beginning of a command's name; the commands are %s", group, below)
	}
	near := dockerWords[name]
	if near == "" && len(args) > 1 && findCommand(name+"-"+args[1]) != nil {
		near = name + "-" + args[1]
	}
	if near == "" && len(args) > 1 {
		near = dockerWords[name+"-"+args[1]]
	}
	if near == "" {
		near = findSwapped(name)
	}
	if below := commandsOfNoun(name); near == "" && below != nil {
		return usagef("there is no command %q; the commands are %s", name, strings.Join(below, ", "))
	}
	if near == "" {
		var names []string
		for _, c := range commands() {
			names = append(names, c.name)
		}
		near = nearest(strings.ReplaceAll(name, "_", "-"), names)
	}
	if near != "" {
		return usagef("there is no command %q; did you mean %s? \"magnum help\" lists the commands", name, near)
	}
	return usagef("there is no command %q; \"magnum help\" lists the commands", name)
}

// commandsOfNoun returns pod-attach, pod-cp and so on for pod and pods.
func commandsOfNoun(name string) []string {
	var below []string
	for _, c := range commands() {
		if strings.HasPrefix(c.name, strings.TrimSuffix(name, "s")+"-") {
			below = append(below, c.name)
		}
	}
	return below
}

// findSwapped returns bay-create for create-bay, "" if there is no such command.
func findSwapped(name string) string {
	verb, noun, ok := strings.Cut(name, "-")
	if ok && findCommand(noun+"-"+verb) != nil {
		return noun + "-" + verb
	}
	return ""
}
