package raftlog

import (
	"context"
	"os"
	"testing"
)

// First arguments that make this test binary another program.
const childCheck = "check-log" // ServeCheck

// programs maps the first argument to the program that this test binary then is.
var programs = map[string]func(args []string) int{
	childCheck: func(args []string) int { return ServeCheck(args, os.Stdout) },
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run := programs[os.Args[1]]; run != nil {
			os.Exit(run(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// byChild makes a child check the log, as a server does.
func byChild(c Config) Config {
	c.CheckLog = ChildCheck(context.Background(), "/proc/self/exe", childCheck)
	return c
}
