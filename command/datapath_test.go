package command

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/agent/datapath"
)

// The process of the data path is no command for users.
func TestTheDataPathIsHidden(t *testing.T) {
	for _, flags := range [][]string{{}, {"-dir"}, {"-dir", ""}, {"-h", "x"}} {
		args := append([]string{datapath.Subcommand}, flags...)
		if code := Run(args); code != exitUsage {
			t.Errorf("%q exits with %d", args, code)
		}
	}
	if findCommand(datapath.Subcommand) != nil || strings.Contains(mainHelp(), datapath.Subcommand) {
		t.Error("users see the process of the data path")
	}
}
