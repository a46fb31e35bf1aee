// Package command is magnum's command line: one noun a file, each command
// turning flags into one request of package api and the answer into text.
//
// main calls Run and nothing else. Commands print results on standard output
// and everything else on standard error; they keep no state between runs and
// decide nothing that a server can decide.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/cli"
	"golang.org/x/term"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server"
	"github.com/stackforge/magnum/structs"
)

// Exit codes. container-run and container-execute exit with their command's.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell says for SIGINT
)

// env is the world around a command, so that tests can make their own.
type env struct {
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
	lookupEnv func(string) (string, bool)
}

// Run runs the command line without the program's name and returns the exit
// code.
func Run(args []string) int {
	if len(args) > 0 && args[0] == checkLogArg {
		return server.ServeLogCheck(args[1:], os.Stdout)
	}
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookupEnv: os.LookupEnv}
	return e.run(context.Background(), args)
}

// command describes one command.
type command struct {
	name     string
	group    string // heading in the main help
	synopsis string // one line, no full stop
	args     string // as usage shows them: "BAY [BAY...]"
	about    string // paragraphs for the command's own help
	examples []string
	literal  int                          // flags end at this argument, counted from 1: from there on it is another program's command line; 0 never
	prepare  func(args []string) []string // changes the command line before flags are read; may be nil
	complete completion                   // of arguments
	// setup adds the command's flags and returns what runs once they are
	// parsed. It must be cheap: help and completion call it, too.
	setup func(e *env, f *flagSet) runFunc
}

// runFunc runs a command with the arguments that were no flags.
type runFunc func(ctx context.Context, args []string) error

// commands is the table of all commands, in the order of the main help.
func commands() []*command {
	var all []*command
	for _, group := range [][]*command{
		bayCommands(),
		baymodelCommands(),
		containerCommands(),
		imageCommands(),
		hostCommands(),
		nodeCommands(),
		operatorCommands(),
		tokenCommands(),
		daemonCommands(),
		clientCommands(),
	} {
		all = append(all, group...)
	}
	return all
}

// clientCommands are about magnum itself.
func clientCommands() []*command {
	return []*command{statusCommand(), eventsCommand(), versionCommand(), completionCommand(), helpCommand()}
}

// findCommand returns the command of a name, nil if there is none.
func findCommand(name string) *command {
	for _, c := range commands() {
		if c.name == name {
			return c
		}
	}
	return nil
}

// run runs one command line.
func (e *env) run(ctx context.Context, args []string) int {
	args, err := hoistGlobals(args)
	if err != nil {
		return e.fail(err)
	}
	if e.getenv("COMP_LINE") != "" {
		args = nil // a shell completes: what it passes is no command line
	}
	words := commandWords(args)
	if len(args) > 0 && strings.Contains(args[0], " ") {
		return e.fail(unknownCommand(args))
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && findCommand(strings.Join(args[:words], " ")) == nil {
		if words, n := groupPrefix(args); n > 0 && n == len(args) {
			fmt.Fprintf(e.stderr, "ERROR: %q is not all of a command's name\n%s\n", words, groupHelp(words))
			return exitUsage
		} else if n > 0 && asksForHelp(args[n]) {
			fmt.Fprintln(e.stdout, groupHelp(words))
			return exitOK
		}
		return e.fail(unknownCommand(args))
	}
	if len(args) == 0 {
		args = []string{"-help"}
	}
	c := cli.NewCLI("magnum", versionText())
	c.HelpFunc = func(map[string]cli.CommandFactory) string { return mainHelp() }
	c.HelpWriter, c.ErrorWriter = e.stdout, e.stderr
	c.Commands = map[string]cli.CommandFactory{}
	for _, cmd := range commands() {
		c.Commands[cmd.name] = func() (cli.Command, error) { return &runner{e, ctx, cmd}, nil }
	}
	c.Args = args
	if !strings.HasPrefix(args[0], "-") {
		// cli looks for -h behind the command, too, even in the command line
		// of a program to run in a container. Behind "--" it doesn't.
		c.Args = slices.Concat(args[:words], []string{"--"}, args[words:])
	} else if !standaloneFlag(args[0]) {
		return e.fail(usagef("flag %s stands before the command: write it behind", args[0]))
	}
	code, err := c.Run()
	if err != nil {
		return e.fail(err)
	}
	return code
}

// asksForHelp reports whether an argument is the flag for help.
func asksForHelp(arg string) bool {
	name := strings.TrimLeft(arg, "-")
	return name != arg && (name == "h" || name == "help")
}

// standaloneFlag reports whether a flag makes sense without a command.
func standaloneFlag(arg string) bool {
	switch strings.TrimLeft(arg, "-") {
	case "h", "help", "v", "version", "autocomplete-install", "autocomplete-uninstall":
		return true
	}
	return false
}

// hoistGlobals puts -addr, -tls-ca and -debug that stand before the command behind it,
// as the 2015 client's global options stood.
func hoistGlobals(args []string) ([]string, error) {
	var globals []string
	for len(args) > 0 {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		if !strings.HasPrefix(args[0], "-") || name != "addr" && name != "tls-ca" && name != "debug" {
			break
		}
		n := 1
		if name != "debug" && !hasValue {
			if len(args) < 2 {
				return nil, usagef("flag -%s needs a value", name)
			}
			n = 2
		}
		globals, args = append(globals, args[:n]...), args[n:]
	}
	if len(globals) == 0 {
		return args, nil
	}
	if len(args) == 0 {
		return nil, usagef("no command behind %s: see \"magnum help\"", globals[0])
	}
	n := commandWords(args)
	return slices.Concat(args[:n], globals, args[n:]), nil
}

// runner is a command as the cli package wants it.
type runner struct {
	e   *env
	ctx context.Context
	cmd *command
}

// Help returns the command's own help.
func (r *runner) Help() string { return commandHelp(r.e, r.cmd) }

// Synopsis returns one line for lists of commands.
func (r *runner) Synopsis() string { return r.cmd.synopsis }

// Run parses the flags and runs the command.
func (r *runner) Run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:] // run put it there
	}
	if r.cmd.prepare != nil {
		args = r.cmd.prepare(args)
	}
	f := newFlagSet(r.cmd.name)
	f.literal = r.cmd.literal
	run := r.cmd.setup(r.e, f)
	rest, err := f.parse(args)
	if errors.Is(err, errHelp) {
		fmt.Fprintln(r.e.stdout, r.Help())
		return exitOK
	}
	if err != nil {
		return r.e.failCommand(r.cmd, err)
	}
	ctx, stop := signal.NotifyContext(r.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return r.e.failCommand(r.cmd, run(ctx, rest))
}

