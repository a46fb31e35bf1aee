package raftlog

import (
	"context"
	"os"
	"testing"
)

// The first argument with which this test binary is another program.
const childCheck = "check-log" // ServeCheck

// programs are what this test binary is, if its first argument says so.
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

// byChild has a log be checked by a child, as a server does.
func byChild(c Config) Config {
	c.CheckLog = ChildCheck(context.Background(), "/proc/self/exe", childCheck)
	return c
}
