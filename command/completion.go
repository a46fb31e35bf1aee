package command

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// shells are the supported shells.
var shells = []string{"bash", "zsh", "fish"}

func completionCommand() *command {
	return &command{
		name: "completion", group: groupClient, args: "bash|zsh|fish", complete: completeShells,
		synopsis: "Print the completion script of a shell",
		about: "Evaluate the script in the shell. The tab key then completes commands, flags, and the names of bays,\n" +
			"baymodels, containers and hosts. Completing a name asks the server.\n\n" +
			"\"magnum -autocomplete-install\" adds the script to your shell's start-up file instead,\n" +
			"\"magnum -autocomplete-uninstall\" removes it.",
		examples: []string{`eval "$(magnum completion bash)"`, "magnum completion fish | source"},
		setup: func(e *env, _ *flagSet) runFunc {
			return func(_ context.Context, args []string) error {
				if err := exactly(args, "the shell's name (bash, zsh or fish)"); err != nil {
					return err
				}
				bin, err := os.Executable()
				if err != nil {
					return fmt.Errorf("finding the path of the program: %w", err)
				}
				script, ok := completionScript(args[0], bin)
				if !ok {
					return usagef("%q must be one of the shells %s", args[0], strings.Join(shells, ", "))
				}
				_, err = fmt.Fprint(e.stdout, script)
				return err
			}
		},
	}
}

// completionScript returns the script of a shell; bin is the path of magnum.
func completionScript(shell, bin string) (string, bool) {
	quoted := "'" + strings.ReplaceAll(bin, "'", `'\''`) + "'"
	switch shell {
	case "bash":
		return "complete -C " + quoted + " magnum\n", true
	case "zsh":
		return "autoload -U +X bashcompinit && bashcompinit\ncomplete -o nospace -C " + quoted + " magnum\n", true
	case "fish":
		return "function __complete_magnum\n" +
			"    set -lx COMP_LINE (commandline -cp)\n" +
			"    test -z (commandline -ct); and set COMP_LINE \"$COMP_LINE \"\n" +
			"    '" + strings.ReplaceAll(strings.ReplaceAll(bin, `\`, `\\`), "'", `\'`) + "'\n" +
			"end\n" +
			"complete -f -c magnum -a \"(__complete_magnum)\"\n", true
	}
	return "", false
}
