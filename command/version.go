package command

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the version of this binary. The linker sets it:
// -X github.com/stackforge/magnum/command.Version=1.2.3. "" means that it wasn't set.
var Version string

// version returns Version, else the commit that the Go tool recorded, else "dev".
func version() string {
	if Version != "" {
		return Version
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	revision, dirty := "", ""
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = "-" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return "dev" + revision + dirty
}

// versionText returns the line that -version prints.
func versionText() string {
	return fmt.Sprintf("magnum %s (%s %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func versionCommand() *command {
	return &command{
		name: "version", group: groupClient,
		synopsis: "Print this program's version",
		setup: func(e *env, _ *flagSet) runFunc {
			return func(_ context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				_, err := fmt.Fprintln(e.stdout, versionText())
				return err
			}
		},
	}
}
