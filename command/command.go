// Package command is magnum's command line. Each noun has a file. A command turns
// its flags into a request of package api, and the response into text.
//
// Only main calls it, through Run. Commands print results on standard output and
// everything else on standard error. They keep no state between runs and decide
// nothing that a server can decide.
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

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server"
	"github.com/stackforge/magnum/structs"
)

// Exit codes. container-run, -attach and -execute exit with that of the process.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells report SIGINT
)

// env is the environment of a command; tests replace it.
type env struct {
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
	lookupEnv func(string) (string, bool)
}

// Run runs a command line, without the program's name, and returns the exit code.
func Run(args []string) int {
	if len(args) > 0 && args[0] == checkLogArg {
		return server.ServeLogCheck(args[1:], os.Stdout)
	}
	if len(args) > 0 && args[0] == datapath.Subcommand {
		return runDatapath(args[1:])
	}
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookupEnv: os.LookupEnv}
	return e.run(context.Background(), args)
}

// command describes one command.
type command struct {
	name     string
	group    string // heading in the help of magnum
	synopsis string // one line, no full stop
	args     string // for the usage line: "BAY [BAY...]"
	about    string // paragraphs of the command's help
	examples []string
	// literal is the argument, counted from 1, at which flags end: the rest is the
	// command line of another program. 0 means that flags never end.
	literal  int
	prepare  func(args []string) []string // changes the command line before flags are parsed; may be nil
	complete completion                   // of arguments
	// setup adds the command's flags and returns the function that runs after they
	// are parsed. It must be cheap: help and completion also call it.
	setup func(e *env, f *flagSet) runFunc
}

// runFunc runs a command with its arguments, without the flags.
type runFunc func(ctx context.Context, args []string) error

// commands returns all commands in the order of the help.
func commands() []*command {
	var all []*command
	for _, group := range [][]*command{
		bayCommands(),
		baymodelCommands(),
		containerCommands(),
		podCommands(),
		rcCommands(),
		serviceCommands(),
		manifestCommands(),
		imageCommands(),
		hostCommands(),
		nodeCommands(),
		operatorCommands(),
		tokenCommands(),
		quotaCommands(),
		daemonCommands(),
		clientCommands(),
	} {
		all = append(all, group...)
	}
	return all
}

// manifestCommands returns the commands of groupManifests.
func manifestCommands() []*command { return []*command{applyCommand(), deleteCommand()} }

// clientCommands returns the commands of groupClient.
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
		args = nil // completion: the shell's arguments are not a command line
	}
	words := commandWords(args)
	if len(args) > 0 && strings.Contains(args[0], " ") {
		return e.fail(unknownCommand(args))
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && findCommand(strings.Join(args[:words], " ")) == nil {
		if words, n := groupPrefix(args); n > 0 && n == len(args) {
			fmt.Fprintf(e.stderr, "ERROR: %q is only the beginning of a command's name\n%s\n", words, groupHelp(words))
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
		// Package cli looks for -h after the command, even in the command line of a
		// program to run in a container. "--" stops it.
		c.Args = slices.Concat(args[:words], []string{"--"}, args[words:])
	} else if !standaloneFlag(args[0]) {
		return e.fail(usagef("flag %s stands before the command: write it after the command", args[0]))
	}
	code, err := c.Run()
	if err != nil {
		return e.fail(err)
	}
	return code
}

// asksForHelp reports whether an argument is -h or -help.
func asksForHelp(arg string) bool {
	name := strings.TrimLeft(arg, "-")
	return name != arg && (name == "h" || name == "help")
}

// standaloneFlag reports whether a flag can be given without a command.
func standaloneFlag(arg string) bool {
	switch strings.TrimLeft(arg, "-") {
	case "h", "help", "v", "version", "autocomplete-install", "autocomplete-uninstall":
		return true
	}
	return false
}

// hoistGlobals moves -addr, -os-cloud, -tls-ca and -debug from before the command to after it. The
// 2015 client's global options stood before the command.
func hoistGlobals(args []string) ([]string, error) {
	var globals []string
	for len(args) > 0 {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		if !strings.HasPrefix(args[0], "-") || !slices.Contains([]string{"addr", "os-cloud", "tls-ca", "debug"}, name) {
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
		return nil, usagef("no command after %s: see \"magnum help\"", globals[0])
	}
	n := commandWords(args)
	return slices.Concat(args[:n], globals, args[n:]), nil
}

// runner implements cli.Command.
type runner struct {
	e   *env
	ctx context.Context
	cmd *command
}

// Help returns the command's own help.
func (r *runner) Help() string { return commandHelp(r.e, r.cmd) }

// Synopsis returns the line of the command in lists of commands.
func (r *runner) Synopsis() string { return r.cmd.synopsis }

// Run parses the flags, runs the command and returns the exit code.
func (r *runner) Run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:] // added by run
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

// usageError is an error in the command line.
type usageError struct{ msg string }

func (u *usageError) Error() string { return u.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitError ends the program with a code, without another message.
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

// describe returns the text of an error for users: its message, and the HTTP status
// in the form of the 2015 client.
func describe(err error) string {
	var unreachable *api.Unreachable
	if errors.As(err, &unreachable) {
		what := "no server reachable at"
		if unreachable.Sent {
			what = "no answer from the server at"
		}
		return printable(fmt.Sprintf("%s %s: %s.", what, unreachable.Address, unreachable.Reason()))
	}
	text := printable(err.Error())
	if status := api.StatusOf(err); status != 0 {
		text = fmt.Sprintf("%s (HTTP %d)", text, status)
	}
	return text
}

// nextStep returns advice about an error, "" if there is none.
func nextStep(err error) string {
	var e *structs.Error
	var unreachable *api.Unreachable
	switch {
	case !errors.As(err, &e), errors.As(err, &unreachable) && unreachable.TLS():
		return ""
	case api.IsUnreachable(err):
		return "Start one with \"magnum agent -dev\", or give another address with -addr or MAGNUM_ADDR."
	case e.Code == structs.CodeUnauthenticated && api.StatusOf(err) != 0: // a server says so, not Keystone
		return "Set OS_TOKEN to a valid token, or sign in at Keystone with -os-cloud or the OS_* variables of an openrc file."
	case e.Hint == structs.HintChoose && e.Kind == structs.KindBay:
		return "Choose one with -bay."
	case e.Kind == "" || findCommand(e.Kind+"-list") == nil:
		return ""
	case e.Code == structs.CodeNotFound, e.Hint == structs.HintUnknown:
		return fmt.Sprintf("\"magnum %s-list\" lists them.", e.Kind)
	case e.Hint == structs.HintAmbiguous:
		return fmt.Sprintf("\"magnum %s-list\" shows the uuids.", e.Kind)
	}
	return ""
}

// getenv returns an environment variable, "" if it isn't set.
func (e *env) getenv(name string) string {
	if value, ok := e.lookupEnv(name); ok {
		return value
	}
	return ""
}

// terminalOf returns the file descriptor of a stream; ok is false if the stream is
// not a terminal.
func terminalOf(stream any) (fd int, ok bool) {
	f, isFile := stream.(interface{ Fd() uintptr })
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}