// usageError is a command line that makes no sense.
type usageError struct{ msg string }

func (u *usageError) Error() string { return u.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitError ends the program with a code, quietly: all is said.
type exitError struct{ code int }

func (x *exitError) Error() string { return fmt.Sprintf("exit code %d", x.code) }

// failCommand reports a command's error and returns the exit code.
func (e *env) failCommand(c *command, err error) int {
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(e.stderr, "ERROR: %s\nUsage: %s\nSee \"magnum help %s\".\n", usage.msg, usageLine(c), c.name)
		return exitUsage
	}
	return e.fail(err)
}

// fail reports an error and returns the exit code.
func (e *env) fail(err error) int {
	var usage *usageError
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(e.stderr, "ERROR: %s\n", usage.msg)
		return exitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(e.stderr, "ERROR: interrupted\n")
		return exitInterrupted
	}
	text := describe(err)
	if next := nextStep(err); next != "" {
		text += " " + next
	}
	fmt.Fprintf(e.stderr, "ERROR: %s\n", text)
	return exitFailure
}

// describe is an error as users read it: the message, and the HTTP status in
// the 2015 client's words.
func describe(err error) string {
	var gone *api.Unreachable
	if errors.As(err, &gone) {
		what := "no server reachable at"
		if gone.Sent {
			what = "no answer from the server at"
		}
		return printable(fmt.Sprintf("%s %s: %s.", what, gone.Address, gone.Reason()))
	}
	text := printable(err.Error())
	if status := api.StatusOf(err); status != 0 {
		text = fmt.Sprintf("%s (HTTP %d)", text, status)
	}
	return text
}

// nextStep is what to do about an error, "" if its message says all.
func nextStep(err error) string {
	var ours *structs.Error
	var gone *api.Unreachable
	switch {
	case !errors.As(err, &ours), errors.As(err, &gone) && gone.TLS():
		return ""
	case api.IsUnreachable(err):
		return "Start one with \"magnum agent -dev\", or name another with -addr or MAGNUM_ADDR."
	case ours.Code == structs.CodeUnauthenticated:
		return "Put a valid token into OS_TOKEN."
	case ours.Hint == structs.HintChoose && ours.Kind == structs.KindBay:
		return "Name one with -bay."
	case ours.Kind == "" || findCommand(ours.Kind+"-list") == nil:
		return ""
	case ours.Code == structs.CodeNotFound, ours.Hint == structs.HintUnknown:
		return fmt.Sprintf("\"magnum %s-list\" shows which there are.", ours.Kind)
	case ours.Hint == structs.HintAmbiguous:
		return fmt.Sprintf("\"magnum %s-list\" shows the uuids.", ours.Kind)
	}
	return ""
}

// getenv returns a variable of the environment, "" if it isn't set.
func (e *env) getenv(name string) string {
	if value, ok := e.lookupEnv(name); ok {
		return value
	}
	return ""
}

// terminalOf returns the file descriptor of a terminal; ok is false if the
// stream is none.
func terminalOf(stream any) (fd int, ok bool) {
	f, isFile := stream.(interface{ Fd() uintptr })
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}
